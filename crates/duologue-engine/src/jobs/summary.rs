//! Makes a session's summary from its log.
//!
//! The transcript is data: it goes to the model as one message, with no tools to call.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    sync::Arc,
};

use duologue_protocol::{CallId, EventBody, Timestamp, ToolOutcome};
use futures_util::StreamExt;
use serde_json::Value;

use crate::{
    context::Context,
    jobs::error::JobError,
    log::for_each_event,
    provider::{Chunk, Message, ProviderError, Purpose, Request, attempt},
    store::Job,
    turn::usage_meter::UsageMeter,
};

/// The summary of a session without messages. No model is asked for it.
const NOTHING_SAID: &str = "- Nothing was said.";

/// A summary, and when the last event of its log occurred, which it must not come before.
pub(super) struct Summary {
    pub(super) text: String,
    pub(super) last_occurred_at: Timestamp,
}

/// Reads the session's log and summarises it.
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

/// The transcript, or `None` if the user sent nothing, and when the log's last event occurred.
async fn read(context: &Context, job: &Job) -> Result<(Option<String>, Timestamp), JobError> {
    let mut lines = LastLines::new(context.limits.jobs.transcript_bytes_max as usize);
    let mut calls = HashMap::new();
    let mut anything_said = false;
    let mut last_occurred_at = Timestamp::UNIX_EPOCH;
    let owner = (&job.user_id, &job.session_id);
    for_each_event(&*context.store, owner, job.last_seq, |event| {
        anything_said |= matches!(event.body, EventBody::UserMessage(_));
        last_occurred_at = event.occurred_at;
        if let Some(line) = line(event.body, &mut calls) {
            lines.push(line);
        }
    })
    .await?;
    let transcript = anything_said.then(|| lines.into_text());
    Ok((transcript, last_occurred_at))
}

/// What one event adds to the transcript. A call is shown together with its result.
fn line(body: EventBody, calls: &mut HashMap<CallId, Value>) -> Option<String> {
    match body {
        EventBody::UserMessage(message) => Some(format!("user: {}\n", indented(&message.text))),
        EventBody::AssistantMessage(answer) if !answer.text.is_empty() => {
            Some(format!("assistant: {}\n", indented(&answer.text)))
        }
        EventBody::ToolCall(call) => {
            calls.insert(call.call_id, call.arguments);
            None
        }
        EventBody::ToolResult(result) => {
            let arguments = calls.remove(&result.call_id).unwrap_or_default();
            let outcome = match result.outcome {
                ToolOutcome::Result(value) => value.to_string(),
                ToolOutcome::Error(why) => format!("error: {}", indented(&why)),
            };
            Some(format!("tool {}({arguments}): {outcome}\n", result.name))
        }
        _ => None,
    }
}

/// Indents further lines, so that no text can imitate the start of another speaker's line.
fn indented(text: &str) -> String {
    text.replace('\n', "\n  ")
}

/// The last lines of a transcript, as many as fit: the end of a session says more about it than the
/// start. A log may be far longer.
struct LastLines {
    lines: VecDeque<String>,
    bytes: usize,
    bytes_max: usize,
    left_out: usize,
}

impl LastLines {
    fn new(bytes_max: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            bytes_max,
            left_out: 0,
        }
    }

    fn push(&mut self, mut line: String) {
        if line.len() > self.bytes_max {
            let end = line.ceil_char_boundary(line.len() - self.bytes_max);
            line.replace_range(..end, "(cut) … ");
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > self.bytes_max
            && self.lines.len() > 1
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
            self.left_out += 1;
        }
    }

    fn into_text(self) -> String {
        let mut text = String::new();
        if self.left_out > 0 {
            writeln!(text, "({} earlier lines left out)", self.left_out)
                .expect("writing to a string does not fail");
        }
        text.extend(self.lines);
        text
    }
}

async fn ask(context: &Context, transcript: String) -> Result<String, JobError> {
    let request = Request {
        purpose: Purpose::Summary,
        system: Arc::clone(context.agent.summary_prompt()),
        messages: vec![Message::User(transcript.into())],
        tools: Vec::new(),
        output_tokens_max: context.limits.turn.output_tokens_max,
    };
    if !context.budgets.may_spend(context.clock.now()) {
        return Err(JobError::Retry(
            "the server's tokens of the day are used up".into(),
        ));
    }
    let mut spent = SummaryCharge::new(context, &request);
    let bytes_max = context.limits.jobs.summary_bytes_max as usize;
    let limits = context.limits.generation.clone();
    let mut chunks = attempt::generate(Arc::clone(&context.provider), request, limits);
    let mut summary = String::new();
    while let Some(chunk) = chunks.next().await {
        spent.record(&chunk);
        match chunk.map_err(retry)? {
            Chunk::Text(text) => summary.push_str(&text),
            Chunk::Call(_) | Chunk::Progress => {}
            Chunk::Finished { .. } => break,
        }
        if summary.len() > bytes_max {
            break;
        }
    }
    summary.truncate(summary.floor_char_boundary(bytes_max));
    if summary.trim().is_empty() {
        return Err(JobError::Retry("the model's summary was empty".into()));
    }
    Ok(summary)
}

/// Charges what a summary has used when it is over, however it ends. The server pays, not the user.
struct SummaryCharge<'a> {
    context: &'a Context,
    spent: UsageMeter,
}

impl<'a> SummaryCharge<'a> {
    fn new(context: &'a Context, request: &Request) -> Self {
        let mut spent = UsageMeter::default();
        spent.ask(request);
        Self { context, spent }
    }

    fn record(&mut self, chunk: &Result<Chunk, ProviderError>) {
        match chunk {
            Ok(chunk) => self.spent.record(chunk),
            Err(_) => self.spent.fail(),
        }
    }
}

impl Drop for SummaryCharge<'_> {
    fn drop(&mut self) {
        if let Some(usage) = self.spent.total() {
            let now = self.context.clock.now();
            self.context.budgets.spent(usage.total(), now);
        }
    }
}

/// Every failure is tried again, even a refusal: an operator may fix its cause (a wrong key), and the
/// number of attempts is bounded.
fn retry(error: ProviderError) -> JobError {
    JobError::Retry(error.into())
}
