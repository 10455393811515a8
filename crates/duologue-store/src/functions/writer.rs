//! The one task that sends the writes of all sessions.
//!
//! The writes that arrive while a batch is on its way are the next batch: one call, one round trip, one commit. A
//! lone write is sent at once, unless nobody waits for it: jobs are claimed and finished by the dozen, or else each
//! of them would pay for a call of its own. A caller has a reply channel and never a
//! connection, so a caller that is not polled delays nobody, and one that gave up does not interrupt a batch.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use duologue_engine::store::StoreError;
use duologue_protocol::SessionId;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    batch::{self, Answer, Kind, Locked, Write},
    call::{CallFailure, FunctionCaller},
    round_trip::RoundTrip,
};
use crate::StoreConfig;

/// The size of a batch, in bytes of its writes. A write that is larger is sent alone.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How long a write that is not urgent ([`Kind::is_urgent`]) waits for others. A summary took seconds before.
const GATHERING_TIME: Duration = Duration::from_millis(10);

/// How soon a write is sent again whose row was locked.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(5);

/// A handle of the writer's task.
pub(super) struct BatchWriter {
    queue: mpsc::Sender<Write>,
    queue_timeout: Duration,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// What bounds the writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimits {
    /// Writes in one batch.
    pub(super) batch_max: usize,
    /// Writes that wait in the channel, and as many again that wait in the task.
    pub(super) queue_max: usize,
    /// How long a write waits for its batch.
    pub(super) queue_timeout: Duration,
    /// How long a write is repeated while its row is locked.
    pub(super) lock_timeout: Duration,
}

impl BatchLimits {
    pub(super) fn of(config: &StoreConfig) -> Self {
        Self {
            batch_max: usize::from(config.batch_max.get()),
            queue_max: usize::from(config.queue_max.get()).div_ceil(2),
            queue_timeout: config.acquire_timeout,
            lock_timeout: config.lock_timeout,
        }
    }
}

impl BatchWriter {
    /// Starts the task.
    pub(super) fn start<C: FunctionCaller>(
        caller: Arc<C>,
        limits: BatchLimits,
        round_trip: Arc<RoundTrip>,
    ) -> Self {
        let (queue, arriving) = mpsc::channel(limits.queue_max);
        let closing = CancellationToken::new();
        let task = Task {
            caller,
            limits,
            arriving,
            closing: closing.clone(),
            gathering: Vec::new(),
            gathered_at: None,
            waiting: VecDeque::new(),
            on_their_way: FuturesUnordered::new(),
            busy: HashSet::new(),
            round_trip,
        };
        let tasks = TaskTracker::new();
        tasks.spawn(task.run());
        Self {
            queue,
            queue_timeout: limits.queue_timeout,
            closing,
            tasks,
        }
    }

    /// Carries out a write with one of the next batches, and returns its answer once that is committed.
    pub(super) async fn write(
        &self,
        kind: Kind,
        session: Option<&SessionId>,
        item: String,
    ) -> Result<Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let waits_until = Instant::now() + self.queue_timeout;
        let write = Write {
            kind,
            item,
            session: session.cloned(),
            waits_until,
            lock: None,
            reply,
        };
        match timeout_at(waits_until, self.queue.send(write)).await {
            Ok(Ok(())) => answer
                .await
                .unwrap_or_else(|_| Err(unavailable("the writer has ended"))),
            Ok(Err(_)) => Err(unavailable("the store is closed")),
            Err(_) => Err(unavailable(QUEUE_FULL)),
        }
    }

    /// Carries out what is queued, and ends the task.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

const QUEUE_FULL: &str = "too many writes wait for the database";

fn unavailable(why: &'static str) -> StoreError {
    StoreError::Unavailable(why.into())
}

struct Task<C> {
    caller: Arc<C>,
    limits: BatchLimits,
    arriving: mpsc::Receiver<Write>,
    closing: CancellationToken,
    /// Those that are not urgent, until they are gathered.
    gathering: Vec<Write>,
    gathered_at: Option<Instant>,
    /// Oldest first.
    waiting: VecDeque<Write>,
    on_their_way: FuturesUnordered<BoxFuture<'static, Sent>>,
    /// The sessions of the batches on their way.
    busy: HashSet<SessionId>,
    round_trip: Arc<RoundTrip>,
}

