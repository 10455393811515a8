//! The routes.

mod admin;
mod caller;
mod counted_request;
#[cfg(feature = "testing")]
mod echo;
mod fallback;
mod headers;
mod health;
mod host_check;
mod origin_check;
mod pages;
mod request_span;
mod session;
pub(crate) mod socket;
mod uri_check;

use axum::{Router, middleware, routing::get};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;

/// All routes.
pub(crate) fn router(app: App) -> Router {
    let guarded = Router::new()
        .route("/ws/session/{session_id}", get(socket::connect))
        .route("/v1/sessions/{session_id}", get(session::show))
        .route("/v1/admin/status", get(admin::status))
        // An allowed page may find out why a handshake failed.
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        // Before the layer, so that the layer answers the preflight requests of browsers.
        .method_not_allowed_fallback(fallback::method_not_allowed)
        .layer(middleware::from_fn_with_state(
            app.clone(),
            origin_check::check,
        ));
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
        .fallback(fallback::no_such_route)
        .method_not_allowed_fallback(fallback::method_not_allowed)
        // The last one is the outermost.
        .layer(middleware::from_fn(uri_check::check))
        .layer(middleware::from_fn_with_state(
            app.clone(),
            host_check::check,
        ))
        .layer(CatchPanicLayer::custom(fallback::internal_error))
        .layer(middleware::map_response(headers::secure))
        .layer(middleware::from_fn_with_state(
            app.clone(),
            request_span::enter,
        ))
        .with_state(app)
}
