//! The page on security promises nothing that no test holds it to.

use std::{fs, path::PathBuf};

/// A promise names its tests as `it module::test`; each of them exists, under that name.
#[test]
fn every_test_that_the_page_on_security_names_exists() {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(here.join("../../docs/security.md")).unwrap();
    let mut found = 0;
    for named in page.split("`it ").skip(1) {
        let (named, _) = named.split_once('`').expect("a name ends");
        let mut parts: Vec<&str> = named.split("::").collect();
        let test = if parts.len() > 1 { parts.pop() } else { None };
        let file = here
            .join("tests/it")
            .join(parts.join("/"))
            .with_extension("rs");
        let code = fs::read_to_string(&file).unwrap_or_else(|_| panic!("there is no `{named}`"));
        let is_there = test.is_none_or(|test| code.contains(&format!("fn {test}()")));
        assert!(is_there, "there is no `{named}`");
        found += 1;
    }
    assert!(found > 20, "the page names only {found} tests");
}
