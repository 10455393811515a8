//! A way to a database that takes time: what a client sends arrives later, however much it sends meanwhile.

use std::{io, time::Duration};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

/// Pieces on their way at once, of up to 64 KiB.
const PIECES_MAX: usize = 1024;

/// A running proxy. It ends, and cuts its connections, when it is dropped.
#[derive(Debug)]
pub(crate) struct DelayProxy {
    port: u16,
    _accepting: JoinSet<()>,
}

impl DelayProxy {
    /// Makes every round trip to `port` of loopback longer by `delay`.
    pub(crate) async fn start(port: u16, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // How a connection ends shows at both of its ends.
                connections
                    .spawn(async move { connect(client, port, delay).await.unwrap_or_default() });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            port: own_port,
            _accepting: accepting,
        })
    }

    /// Where it listens on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

async fn connect(mut client: TcpStream, port: u16, delay: Duration) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (pieces, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let reading = async move {
        loop {
            let mut piece = Vec::with_capacity(64 * 1024);
            if from_client.read_buf(&mut piece).await? == 0 {
                return io::Result::Ok(());
            }
            piece.shrink_to_fit();
            let sent = pieces.send((Instant::now() + delay, piece)).await;
            sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
    };
    let writing = async {
        while let Some((at, piece)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            to_server.write_all(&piece).await?;
        }
        to_server.shutdown().await
    };
    let answers = async {
        tokio::io::copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(reading, writing, answers)?;
    Ok(())
}
