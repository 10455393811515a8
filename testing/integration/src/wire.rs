//! A way between a client and a server that behaves like networks do: it may fall silent without a
//! word, and it may drop a silent connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// A running way. It ends, and cuts its connections, when it is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    silence_max: Duration,
    cut: CancellationToken,
    /// How often something came from the server.
    passed: watch::Sender<usize>,
}

impl Wire {
    /// Starts a way to `server`, which drops a connection on which nothing was said for so long.
    pub async fn start(server: SocketAddr, silence_max: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            server,
            silence_max,
            cut: CancellationToken::new(),
            passed: watch::Sender::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            _accepting: accepting,
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing passes, and neither side notices.
    pub fn cut(&self) {
        self.state.cut.cancel();
    }

    /// Waits until the server has said something so many times more.
    pub async fn until_passed(&self, count: usize) {
        let mut passed = self.state.passed.subscribe();
        let wanted = *passed.borrow_and_update() + count;
        let reached = passed.wait_for(|passed| *passed >= wanted).await;
        drop(reached.expect("the wire is here"));
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // How it ends shows at both its ends.
            let _ = connect(client, &state).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(mut client: TcpStream, state: &State) -> io::Result<()> {
    let mut server = TcpStream::connect(state.server).await?;
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            biased;
            // Both connections stay open, and nobody reads them.
            () = state.cut.cancelled() => return std::future::pending().await,
            length = client.read(&mut up) => match length? {
                0 => return server.shutdown().await,
                length => server.write_all(&up[..length]).await?,
            },
            length = server.read(&mut down) => match length? {
                0 => return client.shutdown().await,
                length => {
                    client.write_all(&down[..length]).await?;
                    state.passed.send_modify(|passed| *passed += 1);
                }
            },
            () = tokio::time::sleep(state.silence_max) => return Ok(()),
        }
    }
}
