//! What the mock answers a user.

use duologue_engine::provider::Message;

use crate::{quote::quoted, tool_answer::tool_answer};

const HELP: &str = "I am Duologue's mock model: I follow fixed rules, so that you can try this \
server without any key. Here is what you can do:
- ask for a balance: \"What is my account balance?\" I will ask for the user ID; user-1 is one.
- ask for an order: \"Check order status for order_id=ORD-1001\", then correct yourself: \"no, \
ORD-1002\".
- ask for an invoice: \"The invoice of user-1 for 2026-01\".
- ask the knowledge base: \"What is Duologue?\", \"What's the weather like?\", \"pricing\".
Each message becomes a turn: it is routed, tools are called, what is missing is asked for, and the \
answer is streamed to you piece by piece while every event is kept in the session's log. Lose the \
connection and come back: nothing is lost. To talk to a real model, set OPENAI_API_KEY or \
GROQ_API_KEY and start the server again.";

const GREETING: &str = "Hello! I am Duologue's mock model. Ask me for an account balance, an order, \
an invoice, or something from the knowledge base, or say \"help\" to see how this works.";

/// The answer to the last message of a conversation.
pub(super) fn reply(messages: &[Message]) -> String {
    let is_user = |message: &Message| matches!(message, Message::User(_));
    let Some(last) = messages.iter().rposition(is_user) else {
        return GREETING.to_owned();
    };
    let (before, tail) = messages.split_at(last);
    let results: Vec<String> = tail
        .iter()
        .filter_map(|message| match message {
            Message::Tool { name, content, .. } => Some(tool_answer(name, content)),
            _ => None,
        })
        .collect();
    if !results.is_empty() {
        return results.join("\n");
    }
    let Message::User(text) = &messages[last] else {
        unreachable!("`last` is the position of a user's message");
    };
    let said_before = before.iter().filter(|message| is_user(message)).count();
    plain_reply(text, said_before, before.last())
}

fn plain_reply(text: &str, said_before: usize, before: Option<&Message>) -> String {
    let words = Words::of(text);
    let was_asked = matches!(before, Some(Message::Assistant { text, .. }) if text.ends_with('?'));
    if words.have(&[
        "never mind",
        "nevermind",
        "forget it",
        "cancel that",
        "drop it",
    ]) || words.are(&["cancel", "stop", "skip", "no need"])
    {
        let answer = if was_asked {
            "All right, I have dropped that question."
        } else {
            "All right. No question was waiting."
        };
        return answer.to_owned();
    }
    if asks_for_help(&words) {
        return HELP.to_owned();
    }
    if words.are(&[
        "hi",
        "hello",
        "hey",
        "hello there",
        "good morning",
        "good evening",
    ]) {
        return GREETING.to_owned();
    }
    if words.have(&["thanks", "thank you"]) {
        return "You are welcome!".to_owned();
    }
    if words.have(&["bye", "goodbye", "that is all", "that s all"]) {
        return "Goodbye! When this session ends, I will sum it up.".to_owned();
    }
    honest_reply(text, said_before + 1)
}

/// What people call the server that they try out.
const SUBJECTS: &[&str] = &[
    "this system",
    "the system",
    "your system",
    "this service",
    "this server",
    "this app",
    "this application",
    "this program",
    "this bot",
    "this chatbot",
    "this assistant",
    "this agent",
    "this demo",
    "this thing",
    "this tool",
    "it all",
    "yourself",
];

/// What they ask about it; the subject follows.
const QUESTIONS_BEFORE: &[&str] = &[
    "explain",
    "describe",
    "introduce",
    "about",
    "what is",
    "what s",
    "what does",
    "how does",
];

/// The same, where the subject comes first.
const QUESTIONS_AROUND: &[(&str, &str)] = &[("what", "does"), ("what", "is"), ("how", "works")];

/// Whether the message asks what this system is, does, or can do.
fn asks_for_help(words: &Words) -> bool {
    words.have(&[
        "help",
        "what can you do",
        "what you can do",
        "what do you do",
        "what you do",
        "how do you work",
        "how you work",
        "how does this work",
        "how this works",
        "what this does",
        "who are you",
        "what are you",
    ]) || words.end_with(&["what is this", "what s this"])
        || SUBJECTS.iter().any(|subject| {
            let before = QUESTIONS_BEFORE.iter();
            let around = QUESTIONS_AROUND.iter();
            before
                .map(|question| format!("{question} {subject}"))
                .chain(around.map(|(start, end)| format!("{start} {subject} {end}")))
                .any(|phrase| words.have(&[&phrase]))
        })
}

/// What the mock says when it has nothing to say.
fn honest_reply(text: &str, number: usize) -> String {
    let heard = match number {
        1 => "You said".to_owned(),
        number => format!("This is your message number {number}; you said"),
    };
    format!(
        "{heard} \"{}\". I am only a mock model and do not understand more than a few requests: \
         balances, orders, invoices and the knowledge base. Say \"help\" to see them. For real \
         answers, set OPENAI_API_KEY or GROQ_API_KEY and start the server again.",
        quoted(text)
    )
}

/// The words of a message in lower case, with a space around each.
struct Words(String);

impl Words {
    fn of(text: &str) -> Self {
        let words = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase);
        let words: Vec<String> = words.collect();
        Self(format!(" {} ", words.join(" ")))
    }

    fn have(&self, phrases: &[&str]) -> bool {
        let mut phrases = phrases.iter();
        phrases.any(|phrase| self.0.contains(&format!(" {phrase} ")))
    }

    fn end_with(&self, phrases: &[&str]) -> bool {
        let mut phrases = phrases.iter();
        phrases.any(|phrase| self.0.ends_with(&format!(" {phrase} ")))
    }

    fn are(&self, phrases: &[&str]) -> bool {
        phrases.contains(&self.0.trim())
    }
}
