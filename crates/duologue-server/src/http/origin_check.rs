//! Middleware: refuses pages of other sites, and lets allowed ones read the responses.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{api_error::ApiError, app::App, origins::RequestOrigin};

pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let site = app.origins.classify(request.headers());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = request.method() == Method::OPTIONS;
    let mut response = match site {
        RequestOrigin::Foreign => ApiError::OriginNotAllowed.into_response(),
        RequestOrigin::Allowed if is_preflight => StatusCode::NO_CONTENT.into_response(),
        RequestOrigin::Own | RequestOrigin::Allowed => next.run(request).await,
    };
    if site == RequestOrigin::Allowed && is_preflight {
        // Browsers send a preflight request before they send a token to another origin.
        let allowed = HeaderValue::from_static("authorization");
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("origin"));
    if let (RequestOrigin::Allowed, Some(origin)) = (site, origin) {
        response
            .headers_mut()
            .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}
