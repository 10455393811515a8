//! A stretch of network between two ends that can be cut, stalled, and led elsewhere.
//!
//! Its own address stays the same, so that clients need not know that the server behind it was
//! restarted.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What the link takes in of the server's at a time, in bytes. Small, so that a client that reads
/// slowly is felt by the server and not made up for here.
const RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;

/// How connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// By RST: both ends receive an error.
    Reset,
    /// By FIN: to both, the other has gone without a word.
    Finish,
}

/// A running link. It ends, and cuts its connections, when it is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<Option<SocketAddr>>,
    state: watch::Sender<State>,
    to_double: AtomicU32,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Connections that are older than the last cut are over.
    cuts: u64,
    how: Cut,
    stalled: bool,
}

impl Link {
    /// Starts one that leads to `upstream`, or for now to nothing.
    pub(crate) async fn start(upstream: Option<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            state: watch::Sender::new(State {
                cuts: 0,
                how: Cut::Finish,
                stalled: false,
            }),
            to_double: AtomicU32::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _accepting: accepting,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections elsewhere.
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().expect("nobody panics here") = Some(upstream);
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self, how: Cut) {
        self.shared.state.send_modify(|state| {
            state.cuts += 1;
            state.how = how;
        });
    }

    /// From now on nothing passes, and neither end receives an error.
    pub(crate) fn stall(&self) {
        self.shared.state.send_modify(|state| state.stalled = true);
    }

    /// What was held up passes again.
    pub(crate) fn flow(&self) {
        self.shared.state.send_modify(|state| state.stalled = false);
    }

    /// Lets the next `count` frames of clients pass twice: a planted fault.
    pub(crate) fn double(&self, count: u32) {
        self.shared.to_double.store(count, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // How it ends shows at both its ends.
            let _ = connect(client, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut state = shared.state.subscribe();
    let cuts = state.borrow_and_update().cuts;
    let upstream = *shared.upstream.lock().expect("nobody panics here");
    let Some(upstream) = upstream else {
        return Ok(());
    };
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    let mut server = socket.connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let passing = async {
            tokio::try_join!(
                pass(from_client, to_server, shared, Direction::Up),
                pass(from_server, to_client, shared, Direction::Down),
            )
        };
        tokio::select! {
            over = passing => return over.map(drop),
            _ = state.wait_for(|state| state.cuts != cuts) => {}
        }
    }
    if state.borrow().how == Cut::Reset {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    direction: Direction,
) -> io::Result<()> {
    let mut state = shared.state.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        // Without the sender the link is being dropped, and this with it.
        let _ = state.wait_for(|state| !state.stalled).await;
        let piece = &buffer[..length];
        if piece.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(piece).await?;
        if direction == Direction::Up && is_text_frame(piece) && shared.take_one_to_double() {
            to.write_all(piece).await?;
        }
    }
}

/// Whether it is one whole, short text frame of a client, as RFC 6455 has it.
fn is_text_frame(piece: &[u8]) -> bool {
    const HEADER_AND_MASK_BYTES: usize = 6;
    matches!(piece, [0x81, length, ..] if piece.len()
        == HEADER_AND_MASK_BYTES + usize::from(length & 0x7f))
}

impl Shared {
    fn take_one_to_double(&self) -> bool {
        let take = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        self.to_double.fetch_update(order, order, take).is_ok()
    }
}