/// A batch that has come back.
struct Sent {
    sessions: Vec<SessionId>,
    locked: Vec<Write>,
}

impl<C: FunctionCaller> Task<C> {
    async fn run(mut self) {
        let mut is_open = true;
        loop {
            self.gather(is_open);
            self.expire();
            self.send();
            if !is_open && self.waiting.is_empty() && self.on_their_way.is_empty() {
                return;
            }
            let queued = self.gathering.len() + self.waiting.len();
            let room = self.limits.queue_max.saturating_sub(queued);
            let wake_at = self.wake_at();
            let mut arrived = Vec::new();
            tokio::select! {
                biased;
                () = self.closing.cancelled(), if !self.arriving.is_closed() => self.arriving.close(),
                Some(sent) = self.on_their_way.next() => self.settle(sent),
                count = self.arriving.recv_many(&mut arrived, room), if is_open && room > 0 => {
                    is_open = count > 0;
                    self.accept(arrived);
                }
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
        }
    }

    fn accept(&mut self, arrived: Vec<Write>) {
        for write in arrived {
            if write.kind.is_urgent() {
                self.waiting.push_back(write);
            } else {
                self.gathered_at
                    .get_or_insert_with(|| Instant::now() + GATHERING_TIME);
                self.gathering.push(write);
            }
        }
    }

    /// Lets the gathered writes go, in time or when no more arrive.
    fn gather(&mut self, is_open: bool) {
        if !is_open || self.gathered_at.is_some_and(|at| at <= Instant::now()) {
            self.gathered_at = None;
            self.waiting.extend(self.gathering.drain(..));
        }
    }

    /// Sends what may be sent now. A database that is near has one batch at a time: a second one would only make
    /// both smaller, and a write in a small batch costs more. Where batches travel for long, the next one does not
    /// wait for the one before.
    fn send(&mut self) {
        let batches_max = if self.round_trip.is_long() { 2 } else { 1 };
        while self.on_their_way.len() < batches_max {
            let writes = self.next_batch();
            if writes.is_empty() {
                return;
            }
            let sessions: Vec<_> = writes
                .iter()
                .filter_map(|write| write.session.clone())
                .collect();
            let (caller, lock_timeout) = (Arc::clone(&self.caller), self.limits.lock_timeout);
            let sent = async move {
                let locked = send(&*caller, writes, lock_timeout).await;
                Sent { sessions, locked }
            };
            self.on_their_way.push(sent.boxed());
        }
    }

    /// Takes the writes of the next batch, sorted by kind. Those whose callers have gone are dropped.
    fn next_batch(&mut self) -> Vec<Write> {
        let now = Instant::now();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut left = VecDeque::new();
        // Sessions of which a write stays here: those that follow must not overtake it.
        let mut held_back = HashSet::new();
        let mut has_drafts = false;
        while let Some(write) = self.waiting.pop_front() {
            if write.reply.is_closed() {
                continue;
            }
            let is_full = batch.len() >= self.limits.batch_max
                || (!batch.is_empty() && bytes + write.item.len() > BATCH_BYTES_MAX);
            if is_full {
                left.push_back(write);
                break;
            }
            let is_due = write.lock.is_none_or(|lock| lock.retry_at <= now);
            let is_free = match &write.session {
                Some(session) => !held_back.contains(session) && !self.busy.contains(session),
                // Two sets may have a draft of the same session.
                None => write.kind != Kind::Drafts || !has_drafts,
            };
            if !is_due || !is_free {
                held_back.extend(write.session.clone());
                left.push_back(write);
                continue;
            }
            has_drafts |= write.kind == Kind::Drafts;
            self.busy.extend(write.session.clone());
            bytes += write.item.len();
            batch.push(write);
        }
        left.append(&mut self.waiting);
        self.waiting = left;
        batch.sort_by_key(|write| write.kind);
        batch
    }

    fn settle(&mut self, sent: Sent) {
        for session in &sent.sessions {
            self.busy.remove(session);
        }
        // Before all others, since they came first.
        for write in sent.locked.into_iter().rev() {
            self.waiting.push_front(write);
        }
    }

    /// Gives up writes that waited too long.
    fn expire(&mut self) {
        let now = Instant::now();
        if self.expires_at().is_none_or(|at| at > now) {
            return;
        }
        let waiting = self.waiting.drain(..);
        let (over, waiting): (Vec<_>, Vec<_>) =
            waiting.partition(|write| write.expires_at() <= now);
        self.waiting = waiting.into();
        for write in over {
            let why = match write.lock {
                Some(_) => "the row is locked by another transaction",
                None => QUEUE_FULL,
            };
            // The caller may have gone.
            let _ = write.reply.send(Err(unavailable(why)));
        }
    }

    /// Those whose rows are locked come first, in no order, and all others in the order of their expiry.
    fn expires_at(&self) -> Option<Instant> {
        let locked = self.waiting.iter().take_while(|write| write.lock.is_some());
        let locked = locked.map(Write::expires_at).min();
        let other = self.waiting.iter().find(|write| write.lock.is_none());
        locked.into_iter().chain(other.map(Write::expires_at)).min()
    }

    /// When there is something to do even if nothing arrives.
    fn wake_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let locks = self.waiting.iter().map_while(|write| write.lock);
        // One that is due already waits for a batch to come back.
        let retry_at = locks.map(|lock| lock.retry_at).filter(|at| *at > now).min();
        let known = [self.gathered_at, retry_at, self.expires_at()];
        known.into_iter().flatten().min()
    }
}

