//! Pictures that a request names by URL: only below allowed prefixes, and never at an internal address.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use platform::object_store::{self, Location};
use platform::public_address::{PublicOnly, is_public};
use reqwest::redirect::Policy;
use url::{Host, Url};

use crate::{Error, Result};

/// What may be fetched.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// Prefixes such as `https://media.example.org/traps/` and `s3://camera-traps/`; none refuses all.
    pub allow: Vec<Url>,
    /// Whether internal addresses and plain HTTP are allowed; prefixes still hold.
    pub anywhere: bool,
    /// Most bytes of a file.
    pub max_bytes: u64,
    /// How long a file may take.
    pub timeout: Duration,
}

/// Fetches pictures. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: reqwest::Client,
    options: FetchOptions,
}

impl Fetcher {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(options: FetchOptions) -> Result<Self> {
        // A redirect would lead where nobody has looked.
        let mut builder = reqwest::Client::builder().redirect(Policy::none()).timeout(options.timeout).no_proxy();
        if !options.anywhere {
            builder = builder.https_only(true).dns_resolver(std::sync::Arc::new(PublicOnly));
        }
        let client =
            builder.build().map_err(|error| Error::Setup(format!("no client for URLs of pictures: {error}")))?;
        Ok(Self { client, options })
    }

    /// Most bytes of a file.
    pub fn max_bytes(&self) -> usize {
        usize::try_from(self.options.max_bytes).unwrap_or(usize::MAX)
    }

    /// The file at `text`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for what is not allowed, [`Error::TooLarge`], [`Error::Upstream`].
    pub async fn fetch(&self, text: &str) -> Result<Bytes> {
        let url = Url::parse(text).map_err(|error| Error::Invalid(format!("url is no URL: {error}")))?;
        self.check(&url)?;
        match url.scheme() {
            "s3" => self.object(&url).await,
            _ => self.page(url).await,
        }
    }

    fn check(&self, url: &Url) -> Result<()> {
        if self.options.allow.is_empty() {
            let message = "this server fetches no URLs; send the picture itself, or set serve.fetch_allow";
            return Err(Error::Forbidden(message.to_owned()));
        }
        let refused = |reason: &str| Err(Error::Forbidden(format!("this URL is not fetched: {reason}")));
        if !url.username().is_empty() || url.password().is_some() {
            return refused("it holds credentials");
        }
        if !self.options.allow.iter().any(|prefix| is_below(url, prefix)) {
            return refused("it lies below none of the allowed prefixes");
        }
        if url.scheme() == "s3" || self.options.anywhere {
            return Ok(());
        }
        let inside = match url.host() {
            Some(Host::Ipv4(address)) => !is_public(address.into()),
            Some(Host::Ipv6(address)) => !is_public(address.into()),
            Some(Host::Domain(_)) => false,
            None => true,
        };
        if inside { refused("its host is no public address") } else { Ok(()) }
    }

    async fn object(&self, url: &Url) -> Result<Bytes> {
        let path = percent_decoded(url.path())?;
        let (folder, key) = path.trim_start_matches('/').rsplit_once('/').unwrap_or(("", path.trim_start_matches('/')));
        let place = format!("s3://{}/{folder}", url.host_str().unwrap_or_default());
        let failed = |error: platform::Error| match error {
            error if error.is_about_one_object() => Error::NotFound(format!("the object cannot be read: {error}")),
            error => Error::Upstream(format!("the object store does not answer: {error}")),
        };
        let read = async {
            let location = Location::parse(place.trim_end_matches('/')).map_err(failed)?;
            let store = object_store::open(&location).await.map_err(failed)?;
            if store.head(key).await.map_err(failed)?.size > self.options.max_bytes {
                return Err(self.too_large());
            }
            // A file that grew meanwhile is cut, and then no picture any more.
            store.get_range(key, 0..self.options.max_bytes).await.map_err(failed)
        };
        tokio::time::timeout(self.options.timeout, read)
            .await
            .unwrap_or_else(|_| Err(Error::Upstream("the object store took too long".to_owned())))
    }

