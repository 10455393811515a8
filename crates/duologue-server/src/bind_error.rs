//! Why the server cannot listen on its address, and what the operator can do.

use std::io;

use crate::config::ServerConfig;

/// Why the server cannot listen on its address. One variant per remedy.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens on the port.
    #[error("port {port} is already in use; choose another with --port or PORT")]
    InUse {
        /// The port.
        port: u16,
    },
    /// The system reserves the port for privileged processes.
    #[error(
        "no permission to listen on port {port}; choose a port from 1024 on with --port or PORT, or \
         grant the process CAP_NET_BIND_SERVICE"
    )]
    PermissionDenied {
        /// The port.
        port: u16,
    },
    /// The address belongs to another machine, or to none.
    #[error(
        "{host} is not an address of this machine; choose one of its addresses with --host or HOST: \
         127.0.0.1 for this machine only, 0.0.0.0 for every interface"
    )]
    NotAvailable {
        /// The host as configured.
        host: String,
    },
    /// The name has no address.
    #[error("the host name {host} cannot be resolved; choose another with --host or HOST")]
    Unresolved {
        /// The host as configured.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Anything else.
    #[error(
        "cannot listen on {host}, port {port}; choose another address with --host or HOST, or \
         another port with --port or PORT"
    )]
    Other {
        /// The host as configured.
        host: String,
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

impl BindError {
    /// Classifies the error of an attempt to listen.
    pub(crate) fn of(config: &ServerConfig, source: io::Error) -> Self {
        let (host, port) = (config.host.clone(), config.port);
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { port },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { port },
            io::ErrorKind::AddrNotAvailable => Self::NotAvailable { host },
            _ => Self::Other { host, port, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    fn message(kind: io::ErrorKind) -> String {
        let environment = Environment::new([("HOST", "192.0.2.1"), ("PORT", "80")], []);
        let loaded = config::load(None, &environment, Vec::new()).unwrap();
        BindError::of(&loaded.config.server, kind.into()).to_string()
    }

    #[test]
    fn each_error_says_what_to_do() {
        assert_eq!(
            message(io::ErrorKind::AddrInUse),
            "port 80 is already in use; choose another with --port or PORT"
        );
        for (kind, happened) in [
            (
                io::ErrorKind::PermissionDenied,
                "no permission to listen on port 80; choose a port from 1024 on with --port or PORT",
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                "192.0.2.1 is not an address of this machine; choose one of its addresses with --host",
            ),
            (
                io::ErrorKind::OutOfMemory,
                "cannot listen on 192.0.2.1, port 80; choose another address with --host or HOST",
            ),
        ] {
            assert!(message(kind).starts_with(happened), "{}", message(kind));
        }
    }
}
