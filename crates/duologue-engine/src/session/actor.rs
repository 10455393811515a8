//! The actor of a session: waits for what happens next, and dispatches it.
//!
//! [`Session::run`] is the only code that changes a session. It handles commands of readers, events of
//! the running turn, and deadlines, one at a time.

mod attachment;
mod inputs;
mod message;
#[cfg(feature = "testing")]
pub mod replay;
mod storage;
mod termination;
mod turn;

use std::{pin::pin, sync::Arc};

use duologue_protocol::{
    ClientFrame, ConnectionId, EndReason, ErrorCode, Event, FinishReason, ServerFrame,
};
use tokio::time::Instant;

use self::inputs::{Input, Inputs};
use crate::{
    context::Context,
    error_frames::refusal,
    leases::LeaseGuard,
    rearmed_timer::RearmedTimer,
    session::{
        budget::SessionBudget,
        exit::SessionExit,
        facts::SessionFacts,
        inbox::{ClientRequest, Command, Inbox},
        journal::Journal,
        lifecycle::{Deadline, Lifecycle},
        readers::Readers,
        recovery::OpenedSession,
        turn_slot::{TurnEvent, TurnSlot},
    },
    store::{Draft, StoreError},
};

/// A session, owned by its task.
pub(super) struct Session {
    context: Arc<Context>,
    lease_guard: LeaseGuard,
    journal: Journal,
    budget: SessionBudget,
    inbox: Inbox,
    inputs: Inputs,
    readers: Readers,
    turn: TurnSlot,
    lifecycle: Lifecycle,
    /// For whatever the task waits for.
    timer: RearmedTimer,
    facts: SessionFacts,
    /// Whether the session had ended, and the next reader reopens it.
    reopened: bool,
    /// What the last holder saved of an answer in progress.
    left_draft: Option<Draft>,
    /// The events that started the log, until the first reader attaches: they include its arrival.
    first_arrival: Option<Vec<Event>>,
}

impl Session {
    pub(super) fn new(context: Arc<Context>, opened: OpenedSession, inbox: Inbox) -> Self {
        let OpenedSession {
            claimed,
            lease_guard,
            transcript,
            user_budget,
            grace,
            first_arrival,
        } = opened;
        let limits = &context.limits.session;
        let times = (limits.resume_grace, limits.idle_timeout);
        Self {
            lease_guard,
            journal: Journal::new(&context, claimed.lease, transcript),
            budget: SessionBudget::new(Arc::clone(&context), user_budget),
            inbox,
            inputs: Inputs::default(),
            readers: Readers::default(),
            turn: TurnSlot::default(),
            lifecycle: Lifecycle::new(times, grace, Instant::now()),
            timer: RearmedTimer::default(),
            facts: SessionFacts {
                agent: claimed.session.agent,
                log_id: claimed.session.log_id,
            },
            reopened: claimed.reopened,
            left_draft: claimed.draft,
            first_arrival,
            context,
        }
    }

    /// The whole life of the task, and its orderly end.
    pub(super) async fn live(mut self: Box<Self>) {
        let exit = match Box::pin(self.recover_turn()).await {
            Ok(()) => self.run().await,
            Err(exit) => exit,
        };
        Box::pin(self.close(exit)).await;
    }

    /// Runs until the session ends or is released. Everything that can happen to it is an arm below.
    ///
    /// An idle session only waits here, so what handles an event is boxed: its memory is used while it runs.
    async fn run(&mut self) -> SessionExit {
        // Each poll of a signal locks its token, so the session has its own, and waits for them once.
        let drain = self.context.drain.child_token();
        let stop = self.context.stop.child_token();
        let lost = self.lease_guard.lost();
        let (mut drained, mut stopped) = (pin!(drain.cancelled()), pin!(stop.cancelled()));
        let mut lost = pin!(lost.cancelled());
        loop {
            let deadline = self.lifecycle.next_deadline(self.turn.is_running());
            let result = tokio::select! {
                biased;
                () = &mut lost => Err(SessionExit::Failed(StoreError::Conflict)),
                () = &mut stopped, if !self.turn.is_interrupted() => self.interrupt(),
                () = &mut drained, if !self.lifecycle.is_draining() => self.start_draining(),
                input = self.inputs.next(&mut self.inbox, &mut self.turn) => match input {
                    Input::Command(command) => {
                        Box::pin(self.handle_command(command)).await
                    }
                    Input::Turn(event) => Box::pin(self.handle_turn_event(event)).await,
                },
                deadline = elapsed(&mut self.timer, deadline) => {
                    Box::pin(self.handle_deadline(deadline)).await
                }
            };
            if let Err(exit) = result {
                return exit;
            }
        }
    }

    async fn handle_command(&mut self, command: Command) -> Result<(), SessionExit> {
        match command {
            Command::Attach(attach) => self.attach(attach).await,
            Command::Detach { connection, reason } => self.detach(connection, reason).await,
            Command::Submit(request) => self.handle_request(request).await,
        }
    }

    async fn handle_request(&mut self, request: ClientRequest) -> Result<(), SessionExit> {
        match request.frame {
            ClientFrame::Message(input) => {
                self.handle_message(request.connection, input, &request.origin)
                    .await
            }
            ClientFrame::End => self.request_end(EndReason::Requested).await,
            frame => {
                self.handle_without_storage(request.connection, &frame);
                Ok(())
            }
        }
    }

    /// Handles a request that needs no storage.
    fn handle_without_storage(&mut self, connection: ConnectionId, frame: &ClientFrame) {
        match frame {
            ClientFrame::Message(_) | ClientFrame::End => {
                unreachable!("`handle_request` handles what needs storage");
            }
            ClientFrame::Cancel => {
                self.turn.stop(FinishReason::Cancelled);
            }
            ClientFrame::Ping => self.readers.send(connection, ServerFrame::Pong),
            ClientFrame::Auth { .. } => {
                let message = "authentication is disabled, so there is no token to refresh";
                let error = refusal(ErrorCode::Unsupported, message, None);
                self.readers.refuse(connection, error);
            }
        }
    }

    async fn handle_turn_event(&mut self, event: TurnEvent) -> Result<(), SessionExit> {
        match event {
            TurnEvent::Outputs(outputs) => self.handle_turn_outputs(outputs).await,
            // The answer goes on, but its end will have to be stored.
            TurnEvent::DraftsFailing(are_failing) => {
                self.set_degraded(are_failing);
                Ok(())
            }
        }
    }

    async fn handle_deadline(&mut self, deadline: Deadline) -> Result<(), SessionExit> {
        match deadline {
            Deadline::Release => Err(SessionExit::Released),
            Deadline::Grace => {
                let healthy_since = self.context.health.since();
                if self.lifecycle.is_grace_over(Instant::now(), healthy_since) {
                    self.end(Vec::new(), EndReason::Abandoned).await
                } else {
                    Ok(())
                }
            }
            Deadline::Idle => self.end(Vec::new(), EndReason::Idle).await,
            Deadline::HeldBack => {
                // Only a message that still waits is a reason to look again.
                self.lifecycle.hold_back(None);
                self.start_queued_turn();
                Ok(())
            }
        }
    }
}

/// Waits for a deadline; forever if there is none.
async fn elapsed(timer: &mut RearmedTimer, deadline: Option<(Instant, Deadline)>) -> Deadline {
    match deadline {
        Some((at, deadline)) => {
            timer.wait_until(at).await;
            deadline
        }
        None => std::future::pending().await,
    }
}
