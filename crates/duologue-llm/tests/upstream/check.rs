//! Asking a scripted upstream for its models: every way in which an endpoint can be wrong.

use std::error::Error;

use duologue_llm::{
    CheckError, ModelCheck,
    testing::{Script, ScriptedUpstream},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::endpoint::{ask, provider, request};

/// Checks an upstream that answers requests for its models in this way.
async fn check(script: Script) -> Result<ModelCheck, CheckError> {
    let upstream = ScriptedUpstream::start().await;
    upstream.lists_models(script);
    provider(&upstream.base_url()).check().await
}

fn list(models: &[&str]) -> Value {
    let models = models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "owned_by": "x"}));
    json!({"object": "list", "data": models.collect::<Vec<_>>()})
}

/// The check is worth something only if it shows the key as a turn would.
#[tokio::test]
async fn the_list_is_asked_for_with_the_key_and_nothing_is_generated() {
    let upstream = ScriptedUpstream::start().await;
    upstream.lists_models(Script::json(200, &list(&["other", "gpt-4o-mini"])));
    upstream.will_say("hello");
    let provider = provider(&upstream.base_url());
    assert_eq!(provider.check().await.unwrap(), ModelCheck::Listed);
    ask(&provider, request("hello")).await;

    let requests = upstream.requests();
    let seen: Vec<_> = requests
        .iter()
        .map(|request| (request.method.as_str(), request.path.as_str()))
        .collect();
    assert_eq!(
        seen,
        [("GET", "/v1/models"), ("POST", "/v1/chat/completions")]
    );
    let keys: Vec<_> = requests
        .iter()
        .map(|request| request.header("authorization"))
        .collect();
    assert_eq!(keys, [Some("Bearer sk-test-1234"); 2]);
}

#[tokio::test]
async fn a_model_that_is_not_listed_is_told_from_a_list_that_is_not_there() {
    let other = check(Script::json(200, &list(&["gpt-5", "gpt-5-mini"]))).await;
    let models = vec!["gpt-5".to_owned(), "gpt-5-mini".to_owned()];
    assert_eq!(other.unwrap(), ModelCheck::NotListed { models });

    let latest = check(Script::json(200, &list(&["gpt-4o-mini:latest"]))).await;
    assert_eq!(latest.unwrap(), ModelCheck::Listed);

    let page = Script::head(200, "text/html").bytes("<html>welcome</html>");
    for none in [Script::error(404, "nothing is here"), page] {
        assert_eq!(check(none).await.unwrap(), ModelCheck::NoList);
    }
}

/// The endpoint's own words are kept, and our key is taken out of them.
#[tokio::test]
async fn a_wrong_key_is_told_from_other_refusals() {
    for status in [401, 403] {
        let words = "Incorrect API key provided: sk-test-1234.";
        let error = check(Script::error(status, words)).await.unwrap_err();
        assert!(matches!(error, CheckError::Key(_)), "{error:?}");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("Incorrect API key"), "{cause}");
        assert!(!cause.contains("1234"), "{cause}");
    }
    for script in [
        Script::error(500, "boom"),
        Script::error(402, "no money"),
        Script::rate_limited("1"),
    ] {
        let error = check(script).await.unwrap_err();
        assert!(matches!(error, CheckError::Refused(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_address_where_nobody_answers_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let error = provider(&nobody).check().await.unwrap_err();
    assert!(matches!(error, CheckError::Unreachable(_)), "{error:?}");

    let error = check(Script::head(200, "application/json").close()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, CheckError::Unreachable(_)), "{error:?}");
}