    async fn page(&self, url: Url) -> Result<Bytes> {
        // The words of the client may name addresses that are nobody's business.
        let failed = |error: reqwest::Error| {
            tracing::info!(%error, "a picture cannot be fetched");
            Error::Upstream(
                "the server of the URL does not answer as it should, or its host is no public address".to_owned(),
            )
        };
        let mut answer = self.client.get(url).send().await.map_err(failed)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(Error::Upstream("the URL leads elsewhere; give the address that it leads to".to_owned()));
        }
        if !status.is_success() {
            return Err(Error::Upstream(format!("the server of the URL answers {}", status.as_u16())));
        }
        if answer.content_length().is_some_and(|length| length > self.options.max_bytes) {
            return Err(self.too_large());
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if (bytes.len() + piece.len()) as u64 > self.options.max_bytes {
                return Err(self.too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { what: "the picture".to_owned(), limit: format!("{} bytes", self.options.max_bytes) }
    }
}

/// Whether `url` is `prefix` or lies in its folder. URLs have no `..` any more when they are parsed.
fn is_below(url: &Url, prefix: &Url) -> bool {
    let same_server = url.scheme() == prefix.scheme()
        && url.host() == prefix.host()
        && url.port_or_known_default() == prefix.port_or_known_default();
    let (path, folder) = (url.path(), prefix.path());
    // An encoded dot or slash means something else to the server than to this comparison.
    let plain = !path.to_ascii_lowercase().contains("%2e") && !path.to_ascii_lowercase().contains("%2f");
    let below =
        path.strip_prefix(folder).is_some_and(|rest| folder.ends_with('/') || rest.is_empty() || rest.starts_with('/'));
    let dots = path.split('/').any(|part| part == "..");
    same_server && plain && below && !dots
}

fn percent_decoded(path: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let digits = (first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| hex::decode(digits).ok());
        match digits.as_deref() {
            Some([byte]) => {
                bytes.push(*byte);
                rest = &after[2..];
            }
            _ => bytes.push(first),
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::Invalid("the URL's path is no UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fetcher(allow: &[&str]) -> Fetcher {
        let allow = allow.iter().map(|url| Url::parse(url).unwrap()).collect();
        Fetcher::new(FetchOptions { allow, max_bytes: 1000, timeout: Duration::from_secs(5), ..Default::default() })
            .unwrap()
    }

    #[test]
    fn only_allowed_prefixes_are_fetched() {
        let fetcher =
            fetcher(&["https://media.example.org/traps", "s3://bucket/2026/", "https://10.0.0.1/", "https://[::1]/"]);
        let check = |url: &str| fetcher.check(&Url::parse(url).unwrap());
        check("https://media.example.org/traps/a.jpg").unwrap();
        check("https://media.example.org:443/traps/a.jpg").unwrap();
        check("s3://bucket/2026/a.jpg").unwrap();
        for bad in [
            "https://media.example.org.evil.org/traps/a.jpg",
            "https://media.example.org/trapsevil/a.jpg",
            "https://media.example.org/traps/../secret",
            "https://media.example.org/traps/%2e%2e/secret",
            "https://media.example.org/traps/..%2fsecret",
            "https://media.example.org:8443/traps/a.jpg",
            "http://media.example.org/traps/a.jpg",
            "https://user:word@media.example.org/traps/a.jpg",
            "s3://bucket/2025/a.jpg",
            "s3://other/2026/a.jpg",
            "file:///etc/passwd",
            "https://10.0.0.1/a.jpg",
            "https://167772161/a.jpg",
            "https://[::1]/a.jpg",
        ] {
            assert!(matches!(check(bad), Err(Error::Forbidden(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn names_of_internal_addresses_are_refused_when_they_are_resolved() {
        let fetcher = fetcher(&["https://localhost/"]);
        assert!(matches!(fetcher.fetch("https://localhost/a.jpg").await, Err(Error::Upstream(_))));
    }

    #[tokio::test]
    async fn without_prefixes_nothing_is_fetched() {
        assert!(matches!(fetcher(&[]).fetch("https://8.8.8.8/a.jpg").await, Err(Error::Forbidden(_))));
    }
}
