//! Nothing in the project may depend on the machine or the network where it was written: no
//! absolute paths of people's folders, no hosts of package registries.

use super::tree::{Rule, Text, Tree, Violation};

/// Folders that are there on some machines only.
const FOLDERS: &[&str] = &[
    "/home/",
    "/root/",
    "/Users/",
    "/work/",
    "/workspace/",
    "/builds/",
];

/// Parts of the names of hosts that give out packages. Whoever builds this chooses their own.
const REGISTRIES: &[&str] = &[
    "artifactory",
    "crates-io",
    "files.pythonhosted",
    "index.crates.io",
    "nexus",
    "npmjs",
    "proxy.golang",
    "pypi",
    "registry",
    "static.crates.io",
    "yarnpkg",
];

/// What Cargo calls crates.io in lock files and in `deny.toml`; it names no host to fetch from.
const CRATES_IO: &str = "https://github.com/rust-lang/crates.io-index";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    tree.0.iter().flat_map(in_text).collect()
}

fn in_text(text: &Text) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (line, content) in text.lines() {
        let mut found = |message: String| {
            violations.push(Violation::new(Rule::Machines, &text.path, line, message));
        };
        for folder in FOLDERS.iter().filter(|folder| has_folder(content, folder)) {
            found(format!(
                "`{folder}…` is one machine's folder; use a relative path"
            ));
        }
        for host in hosts(content).filter(|host| is_registry(host)) {
            found(format!(
                "`{host}` is a registry; leave the choice of one to whoever builds"
            ));
        }
        let is_lock = text.path.ends_with("package-lock.json");
        if is_lock && content.trim_start().starts_with("\"resolved\": \"http") {
            found("lock with `npm install --omit-lockfile-registry-resolved`".to_owned());
        }
        let is_source = content.starts_with("source = ") && !content.contains(CRATES_IO);
        if text.path.ends_with("Cargo.lock") && is_source {
            found("comes from elsewhere than crates.io".to_owned());
        }
    }
    violations
}

/// Whether `folder` begins a path: in `a/home/b` and in `https://x.y/home/` it does not.
fn has_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let within_path = |letter: char| letter.is_alphanumeric() || "._~-*/$}".contains(letter);
        !before.is_some_and(within_path)
    })
}

fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).filter_map(|rest| {
        let end =
            rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !".-:".contains(letter));
        let host = &rest[..end.unwrap_or(rest.len())];
        (!host.is_empty()).then_some(host)
    })
}

fn is_registry(host: &str) -> bool {
    REGISTRIES.iter().any(|part| host.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let tree = Tree::of([(path, text)]);
        check(&tree).into_iter().map(|found| found.line).collect()
    }

    #[test]
    fn folders_of_one_machine_are_found() {
        let text = "cd /home/alice\npath = \"/root/x\"\n/home/x\nweb/home/x\n~/work/x\n\
                    https://example.com/home/x\n/usr/bin/chromium\n(/Users/bob/x)\n";
        assert_eq!(lines("a.md", text), [1, 2, 3, 8]);
    }

    #[test]
    fn hosts_of_registries_are_found() {
        let text = "registry = \"https://registry.example.com/npm/\"\nsee https://github.com/a\n\
                    http://artifactory.corp:8081/x\nthe word registry\nhttps://pypi.example.org\n";
        assert_eq!(lines("a.md", text), [1, 3, 5]);
    }

    #[test]
    fn a_lock_file_that_names_where_it_was_made_is_found() {
        let npm = "{\n  \"version\": \"1.0.0\",\n  \"resolved\": \"http://127.0.0.1/a.tgz\",\n}";
        assert_eq!(lines("web/e2e/package-lock.json", npm), [3]);
        let cargo =
            format!("source = \"registry+{CRATES_IO}\"\nsource = \"git+https://github.com/a/b\"\n");
        assert_eq!(lines("Cargo.lock", &cargo), [2]);
    }
}
