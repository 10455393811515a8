//! One name, one type: no two modules of a crate declare public types of the same name.

use std::collections::BTreeMap;

use super::{
    modules::Module,
    tree::{Rule, Violation},
};

/// Names that say the same of every module, and are read with the module's name.
const SHARED: &[&str] = &["Config", "Error"];

/// Checks the modules of one crate.
pub(super) fn check(modules: &[Module]) -> Vec<Violation> {
    let mut declared: BTreeMap<&str, Vec<(usize, &str, usize)>> = BTreeMap::new();
    for (index, module) in modules.iter().enumerate() {
        for (name, line) in &module.public_types {
            let places = declared.entry(name).or_default();
            // Alternatives under `#[cfg]` are one type.
            if places.iter().all(|(other, ..)| *other != index) {
                places.push((index, &module.file, *line));
            }
        }
    }
    declared.retain(|name, places| places.len() > 1 && !SHARED.contains(name));
    let mut violations = Vec::new();
    for (name, places) in declared {
        for (_, file, line) in &places {
            let others = places
                .iter()
                .map(|(_, file, line)| format!("{file}:{line}"));
            let message = format!(
                "`{name}` is the name of {} types of this crate ({}); give each a name of its own",
                places.len(),
                others.collect::<Vec<_>>().join(", ")
            );
            violations.push(Violation::new(Rule::TypeNames, file, *line, message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::{
        super::{modules, tree::Tree},
        *,
    };

    fn found(a: &str, b: &str) -> Vec<(String, usize)> {
        let tree = Tree::of([
            ("crates/x/src/lib.rs", "mod a;\nmod b;\n"),
            ("crates/x/src/a.rs", a),
            ("crates/x/src/b.rs", b),
            (
                "crates/y/src/lib.rs",
                "pub struct State;\npub enum Step {}\n",
            ),
        ]);
        let (crates, _) = modules::crates(&tree);
        let found = crates.iter().flat_map(|modules| check(modules));
        found.map(|found| (found.path, found.line)).collect()
    }

    #[test]
    fn a_name_that_two_modules_declare_is_found_in_both() {
        let places = [("crates/x/src/a.rs", 2), ("crates/x/src/b.rs", 1)];
        let places = places.map(|(path, line)| (path.to_owned(), line));
        for (a, b) in [
            ("//! A.\npub struct State;\n", "pub struct State;\n"),
            (
                "//! A.\npub(crate) enum State {}\n",
                "pub(super) type State = u8;\n",
            ),
            (
                "//! A.\npub trait State {}\n",
                "mod inline { pub struct State; }\n",
            ),
        ] {
            assert_eq!(found(a, b), places, "{a}{b}");
        }
    }

    #[test]
    fn private_types_shared_names_and_other_names_are_fine() {
        for (a, b) in [
            ("struct State;\n", "pub struct State;\n"),
            (
                "pub struct Error;\npub struct Config;\n",
                "pub enum Error {}\npub struct Config;\n",
            ),
            ("pub struct A;\n", "pub use crate::a::A;\npub struct B;\n"),
            (
                "#[cfg(unix)]\npub struct A;\n#[cfg(windows)]\npub struct A;\n",
                "",
            ),
            (
                "pub struct A;\n",
                "#[cfg(test)]\nmod tests { pub struct A; }\n",
            ),
            ("pub fn state() {}\n", "pub fn state() {}\n"),
        ] {
            assert_eq!(found(a, b), [], "{a}{b}");
        }
    }
}
