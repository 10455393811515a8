//! A bounded queue from many senders to one receiver, which is small while it is empty.
//!
//! A session is idle most of the time, and a channel of tokio allocates about 800 bytes in advance. This
//! queue has one lock and allocates a buffer when something is sent. A sender can reserve a place, so
//! that it can send later although the queue is full.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tokio::{sync::Notify, task::coop::cooperative};

use crate::lock::lock;

/// The largest buffer that an empty queue keeps for the next items.
const KEPT_ITEMS: usize = 4;

/// A sending end.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The receiving end. Dropping it closes the queue and drops its items.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Shared<T>>);

/// A reserved place. Dropping it releases the place.
#[derive(Debug)]
pub(super) struct Permit<T> {
    shared: Arc<Shared<T>>,
    is_used: bool,
}

/// Why an item could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// All places are taken or reserved.
    Full,
    /// The receiver accepts no more items.
    Closed,
}

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    /// Notifies those that wait until the queue is closed.
    closed: Notify,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    reserved: usize,
    places: usize,
    state: State,
    /// Of the receiver that waits for an item.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Only those that have reserved a place can send.
    Closed,
    /// The receiver is gone.
    Abandoned,
}

/// Makes the two ends of a queue with this many places.
pub(super) fn channel<T>(places: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue {
            items: VecDeque::new(),
            reserved: 0,
            places,
            state: State::Open,
            waker: None,
        }),
        closed: Notify::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Sends an item, and never waits.
    pub(super) fn try_send(&self, item: T) -> Result<(), SendError> {
        let mut queue = lock(&self.0.queue);
        queue.check_room()?;
        let waker = queue.push(item);
        drop(queue);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Whether the receiver accepts no more items.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.0.queue).state != State::Open
    }

    /// Waits until the receiver accepts no more items.
    pub(super) async fn closed(&self) {
        // Created before the check, so it receives a notification that is sent after it.
        let closed = self.0.closed.notified();
        if !self.is_closed() {
            closed.await;
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Receiver<T> {
    /// Waits for the next item; forever if the queue is closed and nobody sends what is reserved. Safe to
    /// cancel.
    pub(super) async fn receive(&mut self) -> T {
        cooperative(poll_fn(|context| self.poll_receive(context))).await
    }

    fn poll_receive(&self, context: &mut Context<'_>) -> Poll<T> {
        let mut queue = lock(&self.0.queue);
        if let Some(item) = queue.pop() {
            return Poll::Ready(item);
        }
        match &mut queue.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// The next item, if there is one.
    pub(super) fn try_receive(&mut self) -> Option<T> {
        lock(&self.0.queue).pop()
    }

    /// A sending end.
    pub(super) fn sender(&self) -> Sender<T> {
        Sender(Arc::clone(&self.0))
    }

    /// Reserves a place.
    pub(super) fn reserve(&self) -> Result<Permit<T>, SendError> {
        let mut queue = lock(&self.0.queue);
        queue.check_room()?;
        queue.reserved += 1;
        Ok(Permit {
            shared: Arc::clone(&self.0),
            is_used: false,
        })
    }

    /// Accepts no more items, except from those that have reserved a place.
    pub(super) fn close(&mut self) {
        let mut queue = lock(&self.0.queue);
        if queue.state == State::Open {
            queue.state = State::Closed;
        }
        drop(queue);
        self.0.closed.notify_waiters();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.state = State::Abandoned;
        let items = std::mem::take(&mut queue.items);
        let waker = queue.waker.take();
        drop(queue);
        self.0.closed.notify_waiters();
        // Not under the lock: dropping them runs code of others.
        drop((items, waker));
    }
}

impl<T> Permit<T> {
    /// Sends an item. If the receiver is gone, the item is dropped.
    pub(super) fn send(mut self, item: T) {
        self.is_used = true;
        let mut queue = lock(&self.shared.queue);
        queue.reserved -= 1;
        if queue.state == State::Abandoned {
            return;
        }
        let waker = queue.push(item);
        drop(queue);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Permit<T> {
    fn drop(&mut self) {
        if !self.is_used {
            lock(&self.shared.queue).reserved -= 1;
        }
    }
}

impl<T> Queue<T> {
    fn check_room(&self) -> Result<(), SendError> {
        if self.state != State::Open {
            return Err(SendError::Closed);
        }
        if self.items.len() + self.reserved >= self.places {
            return Err(SendError::Full);
        }
        Ok(())
    }

    /// Adds an item, and returns the waker of a receiver that waits for it.
    fn push(&mut self, item: T) -> Option<Waker> {
        self.items.push_back(item);
        self.waker.take()
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front();
        if self.items.is_empty() && self.items.capacity() > KEPT_ITEMS {
            self.items = VecDeque::new();
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn items_arrive_in_order_and_wake_the_receiver() {
        let (sender, mut receiver) = channel(100);
        let sending = async {
            for item in 0..100 {
                sender.try_send(item).unwrap();
                if item % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let receiving = async {
            for item in 0..100 {
                assert_eq!(receiver.receive().await, item);
            }
        };
        tokio::join!(receiving, sending);
    }

    /// Senders on other threads, at full speed: no wake-up is lost, and each one's items stay in order.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn no_wake_up_is_lost() {
        const SENDERS: usize = 4;
        const ITEMS: usize = 5_000;
        let (sender, mut receiver) = channel(8);
        let mut senders = tokio::task::JoinSet::new();
        for number in 0..SENDERS {
            let sender = sender.clone();
            senders.spawn(async move {
                for item in 0..ITEMS {
                    while sender.try_send((number, item)) == Err(SendError::Full) {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        let mut next = [0; SENDERS];
        for _ in 0..SENDERS * ITEMS {
            let waiting = timeout(Duration::from_secs(30), receiver.receive());
            let (number, item) = waiting.await.expect("the receiver is woken");
            assert_eq!(item, next[number]);
            next[number] += 1;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_receive_loses_nothing() {
        let (sender, mut receiver) = channel(1);
        let waiting = timeout(Duration::from_secs(1), receiver.receive());
        waiting.await.unwrap_err();
        sender.try_send(1).unwrap();
        assert_eq!(receiver.receive().await, 1);
    }

    #[test]
    fn a_reserved_place_is_kept_and_given_back() {
        let (sender, mut receiver) = channel(1);
        let permit = receiver.reserve().unwrap();
        assert_eq!(sender.try_send(1), Err(SendError::Full));
        assert_eq!(receiver.reserve().unwrap_err(), SendError::Full);
        permit.send(2);
        assert_eq!(sender.try_send(1), Err(SendError::Full));
        assert_eq!(receiver.try_receive(), Some(2));
        drop(receiver.reserve().unwrap());
        assert_eq!(sender.try_send(1), Ok(()));
    }

    #[test]
    fn a_closed_queue_accepts_only_what_was_reserved() {
        let (sender, mut receiver) = channel(8);
        let permit = receiver.reserve().unwrap();
        sender.try_send(1).unwrap();
        receiver.close();
        assert!(sender.is_closed());
        assert_eq!(sender.try_send(2), Err(SendError::Closed));
        assert_eq!(receiver.reserve().unwrap_err(), SendError::Closed);
        permit.send(3);
        assert_eq!(receiver.try_receive(), Some(1));
        assert_eq!(receiver.try_receive(), Some(3));
        assert_eq!(receiver.try_receive(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_end_is_over_after_close_and_after_drop() {
        for is_closed_first in [false, true] {
            let (sender, mut receiver) = channel::<Arc<()>>(8);
            let permit = receiver.reserve().unwrap();
            let item = Arc::new(());
            sender.try_send(Arc::clone(&item)).unwrap();
            let ending = async {
                tokio::task::yield_now().await;
                if is_closed_first {
                    receiver.close();
                    tokio::task::yield_now().await;
                }
                drop(receiver);
            };
            let waiting = timeout(Duration::from_secs(1), sender.closed());
            let (waited, ()) = tokio::join!(waiting, ending);
            waited.unwrap();
            permit.send(Arc::clone(&item));
            assert_eq!(Arc::strong_count(&item), 1, "items are dropped");
            sender.closed().await;
        }
    }

    #[test]
    fn an_empty_queue_keeps_no_large_buffer() {
        let (sender, mut receiver) = channel(100);
        for item in 0..100 {
            sender.try_send(item).unwrap();
        }
        while receiver.try_receive().is_some() {}
        assert!(lock(&receiver.0.queue).items.capacity() <= KEPT_ITEMS);
        assert!(size_of::<Shared<Box<()>>>() <= 160);
    }
}
