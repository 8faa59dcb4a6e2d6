//! Follows redirects without giving another server what was meant for the first.

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use super::request::{Answer, Failure, Request, shown};

/// More redirects are a circle.
const MOST: usize = 10;

/// Sends the request, follows redirects if it wants that, and reads the last answer.
pub(super) async fn follow(client: &Client, mut request: Request) -> Result<Answer, Failure> {
    for _ in 0..=MOST {
        let response = request.send(client).await?;
        let target = if request.follow_redirects { target(&request.url, &response)? } else { None };
        let Some(target) = target else { return Answer::read(response).await };
        request = redirected(request, response.status(), target);
    }
    Err(Failure::Refused(format!("more than {MOST} redirects, the last to {}", shown(&request.url))))
}

/// Where the answer sends us, if it does.
fn target(from: &Url, response: &Response) -> Result<Option<Url>, Failure> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !redirects.contains(&response.status()) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
    let target = location.to_str().ok().and_then(|location| from.join(location).ok());
    let target = target.ok_or_else(|| Failure::Refused("it redirects to what is no URL".to_owned()))?;
    match (from.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => Ok(Some(target)),
        _ => Err(Failure::Refused(format!("it redirects to {}, which is less safe than https", shown(&target)))),
    }
}

/// The next request: to another server go only the headers that describe the body, and what asked for a page elsewhere
/// becomes a GET.
fn redirected(request: Request, status: StatusCode, target: Url) -> Request {
    let becomes_get = match status {
        StatusCode::SEE_OTHER => request.method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => request.method == Method::POST,
        _ => false,
    };
    let mut headers = if request.url.origin() == target.origin() {
        request.headers
    } else {
        let harmless = [ACCEPT, CONTENT_TYPE];
        let kept = request.headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
        kept.filter(|(name, _)| harmless.contains(name)).collect::<HeaderMap>()
    };
    if !becomes_get {
        return Request { url: target, headers, ..request };
    }
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
    Request { method: Method::GET, url: target, headers, body: None, ..request }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn post() -> Request {
        let headers = [("x-api-key", "secret"), ("content-type", "application/json")];
        Request {
            method: Method::POST,
            url: Url::parse("https://a.example/x").unwrap(),
            headers: headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            body: Some(b"{}".to_vec()),
            follow_redirects: true,
        }
    }

    fn headers_after(status: StatusCode, target: &str) -> (Method, Vec<String>) {
        let next = redirected(post(), status, Url::parse(target).unwrap());
        assert_eq!(next.body.is_some(), next.method == Method::POST);
        (next.method, next.headers.keys().map(ToString::to_string).collect())
    }

    #[test]
    fn other_servers_do_not_see_headers() {
        let (method, headers) = headers_after(StatusCode::TEMPORARY_REDIRECT, "https://a.example/y");
        assert_eq!((method, headers.len()), (Method::POST, 2));
        let (method, headers) = headers_after(StatusCode::TEMPORARY_REDIRECT, "https://b.example/y");
        assert_eq!((method, headers), (Method::POST, vec!["content-type".to_owned()]));
        let (_, headers) = headers_after(StatusCode::TEMPORARY_REDIRECT, "https://a.example:8443/y");
        assert_eq!(headers, ["content-type"]);
    }

    #[test]
    fn a_page_elsewhere_is_fetched() {
        let (method, headers) = headers_after(StatusCode::SEE_OTHER, "https://a.example/y");
        assert_eq!((method, headers), (Method::GET, vec!["x-api-key".to_owned()]));
        assert_eq!(headers_after(StatusCode::FOUND, "https://a.example/y").0, Method::GET);
        assert_eq!(headers_after(StatusCode::PERMANENT_REDIRECT, "https://a.example/y").0, Method::POST);
    }
}
