//! What the files of other hosts say about the server is what the server does.

use std::{fs, path::Path};

use duologue_integration::{TestServer, server::http};
use serde_json::Value;

fn file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The page is as safe on a host of static files as on the server itself.
#[tokio::test]
async fn the_static_page_has_the_headers_that_the_server_sends() {
    let server = TestServer::start().await;
    let page = http().get(server.url("/demo/")).send().await.unwrap();
    let vercel: Value = serde_json::from_str(&file("web/vercel.json")).unwrap();
    let rules = vercel["headers"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "one rule for all files");
    let headers = rules[0]["headers"].as_array().unwrap();
    for header in headers {
        let name = header["key"].as_str().unwrap();
        assert_eq!(
            page.headers()[name],
            header["value"].as_str().unwrap(),
            "{name}"
        );
    }
    let names = headers.iter().filter_map(|header| header["key"].as_str());
    let names: Vec<_> = names.map(str::to_ascii_lowercase).collect();
    for name in page.headers().keys() {
        let name = name.as_str();
        let is_of_this_response = [
            "content-length",
            "content-type",
            "date",
            "etag",
            "transfer-encoding",
            "x-request-id",
        ]
        .contains(&name);
        assert!(
            is_of_this_response || names.iter().any(|own| own == name),
            "{name}"
        );
    }
    server.stop().await;
}

/// A path that does not exist would be a server that never gets well.
#[tokio::test]
async fn the_paths_that_hosts_ask_for_health_answer() {
    let server = TestServer::start().await;
    for (path, begin) in [
        ("render.yaml", "healthCheckPath: "),
        ("fly.toml", "path = "),
    ] {
        let text = file(path);
        let mut lines = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(begin));
        let health = lines
            .next()
            .expect("there is a health check")
            .trim_matches('"');
        let response = http().get(server.url(health)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}: {health}");
    }
    server.stop().await;
}
