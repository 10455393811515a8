//! Makes a session's summary from its log.
//!
//! The transcript is data: it goes to the model as one message, with no tools to call.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use duologue_protocol::{CallId, EventBody, Seq, Timestamp, ToolOutcome};
use futures_util::StreamExt;
use serde_json::Value;

use crate::{
    engine::Context,
    jobs::{JobError, Summary},
    log::for_each_event,
    provider::{Chunk, Message, ProviderError, Purpose, Request, attempt},
    store::{Hold, Job},
};

/// What is kept of a session in which nobody said anything. No model is asked for it.
const NOTHING_SAID: &str = "- Nothing was said.";

/// Reads the session's log and sums it up.
pub(super) async fn make(context: &Context, job: &Job) -> Result<Summary, JobError> {
    let (text, last_occurred_at) = read(context, job).await?;
    let text = match text {
        None => NOTHING_SAID.to_owned(),
        Some(transcript) => ask(context, transcript).await?,
    };
    Ok(Summary {
        text,
        last_occurred_at,
    })
}

/// The transcript, or `None` if the user said nothing, and when the log's last event happened.
async fn read(context: &Context, job: &Job) -> Result<(Option<String>, Timestamp), JobError> {
    let hold = Hold {
        session_id: job.session_id.clone(),
        user_id: job.user_id.clone(),
        epoch: 0,
    };
    let mut lines = Vec::new();
    let mut calls = HashMap::new();
    let mut anything_said = false;
    let mut last_occurred_at = Timestamp::UNIX_EPOCH;
    for_each_event(&*context.store, &hold, Seq::ZERO, |event| {
        if event.seq <= job.last_seq {
            anything_said |= matches!(event.body, EventBody::UserMessage(_));
            last_occurred_at = event.occurred_at;
            lines.extend(line(event.body, &mut calls));
        }
    })
    .await?;
    let transcript = latest(&lines, context.limits.jobs.transcript_bytes_max as usize);
    Ok((anything_said.then_some(transcript), last_occurred_at))
}

/// What one event adds to the transcript. A call is told together with its result.
fn line(body: EventBody, calls: &mut HashMap<CallId, Value>) -> Option<String> {
    match body {
        EventBody::UserMessage(message) => Some(format!("user: {}\n", message.text)),
        EventBody::AssistantMessage(answer) if !answer.text.is_empty() => {
            Some(format!("assistant: {}\n", answer.text))
        }
        EventBody::ToolCall(call) => {
            calls.insert(call.call_id, call.arguments);
            None
        }
        EventBody::ToolResult(result) => {
            let arguments = calls.remove(&result.call_id).unwrap_or_default();
            let outcome = match result.outcome {
                ToolOutcome::Result(value) => value.to_string(),
                ToolOutcome::Error(why) => format!("error: {why}"),
            };
            Some(format!("tool {}({arguments}): {outcome}\n", result.name))
        }
        _ => None,
    }
}

/// The last lines that fit. An ending says more about a session than its beginning.
fn latest(lines: &[String], bytes_max: usize) -> String {
    let mut bytes = 0;
    let fitting = lines.iter().rev().take_while(|line| {
        bytes += line.len();
        bytes <= bytes_max
    });
    let skipped = lines.len() - fitting.count();
    let mut transcript = String::new();
    if skipped > 0 {
        writeln!(transcript, "({skipped} earlier lines left out)")
            .expect("writing to a string does not fail");
    }
    transcript.extend(lines[skipped..].iter().map(String::as_str));
    transcript
}

async fn ask(context: &Context, transcript: String) -> Result<String, JobError> {
    let request = Request {
        purpose: Purpose::Summary,
        system: Arc::clone(context.agent.summary_prompt()),
        messages: vec![Message::User(transcript.into())],
        tools: Vec::new(),
        output_tokens_max: context.limits.turn.output_tokens_max,
    };
    let bytes_max = context.limits.jobs.summary_bytes_max as usize;
    let limits = context.limits.generation.clone();
    let mut chunks = attempt::generate(Arc::clone(&context.provider), request, limits);
    let mut summary = String::new();
    while let Some(chunk) = chunks.next().await {
        match chunk.map_err(refused_or_later)? {
            Chunk::Text(text) => summary.push_str(&text),
            Chunk::Call(_) | Chunk::Progress => {}
            Chunk::Finished { .. } => break,
        }
        if summary.len() > bytes_max {
            break;
        }
    }
    let end = (0..=bytes_max.min(summary.len()))
        .rev()
        .find(|&at| summary.is_char_boundary(at));
    summary.truncate(end.unwrap_or(0));
    if summary.trim().is_empty() {
        return Err(JobError::Retry("the model's summary was empty".into()));
    }
    Ok(summary)
}

/// Even a refusal may be mended by an operator (a wrong key), so all but that are tried again soon,
/// and that as well: the number of attempts is bounded.
fn refused_or_later(error: ProviderError) -> JobError {
    JobError::Retry(error.into())
}
