//! The list of routes.

mod admin;
pub(crate) mod client_address;
#[cfg(feature = "testing")]
mod echo;
pub(crate) mod error;
mod gate;
mod headers;
mod health;
pub(crate) mod host;
pub(crate) mod origin;
mod pages;
mod request;
mod session;
pub(crate) mod socket;

use axum::{Router, middleware, routing::get};
use tower_http::catch_panic::CatchPanicLayer;

use crate::server::App;

/// Every route there is.
pub(crate) fn router(app: App) -> Router {
    let guarded = Router::new()
        .route("/ws/session/{session_id}", get(socket::connect))
        .route("/v1/sessions/{session_id}", get(session::show))
        .route("/v1/admin/status", get(admin::status))
        // An allowed page may ask why a handshake failed.
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        // Before the layer, so that a page which asks by `OPTIONS` what it may is answered by that.
        .method_not_allowed_fallback(error::wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), origin::check));
    #[cfg(feature = "testing")]
    let guarded = if app.echoes {
        guarded.route("/testing/echo", get(echo::connect))
    } else {
        guarded
    };
    Router::new()
        .route("/", get(pages::root))
        .route("/demo", get(pages::demo_redirect))
        .route("/demo/", get(pages::demo))
        .route("/demo/{*path}", get(pages::asset))
        .merge(guarded)
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::wrong_method)
        // The last one is the outermost.
        .layer(middleware::from_fn_with_state(app.clone(), host::check))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::map_response(headers::secure))
        .layer(middleware::from_fn_with_state(app.clone(), request::enter))
        .with_state(app)
}
