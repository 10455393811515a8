//! What an endpoint would refuse: conversations whose tool calls and answers do not match.

use duologue_engine::provider::{Message, Request};

/// Panics, saying what is wrong, unless real endpoints would take the conversation.
///
/// Every call has an id of its own and is answered once, after it was made and before anyone else
/// speaks; the last word is a user's or a tool's.
pub(super) fn check(request: &Request) {
    let mut seen: Vec<&str> = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        if let Message::Tool { call_id, .. } = message {
            let call = open.iter().position(|id| id == call_id);
            let Some(call) = call else {
                panic!("message {index} answers `{call_id}`, but no such call is open");
            };
            open.remove(call);
            continue;
        }
        assert!(
            open.is_empty(),
            "message {index} is not an answer, but calls are still open: {open:?}"
        );
        if let Message::Assistant { text, calls } = message {
            assert!(
                !text.is_empty() || !calls.is_empty(),
                "message {index} says nothing and calls nothing"
            );
            for call in calls {
                assert!(!call.id.is_empty(), "a call in message {index} has no id");
                assert!(
                    !seen.contains(&call.id.as_str()),
                    "message {index} uses the call id `{}` again",
                    call.id
                );
                seen.push(&call.id);
                open.push(&call.id);
            }
        }
    }
    assert!(open.is_empty(), "calls are still open: {open:?}");
    assert!(
        matches!(
            request.messages.last(),
            Some(Message::User(_) | Message::Tool { .. })
        ),
        "the last message is neither a user's nor a tool's"
    );
}
