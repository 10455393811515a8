//! Providers for what a script cannot say: pace, and panics.

use std::{sync::Arc, time::Duration};

use duologue_engine::provider::{Chunk, Provider, ProviderError, Purpose, Request, StopReason};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

/// Answers everything with so many pieces, one after each interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paced {
    pub(crate) pieces: usize,
    pub(crate) interval: Duration,
}

impl Paced {
    pub(crate) fn boxed(pieces: usize, interval: Duration) -> Arc<Self> {
        Arc::new(Self { pieces, interval })
    }
}

impl Provider for Paced {
    fn model(&self) -> &'static str {
        "paced"
    }

    fn calls_tools(&self) -> bool {
        false
    }

    fn generate(&self, _request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        let Self { pieces, interval } = *self;
        let finished = Chunk::Finished {
            reason: StopReason::Stop,
            usage: None,
        };
        stream::iter(0..pieces)
            .then(move |number| async move {
                tokio::time::sleep(interval).await;
                Ok(Chunk::Text(format!("piece-{number} ").into()))
            })
            .chain(stream::iter([Ok(finished)]))
            .boxed()
    }
}

/// Answers, and panics over a transcript that holds the word `poison`.
#[derive(Debug)]
pub(crate) struct PanicsOverPoison;

impl Provider for PanicsOverPoison {
    fn model(&self) -> &'static str {
        "panicking"
    }

    fn calls_tools(&self) -> bool {
        false
    }

    fn generate(&self, request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        let is_poisoned = request.purpose == Purpose::Summary
            && format!("{:?}", request.messages).contains("poison");
        assert!(!is_poisoned, "the test's provider panics");
        let finished = Chunk::Finished {
            reason: StopReason::Stop,
            usage: None,
        };
        stream::iter([Ok(Chunk::Text("Fine.".into())), Ok(finished)]).boxed()
    }
}
