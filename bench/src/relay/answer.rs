//! The relay's client of the model: one request, and the tokens of its stream.

use std::borrow::Cow;

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream::BoxStream};
use reqwest::Client;
use serde::{Deserialize, Serialize};

#[derive(Debug)]
pub(super) struct Model {
    client: Client,
    url: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ChatMessage {
    role: &'static str,
    content: String,
}

impl ChatMessage {
    pub(super) fn new(role: &'static str, content: String) -> Self {
        Self { role, content }
    }

    /// Its line in a transcript.
    pub(super) fn line(&self) -> String {
        format!("{}: {}\n", self.role, self.content)
    }
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'static str,
    messages: &'a [ChatMessage],
    stream: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
}

impl Model {
    pub(super) fn new(base_url: &str) -> Result<Self> {
        Ok(Self {
            client: Client::builder().tcp_nodelay(true).build()?,
            url: format!("{base_url}/chat/completions"),
        })
    }

    pub(super) async fn ask(&self, messages: &[ChatMessage]) -> Result<Answer> {
        let request = Request {
            model: "gpt-4o-mini",
            messages,
            stream: true,
        };
        let response = self.client.post(&self.url).json(&request).send().await?;
        Ok(Answer {
            stream: response.error_for_status()?.bytes_stream().boxed(),
            received: Vec::new(),
        })
    }
}

/// An answer on its way.
pub(super) struct Answer {
    stream: BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    received: Vec<u8>,
}

impl Answer {
    /// Passes the tokens that come with the next read to `take`; `false` at the end.
    pub(super) async fn next(&mut self, mut take: impl FnMut(&str)) -> Result<bool> {
        let Some(bytes) = self.stream.next().await else {
            return Ok(false);
        };
        self.received.extend_from_slice(&bytes?);
        let mut start = 0;
        while let Some(length) = memchr::memmem::find(&self.received[start..], b"\n\n") {
            let event = &self.received[start..start + length];
            start += length + 2;
            let content = event.strip_prefix(b"data: ").context("an event has data")?;
            if content == b"[DONE]" {
                continue;
            }
            let event: Event<'_> = serde_json::from_slice(content)?;
            let delta = event.choices.into_iter().next().map(|choice| choice.delta);
            if let Some(text) = delta.and_then(|delta| delta.content)
                && !text.is_empty()
            {
                take(&text);
            }
        }
        self.received.drain(..start);
        Ok(true)
    }
}
