//! The scripted upstream: an endpoint of OpenAI's chat completions that answers what the last message asks for.
//!
//! It writes to its sockets itself, since a benchmark has to determine how many tokens a write contains: an
//! HTTP library would combine what is ready.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};

use crate::script::{Script, Stamp, Token};

/// The summary of every session.
pub(crate) const SUMMARY: &str = "- Tokens were requested and sent.";

const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A running upstream. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    summaries: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let summaries = Arc::new(AtomicU64::new(0));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&summaries)));
        Ok(Self {
            address,
            summaries,
            _accepting: accepting,
        })
    }

    /// The base URL of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many requests for a summary it has answered.
    pub(crate) fn summaries(&self) -> u64 {
        self.summaries.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, summaries: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, for example.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let summaries = Arc::clone(&summaries);
        // The client sees how a connection ends.
        connections.spawn(async move { serve(stream, &summaries).await.unwrap_or_default() });
    }
}

#[derive(Deserialize)]
struct Request {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

async fn serve(mut stream: TcpStream, summaries: &AtomicU64) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::with_capacity(4096);
    while let Some(body) = read_request(&mut stream, &mut received).await? {
        let request: Request = serde_json::from_slice(&body)?;
        let last = request.messages.into_iter().next_back();
        let last = last.and_then(|message| message.content);
        if let Some(script) = last.as_deref().and_then(Script::parse) {
            stream_answer(&mut stream, script).await?;
        } else {
            summaries.fetch_add(1, Ordering::Relaxed);
            let mut events = String::new();
            push_event(&mut events, SUMMARY, "null");
            end_answer(&mut stream, HEAD.to_owned(), events, 1).await?;
        }
    }
    Ok(())
}

/// The body of the next request. What comes after it stays in `received`.
async fn read_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
            let head = std::str::from_utf8(&received[..end])?.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("a request has a length")?.trim().parse()?;
            let (start, end) = (end + 4, end + 4 + length);
            anyhow::ensure!(end <= REQUEST_BYTES_MAX, "the request is too large");
            if received.len() >= end {
                let rest = received.split_off(end);
                let mut body = std::mem::replace(received, rest);
                body.drain(..start);
                return Ok(Some(body));
            }
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

async fn stream_answer(stream: &mut TcpStream, script: Script) -> io::Result<()> {
    let mut head = HEAD.to_owned();
    let mut events = String::with_capacity(512);
    push_event(&mut events, "", "null");
    push_chunk(&mut head, &events);
    stream.write_all(head.as_bytes()).await?;
    let mut chunk = String::with_capacity(512);
    let (mut next, mut due) = (0, Instant::now());
    while next < script.tokens {
        if script.pace.is_zero() {
            // Without this, one answer would be written in long bursts, and read in them.
            tokio::task::yield_now().await;
        } else {
            due += script.pace;
            tokio::time::sleep_until(due).await;
        }
        let end = script.tokens.min(next + script.tokens_per_write);
        events.clear();
        let written = Stamp::now();
        for index in next..end {
            push_event(&mut events, &Token { index, written }.to_string(), "null");
        }
        next = end;
        chunk.clear();
        push_chunk(&mut chunk, &events);
        stream.write_all(chunk.as_bytes()).await?;
    }
    end_answer(stream, String::new(), String::new(), script.tokens).await
}

/// Sends what is left, the end of the answer, its usage and the end of the response.
async fn end_answer(
    stream: &mut TcpStream,
    mut head: String,
    mut events: String,
    tokens: u32,
) -> io::Result<()> {
    push_event(&mut events, "", "\"stop\"");
    write!(
        events,
        "data: {{{ABOUT},\"choices\":[],\"usage\":{{\"prompt_tokens\":20,\
         \"completion_tokens\":{tokens},\"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
        tokens + 20
    )
    .expect("writing to a string cannot fail");
    push_chunk(&mut head, &events);
    head.push_str("0\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}

/// What each event begins with, as OpenAI's do.
const ABOUT: &str = "\"id\":\"chatcmpl-CgWm1GZqk3o8mHkvR0bTxYpQnLs2D\",\
    \"object\":\"chat.completion.chunk\",\"created\":1764288000,\"model\":\"gpt-4o-mini-2024-07-18\",\
    \"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\"";

fn push_event(events: &mut String, content: &str, finish_reason: &str) {
    let delta = if finish_reason == "null" {
        format!("{{\"content\":\"{content}\"}}")
    } else {
        "{}".to_owned()
    };
    write!(
        events,
        "data: {{{ABOUT},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\
         \"finish_reason\":{finish_reason}}}],\"usage\":null}}\n\n"
    )
    .expect("writing to a string cannot fail");
}

/// Appends one chunk of HTTP's chunked coding.
fn push_chunk(text: &mut String, content: &str) {
    write!(text, "{:x}\r\n{content}\r\n", content.len()).expect("writing to a string cannot fail");
}
