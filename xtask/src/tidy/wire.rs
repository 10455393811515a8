//! Every name on the wire is explained in `docs/protocol.md`.
//!
//! This crate does not depend on our other crates, so that it builds when they do not; it reads the names
//! from the sources of `duologue-protocol` by their shape. A source without names is reported too,
//! because then this file is out of date. That the explanations are right is for the tests of
//! `duologue-protocol` to say, which read the document's examples.

use super::tree::{Rule, Text, Tree, Violation};

const DOCUMENT: &str = "docs/protocol.md";

/// Where some names are, and how to see one in a line.
struct Source {
    path: &'static str,
    /// The names stand in the block that the line with this text opens.
    begins: &'static str,
    name: fn(&str) -> Option<String>,
}

const SOURCES: &[Source] = &[
    Source {
        path: "crates/duologue-protocol/src/client_frame.rs",
        begins: "match r#type.as_str() {",
        name: quoted_pattern,
    },
    Source {
        path: "crates/duologue-protocol/src/server_frame.rs",
        begins: "pub const TYPES: &'static [&'static str] = &[",
        name: quoted_item,
    },
    // The one event that has a name of its own on the wire.
    Source {
        path: "crates/duologue-protocol/src/event.rs",
        begins: "pub fn wire_type(&self)",
        name: quoted_constant,
    },
    Source {
        path: "crates/duologue-protocol/src/event.rs",
        begins: "pub fn event_type(&self)",
        name: quoted_value,
    },
    Source {
        path: "crates/duologue-protocol/src/code.rs",
        begins: "pub fn as_str(self)",
        name: quoted_value,
    },
    Source {
        path: "crates/duologue-protocol/src/code.rs",
        begins: "pub fn number(self)",
        name: number_value,
    },
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(document) = tree.get(DOCUMENT) else {
        return vec![Violation::new(Rule::Wire, DOCUMENT, 1, "is missing")];
    };
    let mut violations = Vec::new();
    for source in SOURCES {
        let names = tree
            .get(source.path)
            .map(|text| names(text, source))
            .unwrap_or_default();
        if names.is_empty() {
            let message = format!(
                "no names follow `{}`; say in xtask/src/tidy/wire.rs where they are now",
                source.begins
            );
            violations.push(Violation::new(Rule::Wire, source.path, 1, message));
        }
        for (line, name) in names {
            if !document.text.contains(&format!("`{name}`")) {
                let message = format!("`{name}` is not in {DOCUMENT}; explain it there");
                violations.push(Violation::new(Rule::Wire, source.path, line, message));
            }
        }
    }
    violations
}

fn names(text: &Text, source: &Source) -> Vec<(usize, String)> {
    let mut lines = text
        .lines()
        .skip_while(|(_, line)| !line.contains(source.begins));
    let Some((_, first)) = lines.next() else {
        return Vec::new();
    };
    let indent = |line: &str| line.len() - line.trim_start().len();
    let outer = indent(first);
    lines
        .take_while(|(_, line)| line.trim().is_empty() || indent(line) > outer)
        .filter_map(|(number, line)| Some((number, (source.name)(line)?)))
        .collect()
}

/// `"cancel" => …`
fn quoted_pattern(line: &str) -> Option<String> {
    let (pattern, _) = line.trim().split_once(" => ")?;
    quoted(pattern)
}

/// `Self::Busy => "busy",`
fn quoted_value(line: &str) -> Option<String> {
    quoted(arm_value(line)?)
}

/// `Self::TooBig => 1009,`
fn number_value(line: &str) -> Option<String> {
    let value = arm_value(line)?;
    value.parse::<u16>().is_ok().then(|| value.to_owned())
}

/// `"goaway",`
fn quoted_item(line: &str) -> Option<String> {
    quoted(line.trim().strip_suffix(',')?)
}

/// `Self::AssistantMessage(_) => DONE,`, where the constant is named as its value is spelled.
fn quoted_constant(line: &str) -> Option<String> {
    let value = arm_value(line)?;
    let is_constant = value.chars().all(|letter| letter.is_ascii_uppercase());
    is_constant.then(|| value.to_lowercase())
}

fn arm_value(line: &str) -> Option<&str> {
    let (_, value) = line.split_once(" => ")?;
    value.trim().strip_suffix(',')
}

fn quoted(text: &str) -> Option<String> {
    let name = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "
        match r#type.as_str() {
            \"message\" => {}
            \"shout\" => return Ok(1),
            other => refuse(other),
        }
        \"after\" => 1,
";
    const SERVER: &str = "
    pub const TYPES: &'static [&'static str] = &[
        \"session_started\",
        \"pong\",
    ];
";
    const EVENT: &str = "
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Routed(_) => \"routed\",
        }
    }

    pub fn wire_type(&self) -> &'static str {
        match self {
            Self::AssistantMessage(_) => DONE,
            other => other.event_type(),
        }
    }
";
    const CODE: &str = "
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => \"busy\",
        }
    }

    pub fn number(self) -> u16 {
        match self {
            Self::Slow => 4008,
        }
    }
";

    fn found(document: &str, client: &str) -> Vec<String> {
        let tree = Tree::of([
            (DOCUMENT, document),
            (SOURCES[0].path, client),
            (SOURCES[1].path, SERVER),
            (SOURCES[3].path, EVENT),
            (SOURCES[4].path, CODE),
        ]);
        check(&tree).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_name_that_the_document_does_not_explain_is_found() {
        let all = "`message` `shout` `session_started` `pong` `done` `routed` `busy` `4008`";
        assert_eq!(found(all, CLIENT), Vec::<String>::new());
        for (name, path, line) in [
            ("shout", SOURCES[0].path, 4),
            ("session_started", SOURCES[1].path, 3),
            ("pong", SOURCES[1].path, 4),
            ("done", SOURCES[2].path, 10),
            ("routed", SOURCES[3].path, 4),
            ("busy", SOURCES[4].path, 4),
            ("4008", SOURCES[4].path, 10),
        ] {
            let without = all.replace(&format!("`{name}`"), "");
            let expected =
                format!("{path}:{line}: `{name}` is not in {DOCUMENT}; explain it there");
            assert_eq!(found(&without, CLIENT), [expected]);
        }
    }

    #[test]
    fn a_source_that_shows_no_names_any_more_is_found() {
        let all = "`session_started` `pong` `done` `routed` `busy` `4008`";
        assert_eq!(
            found(all, "match kind {\n    \"message\" => {}\n}\n").len(),
            1
        );
    }
}