/// Sends writes, sorted by kind, and answers their callers. Returns the writes whose rows are locked.
///
/// One write that the database rejects would fail the whole batch. So a rejected batch is divided until that
/// write is alone.
async fn send(
    caller: &impl FunctionCaller,
    writes: Vec<Write>,
    lock_timeout: Duration,
) -> Vec<Write> {
    let mut locked = Vec::new();
    let mut parts = vec![writes];
    while let Some(mut writes) = parts.pop() {
        match caller.call(&batch::call(&writes)).await {
            Ok(answers) => {
                for (mut write, answer) in batch::answered(writes, answers) {
                    if batch::is_locked(&answer) {
                        write.lock = Some(lock(write.lock, lock_timeout));
                        locked.push(write);
                    } else {
                        // The caller may have gone.
                        let _ = write.reply.send(Ok(answer));
                    }
                }
            }
            Err(CallFailure::Rejected(_)) if writes.len() > 1 => {
                let second = writes.split_off(writes.len() / 2);
                parts.extend([second, writes]);
            }
            // What must not be repeated has failed, and the rest is repeated.
            Err(CallFailure::Lost(cause)) => {
                let (lost, rest): (Vec<_>, Vec<_>) =
                    writes.into_iter().partition(batch::takes_more);
                fail(lost, CallFailure::Lost(cause));
                if !rest.is_empty() {
                    parts.push(rest);
                }
            }
            Err(failure) => fail(writes, failure),
        }
    }
    locked
}

/// How long a write is sent again whose row is locked, for the first time or once more.
fn lock(before: Option<Locked>, timeout: Duration) -> Locked {
    let now = Instant::now();
    Locked {
        retry_at: now + LOCK_RETRY_DELAY,
        deadline: before.map_or(now + timeout, |lock| lock.deadline),
    }
}

/// Answers all callers with the same failure.
fn fail(writes: Vec<Write>, failure: CallFailure) {
    if let [_, _, ..] = &*writes {
        tracing::warn!(
            error = &failure as &dyn std::error::Error,
            writes = writes.len(),
            "store.batch_failed"
        );
    }
    let failure = Arc::new(failure);
    for write in writes {
        // The caller may have gone.
        let _ = write.reply.send(Err(failure.share()));
    }
}
