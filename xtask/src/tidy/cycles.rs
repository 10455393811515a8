//! Files of one crate that import each other in a cycle.
//!
//! Such files can only be read, changed and tested together. The compiler allows it inside a crate,
//! so this is checked here. A parent that only declares a child, or re-exports what the child
//! declares, does not import it; a parent that also uses it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    imports::{FileImport, file_imports},
    modules::Module,
    tree::{Rule, Violation},
};

/// For each file, the files that it imports and where.
type Graph<'a> = BTreeMap<&'a str, BTreeMap<&'a str, usize>>;

/// Checks the modules of one crate.
pub(super) fn check(modules: &[Module]) -> Vec<Violation> {
    let imports = file_imports(modules);
    let graph = graph(&imports);
    let groups = groups(&graph).into_iter();
    groups.map(|group| violation(&graph, &group)).collect()
}

fn graph(imports: &[FileImport]) -> Graph<'_> {
    let mut graph = Graph::new();
    for FileImport { from, to, line } in imports {
        graph.entry(from).or_default().insert(to, *line);
        graph.entry(to).or_default();
    }
    graph
}

/// The files that can be reached from each other, in groups of two or more.
fn groups<'a>(graph: &Graph<'a>) -> Vec<BTreeSet<&'a str>> {
    let reachable: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|file| (*file, reachable(graph, file)))
        .collect();
    let mut groups: Vec<BTreeSet<&str>> = Vec::new();
    for (file, others) in &reachable {
        if groups.iter().any(|group| group.contains(file)) {
            continue;
        }
        let back = others
            .iter()
            .filter(|other| reachable[**other].contains(file));
        let group: BTreeSet<_> = back.copied().collect();
        if !group.is_empty() {
            groups.push(group);
        }
    }
    groups
}

fn reachable<'a>(graph: &Graph<'a>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for next in graph[file].keys() {
            if reached.insert(*next) {
                open.push(next);
            }
        }
    }
    reached
}

fn violation(graph: &Graph<'_>, group: &BTreeSet<&str>) -> Violation {
    let first = group.first().copied().unwrap_or_default();
    let cycle = cycle(graph, first);
    let line = cycle.get(1).map_or(1, |next| graph[first][next]);
    let steps: Vec<String> = cycle
        .windows(2)
        .map(|pair| {
            format!(
                "{}:{} imports {}",
                pair[0], graph[pair[0]][pair[1]], pair[1]
            )
        })
        .collect();
    let files: Vec<&str> = group.iter().copied().collect();
    let message = format!(
        "{} files import each other in a cycle ({}); for example {}; move what they share into a \
         file that imports neither",
        files.len(),
        files.join(", "),
        steps.join(", ")
    );
    Violation::new(Rule::Cycles, first, line, message)
}

