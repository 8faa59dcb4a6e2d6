//! Changes that a page of another site asks a browser for.

use axum::extract::Request;
use axum::http::HeaderName;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Error;

/// Whose page asks, in the browser's words: <https://www.w3.org/TR/fetch-metadata/>. Other programs send none.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets pages of other sites change nothing; what they ask for they cannot read anyway.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let site = request.headers().get(SITE);
    let own = site.is_none_or(|site| site == "same-origin" || site == "none");
    if own || request.method().is_safe() {
        return next.run(request).await;
    }
    let reason =
        "a page of another site may not change anything here; ask from a program, or from a page of this server";
    Error::Forbidden(reason.to_owned()).into_response()
}
