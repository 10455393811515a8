//! The list of routes.

pub(crate) mod error;
mod headers;
mod health;
pub(crate) mod origin;
mod pages;
mod session;
mod socket;

use axum::{Router, middleware, routing::get};
use tower_http::catch_panic::CatchPanicLayer;

use crate::server::App;

/// Every route there is.
pub(crate) fn router(app: App) -> Router {
    let guarded = Router::new()
        .route("/ws/session/{session_id}", get(socket::connect))
        .route("/v1/sessions/{session_id}", get(session::show))
        // An allowed page may ask why a handshake failed.
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .layer(middleware::from_fn_with_state(app.clone(), origin::check));
    Router::new()
        .route("/", get(pages::root))
        .route("/demo", get(pages::demo_redirect))
        .route("/demo/", get(pages::demo))
        .route("/demo/{*path}", get(pages::asset))
        .merge(guarded)
        .fallback(error::no_such_route)
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::map_response(headers::secure))
        .with_state(app)
}
