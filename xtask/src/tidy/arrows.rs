//! Which of our crates may depend on which, read from their `Cargo.toml`.
//!
//! A rule about layers holds only if the build enforces it. The compiler refuses undeclared dependencies;
//! this check refuses the declarations.

use toml::{Table, Value};

use super::tree::{Rule, Tree, Violation};

/// Each crate, the crates it may depend on, and those that its tests may also depend on. A crate may
/// always depend on itself, which is how its tests enable its features.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("duologue-protocol", &[], &[]),
    ("duologue-engine", &["duologue-protocol"], ENGINE_TESTS),
    ("duologue-client", &["duologue-protocol"], &[]),
    ("duologue-store", INNER, &[]),
    ("duologue-llm", INNER, &[]),
    ("duologue-mock", INNER, &[]),
    ("duologue-router", INNER, &[]),
    ("duologue-tools", INNER, &["duologue-router"]),
    ("duologue-bus", INNER, &[]),
    ("duologue-server", PARTS, &[]),
    ("duologue-conformance", INNER, &[]),
    ("duologue-doubles", INNER, &["duologue-conformance"]),
    ("duologue-fuzz", PRODUCT, &[]),
    ("duologue-fuzzer", &["duologue-fuzz"], &[]),
    ("duologue-integration", PRODUCT, APPARATUS),
    ("duologue-observer", OBSERVED, &[]),
    ("duologue-simulation", SIMULATED, &[]),
    ("duologue-torture", TORTURE, &[]),
    ("duologue-bench", &[], &[]),
    ("xtask", &[], &[]),
];
const INNER: &[&str] = &["duologue-protocol", "duologue-engine"];
const ENGINE_TESTS: &[&str] = &["duologue-doubles", "duologue-mock", "duologue-router"];
const PARTS: &[&str] = &[
    "duologue-protocol",
    "duologue-engine",
    "duologue-store",
    "duologue-llm",
    "duologue-mock",
    "duologue-router",
    "duologue-tools",
    "duologue-bus",
    "duologue-client",
];
const PRODUCT: &[&str] = &[
    "duologue-protocol",
    "duologue-engine",
    "duologue-store",
    "duologue-llm",
    "duologue-mock",
    "duologue-router",
    "duologue-tools",
    "duologue-bus",
    "duologue-client",
    "duologue-server",
];
const SIMULATED: &[&str] = &[
    "duologue-protocol",
    "duologue-engine",
    "duologue-client",
    "duologue-router",
    "duologue-server",
    "duologue-doubles",
    "duologue-observer",
];
const OBSERVED: &[&str] = &["duologue-protocol", "duologue-client"];
const TORTURE: &[&str] = &[
    "duologue-client",
    "duologue-protocol",
    "duologue-store",
    "duologue-integration",
    "duologue-observer",
];
const APPARATUS: &[&str] = &["duologue-conformance", "duologue-doubles", "duologue-fuzz"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let manifests = tree.0.iter().filter(|text| {
        text.path.ends_with("/Cargo.toml")
            && ["bench/", "crates/", "testing/", "xtask/"]
                .iter()
                .any(|folder| text.path.starts_with(folder))
    });
    manifests
        .flat_map(|text| in_manifest(&text.path, &text.text))
        .collect()
}

fn in_manifest(path: &str, text: &str) -> Vec<Violation> {
    let violation = |line, message: String| Violation::new(Rule::Arrows, path, line, message);
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![violation(1, format!("not TOML: {error}"))],
    };
    let name = table.get("package").and_then(|package| package.get("name"));
    let Some(name) = name.and_then(Value::as_str) else {
        return vec![violation(1, "`package.name` is missing".to_owned())];
    };
    let Some((_, allowed, in_tests)) = ARROWS.iter().find(|(of, ..)| *of == name) else {
        let message = format!(
            "`{name}` is new: add it to xtask/src/tidy/arrows.rs with the crates that it may depend on"
        );
        return vec![violation(1, message)];
    };
    let mut violations = Vec::new();
    for (known, is_for_tests) in dependencies(&table) {
        let is_ours = known == "xtask" || known.starts_with("duologue-");
        let is_allowed =
            allowed.contains(&known.as_str()) || is_for_tests && in_tests.contains(&known.as_str());
        if is_ours && known != name && !is_allowed {
            let line = text
                .lines()
                .position(|line| line.contains(&known))
                .map_or(1, |at| at + 1);
            let message = format!(
                "`{name}` must not depend on `{known}`: arrows point inwards only; move what they \
                 share into a crate that both may depend on"
            );
            violations.push(violation(line, message));
        }
    }
    violations
}

/// The names of all packages depended on, also for tests, builds and single targets; and whether it
/// is for tests only.
fn dependencies(manifest: &Table) -> Vec<(String, bool)> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut names = Vec::new();
    for (kind, dependencies) in tables
        .iter()
        .filter_map(|kind| Some((*kind, manifest.get(*kind)?.as_table()?)))
    {
        for (key, value) in dependencies {
            // `x = { package = "y" }` depends on y.
            let package = value.get("package").and_then(Value::as_str);
            names.push((
                package.unwrap_or(key).to_owned(),
                kind == "dev-dependencies",
            ));
        }
    }
    let targets = manifest.get("target").and_then(Value::as_table);
    for target in targets.into_iter().flat_map(Table::values) {
        names.extend(target.as_table().map(dependencies).unwrap_or_default());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(manifest: &str) -> Vec<(usize, String)> {
        let tree = Tree::of([("crates/x/Cargo.toml", manifest)]);
        check(&tree)
            .into_iter()
            .map(|found| (found.line, found.message))
            .collect()
    }

    #[test]
    fn an_arrow_that_points_outwards_is_found_wherever_it_is_declared() {
        for table in [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let manifest = format!(
                "[package]\nname = \"duologue-engine\"\n[{table}]\nduologue-store.workspace = true\n"
            );
            let found = found(&manifest);
            assert_eq!(found.len(), 1, "{table}");
            assert_eq!(found[0].0, 4);
            assert!(
                found[0].1.contains("must not depend on `duologue-store`"),
                "{}",
                found[0].1
            );
        }
        let renamed = "[package]\nname = \"duologue-llm\"\n[dependencies]\n\
                       tools = { package = \"duologue-tools\", workspace = true }\n";
        assert_eq!(found(renamed).len(), 1);
    }

    #[test]
    fn arrows_that_point_inwards_or_to_oneself_are_fine() {
        let manifest = "[package]\nname = \"duologue-store\"\n\
            [dependencies]\nserde = \"1\"\nduologue-engine.workspace = true\n\
            [dev-dependencies]\nduologue-store = { path = \".\", features = [\"testing\"] }\n";
        assert_eq!(found(manifest), []);
    }

    #[test]
    fn what_only_tests_may_know_is_found_elsewhere() {
        let manifest = |table: &str| {
            format!(
                "[package]\nname = \"duologue-engine\"\n[{table}]\nduologue-doubles.workspace = true\n"
            )
        };
        assert_eq!(found(&manifest("dev-dependencies")), []);
        assert_eq!(found(&manifest("dependencies")).len(), 1);
        assert_eq!(found(&manifest("target.'cfg(unix)'.dependencies")).len(), 1);
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_found() {
        assert_eq!(found("[package]\nname = \"duologue-new\"\n").len(), 1);
        assert_eq!(found("[package]\n").len(), 1);
        assert_eq!(found("package").len(), 1);
    }
}
