//! Requests that a browser sends for a page of another site. Where identity is off whoever reaches the API may use it, and
//! any page on the web reaches it through the browser of somebody on this machine.

use axum::extract::Request;
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// Whose page asks, in the browser's words: <https://www.w3.org/TR/fetch-metadata/>. Other programs send none.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets pages of other sites change nothing. What they ask for they cannot read anyway.
pub(super) async fn refuse(request: Request, next: Next) -> Response {
    let site = request.headers().get(SITE);
    let own = site.is_none_or(|site| site == "same-origin" || site == "none");
    if own || request.method().is_safe() {
        return next.run(request).await;
    }
    let detail =
        "a page of another site may not change anything here; ask from a program, or from a page of this server";
    Problem::new("forbidden", StatusCode::FORBIDDEN, detail).into_response()
}
