//! `duologue health`: asks a running server for its liveness, for supervisors that can only run a
//! command.
//!
//! A container that has nothing but this program needs it for its health check.

use std::{io, net::IpAddr, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{banner::connectable, config::ServerConfig};

/// Shorter than the timeouts of supervisors, so that this check reports what is wrong.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One request whose response body is not read needs no HTTP client.
const REQUEST: &[u8] = b"GET /healthz HTTP/1.0\r\n\r\n";

/// The length of the status, such as `HTTP/1.0 200`.
const STATUS_BYTES: usize = 12;

/// Why a server is not alive.
#[derive(Debug, thiserror::Error)]
pub enum HealthCheckError {
    /// No response, or none in time.
    #[error("no server responds at {address}; start it, or correct --config, HOST or PORT")]
    NoResponse {
        /// The address that was checked.
        address: String,
        /// Why there is no response.
        source: io::Error,
    },
    /// The response is not that of a server that is alive.
    #[error("{address} responds with `{status}`; look into the server's log")]
    Unhealthy {
        /// The address that was checked.
        address: String,
        /// How the response begins.
        status: String,
    },
}

/// Checks the server of this configuration, on this machine, and returns its address.
pub async fn run(config: &ServerConfig) -> Result<String, HealthCheckError> {
    let host = match config.host.parse::<IpAddr>() {
        Ok(ip) => connectable(SocketAddr::new(ip, config.port))
            .ip()
            .to_string(),
        Err(_) => config.host.clone(),
    };
    let address = format!("{host}:{}", config.port);
    let response = timeout(TIMEOUT, status(&host, config.port)).await;
    let status = match response.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(status) => status,
        Err(source) => return Err(HealthCheckError::NoResponse { address, source }),
    };
    if status.starts_with("HTTP/1.") && status.ends_with(" 200") {
        Ok(address)
    } else {
        Err(HealthCheckError::Unhealthy { address, status })
    }
}

async fn status(host: &str, port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(REQUEST).await?;
    let mut status = [0; STATUS_BYTES];
    stream.read_exact(&mut status).await?;
    Ok(String::from_utf8_lossy(&status).into_owned())
}
