//! What no handler is to see: requests that a browser sends for a page of another site, and NUL characters.
//!
//! Whoever reaches the server may use it, as it knows no users yet, and any page on the web reaches it through the browser
//! of somebody on this machine.

use axum::extract::Request;
use axum::http::HeaderName;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::{Error, ErrorCode};

/// Whose page asks, in the browser's words: <https://www.w3.org/TR/fetch-metadata/>. Other programs send none.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets pages of other sites change nothing; what they ask for they cannot read anyway. PostgreSQL takes no text with a NUL.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let site = request.headers().get(SITE);
    if request.uri().path().contains("%00") {
        return Error::invalid("the address holds a NUL character; leave it out").into_response();
    }
    let own = site.is_none_or(|site| site == "same-origin" || site == "none");
    if own || request.method().is_safe() {
        return next.run(request).await;
    }
    let message =
        "a page of another site may not change anything here; ask from a program, or from a page of this server";
    Error::refused(ErrorCode::PermissionDenied, message).into_response()
}
