//! A client of Duologue sessions.
//!
//! It connects, resumes after the last event it received, checks the order of what it receives, backs off
//! between attempts, and sends messages again until the server acknowledges them. `docs/protocol.md` is
//! what it implements.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use duologue_client::{Address, Client, ClientOptions, Update};
//!
//! let address = Address::new("ws://127.0.0.1:8000", None, None, "my-session")?;
//! let mut client = Client::new(address, ClientOptions::default());
//! client.send("Hello");
//! while let Some(update) = client.next().await? {
//!     let Update::Frame(frame) = update else { continue };
//!     match frame.kind() {
//!         "token" if frame.is_new => print!("{}", frame.json["token"]),
//!         "done" => client.leave(),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Session`] is the protocol's rules without input and output; [`Connection`] is one WebSocket over any
//! byte stream, without rules; [`Client`] drives the one over the other. Time is tokio's and randomness
//! comes from [`SessionOptions::rng`], so that a client runs in a simulation.
//!
//! For `wss` URLs, the process must have installed a default `rustls` crypto provider.

mod address;
mod answer;
mod backoff;
mod client;
mod close;
mod connection;
mod loss;
mod outbox;
mod refusal;
mod session;
mod transport;
mod violation;

pub use crate::{
    address::{Address, AddressError},
    backoff::BackoffOptions,
    client::{Activity, Client, ClientError, ClientOptions, Lost, Update},
    close::{AfterClose, close_reason},
    connection::{Connection, Incoming},
    loss::Loss,
    outbox::MessageTooBig,
    refusal::Refusal,
    session::{NextStep, Position, Received, Session, SessionOptions},
    transport::{Opening, Tcp, TokenSource, Transport},
    violation::Violation,
};
