//! `knowledge_base_lookup`: what the knowledge base says about a topic.

mod topics;

use async_trait::async_trait;
use duologue_engine::tool::{Tool, ToolContext, ToolDefinition, ToolError};
use serde::Deserialize;
use serde_json::{Value, json};

use self::topics::{TOPICS, Topic};
use crate::arguments::arguments;

/// Looks a question up in the knowledge base.
#[derive(Debug)]
pub struct KnowledgeBaseLookup {
    definition: ToolDefinition,
}

#[derive(Deserialize)]
struct Arguments {
    query: String,
}

impl KnowledgeBaseLookup {
    pub(crate) fn new() -> Self {
        let names = topic_names().join(", ");
        Self {
            definition: ToolDefinition {
                name: "knowledge_base_lookup".into(),
                description: format!(
                    "Looks a question up in the knowledge base. It knows about: {names}."
                ),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "query": {
                            "type": "string",
                            "title": "question",
                            "description": "A question or a few words that name a topic",
                            "minLength": 1,
                            "examples": ["What does the Team plan cost?"],
                        },
                    },
                    "required": ["query"],
                    "additionalProperties": false,
                }),
            },
        }
    }
}

#[async_trait]
impl Tool for KnowledgeBaseLookup {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn call(&self, value: &Value, _context: &ToolContext) -> Result<Value, ToolError> {
        let Arguments { query } = arguments(value)?;
        let Some(topic) = find(&query) else {
            let names = topic_names();
            let message = format!(
                "The knowledge base has nothing on that. It knows about: {}.",
                names.join(", ")
            );
            return Ok(json!({ "found": false, "message": message, "topics": names }));
        };
        Ok(json!({ "found": true, "topic": topic.name, "answer": topic.answer }))
    }
}

fn topic_names() -> Vec<&'static str> {
    TOPICS.iter().map(|topic| topic.name).collect()
}

/// The topic with the most keywords in the query; the first of them where several have as many.
fn find(query: &str) -> Option<&'static Topic> {
    let words: Vec<String> = query
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    // Spaces around the words make a keyword match whole words only.
    let words = format!(" {} ", words.join(" "));
    let mut best = (0, None);
    for topic in TOPICS {
        let hits = topic
            .keywords
            .iter()
            .filter(|keyword| words.contains(&format!(" {keyword} ")))
            .count();
        if hits > best.0 {
            best = (hits, Some(topic));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_found_by_whole_words_of_the_question() {
        for (query, topic) in [
            ("What's the weather like today?", "weather"),
            ("How much CO2 does a message cause?", "CO2"),
            ("CO\u{2082} footprint", "CO2"),
            ("pricing", "pricing"),
            ("Is it like LangGraph?", "LangGraph"),
            ("Can I keep sessions in Supabase?", "Supabase"),
            ("Why a WebSocket and not SSE?", "WebSocket"),
            ("Tell me about Duologue", "Duologue"),
        ] {
            assert_eq!(find(query).map(|topic| topic.name), Some(topic), "{query}");
        }
        assert!(find("I restart my work").is_none());
        assert!(find("").is_none());
    }

    #[test]
    fn keywords_are_written_as_the_search_sees_them() {
        for keyword in TOPICS.iter().flat_map(|topic| topic.keywords) {
            let plain = |c: char| c == ' ' || (c.is_alphanumeric() && !c.is_uppercase());
            assert!(keyword.chars().all(plain), "{keyword}");
        }
    }
}