/// The shortest way from `start` back to itself.
fn cycle<'a>(graph: &Graph<'a>, start: &'a str) -> Vec<&'a str> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way.last().copied().unwrap_or(start);
        for next in graph[last].keys() {
            let longer = [way.as_slice(), &[*next]].concat();
            if *next == start {
                return longer;
            }
            if seen.insert(*next) {
                ways.push_back(longer);
            }
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{modules, tree::Tree},
        *,
    };

    fn check(tree: &Tree) -> Vec<Violation> {
        let (crates, mut violations) = modules::crates(tree);
        violations.extend(crates.iter().flat_map(|modules| super::check(modules)));
        violations
    }

    const LIB: (&str, &str) = ("crates/x/src/lib.rs", "mod a;\nmod b;\nmod c;\n");

    fn found(a: &str, b: &str, c: &str) -> Vec<String> {
        let tree = Tree::of([
            LIB,
            ("crates/x/src/a.rs", a),
            ("crates/x/src/b.rs", b),
            ("crates/x/src/c.rs", c),
        ]);
        check(&tree).iter().map(Violation::to_string).collect()
    }

    /// The files of the only group found.
    fn cycle_of(a: &str, b: &str, c: &str) -> Vec<String> {
        let found = found(a, b, c);
        assert_eq!(found.len(), 1, "{found:?}");
        let (_, files) = found[0].split_once('(').unwrap();
        let (files, _) = files.split_once(')').unwrap();
        let names = files
            .split(", ")
            .map(|file| file.rsplit_once('/').unwrap().1);
        names.map(str::to_owned).collect()
    }

    #[test]
    fn files_that_import_each_other_are_found_with_the_lines_of_one_cycle() {
        let a = "use std::fs;\nuse crate::b::B;\npub struct A;\n";
        let b = "pub struct B;\nuse super::{c::C, fmt};\n";
        let c = "pub struct C;\nfn f() { let _ = crate::a::A; }\n";
        assert_eq!(
            found(a, b, c),
            [
                "crates/x/src/a.rs:2: 3 files import each other in a cycle (crates/x/src/a.rs, \
              crates/x/src/b.rs, crates/x/src/c.rs); for example crates/x/src/a.rs:2 imports \
              crates/x/src/b.rs, crates/x/src/b.rs:2 imports crates/x/src/c.rs, \
              crates/x/src/c.rs:2 imports crates/x/src/a.rs; move what they share into a file that \
              imports neither"
            ]
        );
    }

    #[test]
    fn imports_that_point_one_way_are_fine() {
        let a = "use crate::{b::B, c::C};\npub struct A;\n";
        let b = "use super::c;\npub struct B(c::C);\n";
        assert_eq!(found(a, b, "pub struct C;\n"), [""; 0]);
    }

    #[test]
    fn an_import_is_seen_wherever_it_is_written() {
        let b = "use crate::a::A;\npub struct B;\npub fn f() {}\npub trait T {}\n";
        for a in [
            "pub struct A;\nfn f() { use crate::b::B; }\n",
            "pub struct A(crate::b::B);\n",
            "pub struct A;\nfn f() { crate::b::f() }\n",
            "pub struct A;\nfn f() { assert!(x(), \"{}\", 1 + crate::b::f()); }\n",
            "pub struct A;\nfn f() { select! { x = y.z(crate::b::f()) => {} } }\n",
            "pub struct A;\nimpl crate::b::T for A {}\n",
            "use crate::b;\npub struct A;\nfn f() { b::f() }\n",
            "use super::b as other;\npub struct A;\nfn f() { println!(\"{}\", other::f()) }\n",
            "use super::b::*;\npub struct A;\n",
            "pub struct A;\nmod inline {\n use super::super::b::B;\n}\n",
            "pub use crate::b::B;\npub struct A;\n",
        ] {
            assert_eq!(cycle_of(a, b, ""), ["a.rs", "b.rs"], "{a}");
        }
    }

    #[test]
    fn tests_may_import_anything() {
        let b = "use crate::a::A;\npub struct B;\n";
        for a in [
            "pub struct A;\n#[cfg(test)]\nmod tests {\n use crate::b::B;\n}\n",
            "pub struct A;\n#[cfg(test)]\nuse crate::b::B;\n",
            "pub struct A;\nimpl A {\n #[cfg(test)]\n fn f() { crate::b::f() }\n}\n",
            "pub struct A;\nmod tests;\n",
        ] {
            let tests = ("crates/x/src/a/tests.rs", "use crate::b::B;\n");
            let files = [
                LIB,
                ("crates/x/src/a.rs", a),
                ("crates/x/src/b.rs", b),
                tests,
            ];
            assert_eq!(check(&Tree::of(files)), [], "{a}");
        }
    }

    fn of_parent_and_child(parent: &str, child: &str) -> usize {
        let files = [
            ("crates/x/src/main.rs", "mod parent;\n"),
            ("crates/x/src/parent.rs", parent),
            ("crates/x/src/parent/child.rs", child),
        ];
        check(&Tree::of(files)).len()
    }

    #[test]
    fn a_parent_that_declares_or_reexports_a_child_does_not_import_it() {
        let child = "use super::Shared;\npub struct Child;\n";
        for parent in [
            "mod child;\npub struct Shared;\n",
            "mod child;\npub use child::Child;\npub struct Shared;\n",
            "mod child;\npub(crate) use self::child::{Child, Other};\npub struct Shared;\n",
            "mod child;\npub use self::child::*;\npub struct Shared;\n",
        ] {
            assert_eq!(of_parent_and_child(parent, child), 0, "{parent}");
        }
    }

    #[test]
    fn a_parent_that_uses_a_child_which_imports_from_it_is_found() {
        let child = "use super::Shared;\npub struct Child;\n";
        for parent in [
            "mod child;\nuse child::Child;\npub struct Shared;\n",
            "mod child;\npub struct Shared(child::Child);\n",
            "mod child;\npub use child::Child;\npub struct Shared(Child);\n",
            "mod child;\npub use child::Child;\npub struct Shared;\nfn f() { x!(Child) }\n",
        ] {
            assert_eq!(of_parent_and_child(parent, child), 1, "{parent}");
        }
        let modest = "pub struct Child;\n";
        let parent = "mod child;\npub use child::Child;\npub struct Shared(Child);\n";
        assert_eq!(of_parent_and_child(parent, modest), 0);
    }

    /// A re-export leads to the file that declares, not to the one that re-exports.
    #[test]
    fn a_name_is_followed_to_where_it_is_declared() {
        let files = |facade| {
            Tree::of([
                ("crates/x/src/lib.rs", "mod facade;\nmod low;\nmod top;\n"),
                ("crates/x/src/facade.rs", facade),
                ("crates/x/src/low.rs", "pub struct Low;\n"),
                (
                    "crates/x/src/top.rs",
                    "use crate::facade::Low;\npub struct Top;\n",
                ),
            ])
        };
        let facade = "pub use crate::low::Low;\nuse crate::top::Top;\nstruct Facade(Top);\n";
        assert_eq!(check(&files(facade)), []);
        let facade = "pub struct Low;\nuse crate::top::Top;\nstruct Facade(Top);\n";
        assert_eq!(check(&files(facade)).len(), 1);
    }

    #[test]
    fn a_file_that_is_not_rust_is_found() {
        assert_eq!(found("pub struct {", "", "").len(), 1);
    }
}
