//! The crypto library of all TLS.

/// Chooses the one crypto library for all TLS of the process. Repeating it changes nothing.
pub fn install_crypto() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
