//! `duologue chat` with a server that wants to know who talks.

use duologue_integration::TestServer;
use duologue_protocol::SessionId;
use duologue_server::{
    chat::{self, ChatError, Colour, Input, Terminal, Token},
    cli::ChatArgs,
};

use super::{get, scene};

/// Asks one question in the session `s`; what was written, and how it ended.
async fn ask(server: &TestServer, token: Token) -> (String, Result<(), ChatError>) {
    let args = ChatArgs {
        url: server.address().to_string(),
        session: Some(SessionId::new("s").unwrap()),
        user: None,
        token_file: None,
    };
    let terminal = Terminal {
        input: Input::Piped,
        colour: Colour::Off,
    };
    let mut output = Vec::new();
    let input = "What is my balance?\n".as_bytes();
    let outcome = chat::run(args, token, terminal, input, &mut output).await;
    (String::from_utf8(output).unwrap(), outcome)
}

#[tokio::test]
async fn a_token_from_a_file_or_a_variable_lets_a_person_talk() {
    let (key, issuer, server) = scene().await;
    let token = key.sign(&issuer.claims("user-1"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    for given in [
        Token::new(Some(file), Some("canary")),
        Token::new(None, Some(&token)),
    ] {
        let (output, outcome) = ask(&server, given).await;
        outcome.unwrap();
        assert!(output.contains("1250.75"), "{output}");
    }
    let (_, facts) = get(&server, "/v1/sessions/s", Some(&token)).await;
    assert_eq!(facts["user_id"], "user-1");
    server.stop().await;
}

#[tokio::test]
async fn without_a_good_token_it_is_said_what_to_do() {
    let (key, issuer, server) = scene().await;
    let (_, missing) = ask(&server, Token::None).await;
    let words = missing.unwrap_err().to_string();
    assert!(words.contains("DUOLOGUE_TOKEN"), "{words}");
    let mut claims = issuer.claims("user-1");
    claims["exp"] = 1.into();
    let expired = key.sign(&claims);
    let (_, expired) = ask(&server, Token::new(None, Some(&expired))).await;
    let words = expired.unwrap_err().to_string();
    assert!(words.contains("the token has expired"), "{words}");
    let nowhere = Token::new(Some("/no/such/token".into()), None);
    let words = ask(&server, nowhere).await.1.unwrap_err().to_string();
    assert!(words.contains("--token-file"), "{words}");
    server.stop().await;
}
