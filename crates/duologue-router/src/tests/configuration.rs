//! What is refused when an agent is read, and in which words.

use serde_json::json;

use super::{AGENT, tool, tools};
use crate::{AgentError, RuleAgent};

#[test]
fn a_wrong_configuration_is_refused_with_the_key_and_what_is_allowed() {
    let replaced = |from: &str, to: &str| {
        assert!(AGENT.contains(from), "{from}");
        AGENT.replacen(from, to, 1)
    };
    for (text, expected) in [
        (replaced("Be kind.", " "), "`prompt`: it must not be blank"),
        (
            replaced("tool = \"book\"", "tool = \"cook\""),
            "`routes.book.tool`: there is no such tool; there are: book, profile, tag, transfer",
        ),
        (
            replaced("[tools.tag]", "[tools.tap]"),
            "`tools.tap`: there is no such tool; there are: book, transfer, tag, profile",
        ),
        (
            replaced("parameters.city", "parameters.town"),
            "`tools.book.parameters.town`: the tool has no such parameter; it has: breakfast, \
             city, class, nights",
        ),
        (
            replaced("keywords = [\"tag\"]", ""),
            "`routes.tag.keywords`: it is never taken; give it a keyword or a pattern",
        ),
        (
            replaced("keywords = [\"tag\"]", "keywords = [\" \"]"),
            "`routes.tag.keywords`: a blank phrase would be in every message",
        ),
        (
            replaced("aliases = [\"town\"]", "aliases = [\"\"]"),
            "`tools.book.parameters.city`: an alias must not be blank",
        ),
        (
            replaced("name = \"tag\"", "name = \"book\""),
            "`routes.book`: two routes have this name; rename one of them",
        ),
        (
            replaced("name = \"tag\"", "name = \"answer\""),
            "`routes.answer.name`: these names have a meaning of their own: answer, follow_up, \
             correction, dropped",
        ),
        (
            replaced("tool = \"transfer\"\nwith", "with"),
            "`routes.no_transfers.with_model`: `forbid` keeps a tool from being used; name it as \
             `tool`",
        ),
        (
            replaced("'(?i)\\b(send", "'(?i)\\b((send"),
            "`routes.transfer.patterns`: regex parse",
        ),
    ] {
        let error = RuleAgent::from_toml(&text, &tools())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    for text in [
        replaced("[phrases]", "[phrases]\nshouts = []"),
        replaced("with_model = \"force\"", "with_model = \"maybe\""),
        replaced("from = \"user\"", "from = \"space\""),
        replaced("name = \"test\"", ""),
    ] {
        let error = RuleAgent::from_toml(&text, &tools()).unwrap_err();
        assert!(matches!(error, AgentError::Unreadable(_)), "{error}");
    }
}

#[test]
fn a_tool_whose_schema_is_unfit_is_refused_by_name() {
    let text = "name = \"a\"\nprompt = \"b\"\nsummary_prompt = \"c\"\n\
                phrases = { corrections = [], drops = [] }\n[tools.odd]";
    for (schema, expected) in [
        (json!({ "type": "string" }), "type `object`"),
        (
            json!({ "type": "object", "required": ["x"] }),
            "requires `x`",
        ),
        (
            json!({ "type": "object", "properties": { "x": { "type": "strong" } } }),
            "not valid",
        ),
        (
            json!({ "type": "object", "properties": { "x": { "$ref": "http://localhost/x" } } }),
            "not valid",
        ),
    ] {
        let error = RuleAgent::from_toml(text, &[tool("odd", schema)]).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("`tools.odd`") && error.contains(expected),
            "{error}"
        );
    }
}
