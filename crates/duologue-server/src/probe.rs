//! Asking a running server whether it is alive, for supervisors that can only run a command.
//!
//! A container that holds nothing but this program has no other way to look at itself.

use std::{io, net::IpAddr, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{banner::visitable, config::ServerConfig};

/// Supervisors give a probe a few seconds; it should be the one to say what is wrong.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One request whose body nobody reads needs no HTTP client.
const REQUEST: &[u8] = b"GET /healthz HTTP/1.0\r\n\r\n";

/// As much of the response as tells how it went: `HTTP/1.0 200`.
const STATUS_BYTES: usize = 12;

/// Why a server does not count as alive.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody answers, or not in time.
    #[error("no server answers at {address}")]
    Silent {
        /// Who was asked.
        address: String,
        /// Why there is no answer.
        source: io::Error,
    },
    /// Somebody answers, and it is not a server that is well.
    #[error("{address} answers `{status}`")]
    Unwell {
        /// Who was asked.
        address: String,
        /// How its answer begins.
        status: String,
    },
}

/// Asks the server of this configuration, on this machine, and says where it is.
pub async fn ask(config: &ServerConfig) -> Result<String, ProbeError> {
    let host = match config.host.parse::<IpAddr>() {
        Ok(ip) => visitable(SocketAddr::new(ip, config.port)).ip().to_string(),
        Err(_) => config.host.clone(),
    };
    let address = format!("{host}:{}", config.port);
    let asked = timeout(TIMEOUT, status(&host, config.port)).await;
    let status = match asked.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(status) => status,
        Err(source) => return Err(ProbeError::Silent { address, source }),
    };
    if status.starts_with("HTTP/1.") && status.ends_with(" 200") {
        Ok(address)
    } else {
        Err(ProbeError::Unwell { address, status })
    }
}

async fn status(host: &str, port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(REQUEST).await?;
    let mut status = [0; STATUS_BYTES];
    stream.read_exact(&mut status).await?;
    Ok(String::from_utf8_lossy(&status).into_owned())
}
