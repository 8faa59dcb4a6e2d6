//! Sends an image to a registry of images, by the OCI distribution API
//! (<https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md>).

use std::fmt;
use std::io::SeekFrom;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use reqwest::{StatusCode, header};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use url::Url;

use crate::error::io as failed;
use crate::layout::Blob;
use crate::name::{is_path, is_tag};
use crate::{Error, Image, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PIECE: usize = 1024 * 1024;

/// Is told of bytes that have been sent; all together are [`Image::stored`].
pub type Sent = Arc<dyn Fn(u64) + Send + Sync>;

/// Where an image goes: `HOST[:PORT]/NAME[:TAG]`, with `http://` or `https://` in front if need be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http` for hosts of this machine unless said otherwise, else `https`.
    scheme: String,
    /// With its port.
    host: String,
    /// Such as `wildlife/detector`.
    name: String,
    /// `latest` unless said otherwise.
    tag: String,
}

/// Who may write, as `docker login` has noted it.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    auth: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |reason| Error::Name { text: text.to_owned(), what: "place for an image", reason };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some(_) => return Err(refused("write HOST:PORT/NAME:TAG, or http:// or https:// in front of it")),
            None => (None, text),
        };
        let (host, path) = rest.split_once('/').ok_or_else(|| refused("write HOST:PORT/NAME:TAG"))?;
        if host.is_empty() || host.contains('@') {
            return Err(refused("give the host without a user; `docker login` notes passwords"));
        }
        let (name, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
        if !is_path(name) {
            return Err(refused("names have small letters, digits, `.`, `_`, `-` and `/` only"));
        }
        if !is_tag(tag) {
            return Err(refused("tags have letters, digits, `.`, `_` and `-` only, 128 at most"));
        }
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        let is_here = matches!(bare, "localhost" | "127.0.0.1" | "[::1]");
        let scheme = scheme.unwrap_or(if is_here { "http" } else { "https" });
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), name: name.to_owned(), tag: tag.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host, self.name, self.tag)
    }
}

/// Sends an image. Blobs that are there already are not sent again, and the manifest comes last, so that the tag names
/// the old image or the whole new one.
///
/// # Errors
/// The registry does not answer, or refuses.
pub async fn push(image: &Image, target: &Target, sent: &Sent) -> Result<()> {
    let mut pusher = Pusher::new(target)?;
    let manifest = image.manifest()?;
    for blob in image.blobs.iter().filter(|blob| blob.digest != manifest.digest) {
        pusher.send_blob(image, blob, sent).await?;
    }
    pusher.send_manifest(image, manifest).await?;
    sent(manifest.size);
    Ok(())
}

struct Pusher<'a> {
    client: reqwest::Client,
    target: &'a Target,
    /// The header `Authorization`, once the registry has asked for one.
    authorization: Option<String>,
}

impl<'a> Pusher<'a> {
    fn new(target: &'a Target) -> Result<Self> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("safari/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        let client = client.map_err(|error| refused(target, &error.to_string()))?;
        Ok(Self { client, target, authorization: None })
    }

    async fn send_blob(&mut self, image: &Image, blob: &Blob, sent: &Sent) -> Result<()> {
        let there = self.ask(|pusher| pusher.client.head(pusher.url(&format!("blobs/{}", blob.digest)))).await?;
        if there.status() == StatusCode::OK {
            sent(blob.size);
            return Ok(());
        }
        let begun = self.ask(|pusher| pusher.client.post(pusher.url("blobs/uploads/")).body("")).await?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(self.unexpected(begun).await);
        }
        let mut place = self.location(&begun)?;
        place.query_pairs_mut().append_pair("digest", &blob.digest);
        let mut file = tokio::fs::File::open(&image.path).await.map_err(failed("read", &image.path))?;
        file.seek(SeekFrom::Start(blob.offset)).await.map_err(failed("read", &image.path))?;
        let sent = Arc::clone(sent);
        let bytes =
            ReaderStream::with_capacity(file.take(blob.size), PIECE).inspect_ok(move |piece| sent(piece.len() as u64));
        let request = self
            .client
            .put(place)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, blob.size)
            .body(reqwest::Body::wrap_stream(bytes));
        let answer = self.authorized(request).send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status() == StatusCode::CREATED { Ok(()) } else { Err(self.unexpected(answer).await) }
    }

    async fn send_manifest(&mut self, image: &Image, manifest: &Blob) -> Result<()> {
        let mut file = tokio::fs::File::open(&image.path).await.map_err(failed("read", &image.path))?;
        file.seek(SeekFrom::Start(manifest.offset)).await.map_err(failed("read", &image.path))?;
        let mut text = Vec::new();
        file.take(manifest.size).read_to_end(&mut text).await.map_err(failed("read", &image.path))?;
        let sent = self
            .ask(|pusher| {
                let url = pusher.url(&format!("manifests/{}", pusher.target.tag));
                pusher.client.put(url).header(header::CONTENT_TYPE, &manifest.media_type).body(text.clone())
            })
            .await?;
        if sent.status() == StatusCode::CREATED { Ok(()) } else { Err(self.unexpected(sent).await) }
    }

    /// Asks, and once more with what the registry wants to know.
    async fn ask(&mut self, request: impl Fn(&Self) -> reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let answer = self.authorized(request(self)).send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status() != StatusCode::UNAUTHORIZED || self.authorization.is_some() {
            return Ok(answer);
        }
        let wanted = answer.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        self.authorization = Some(self.authorize(wanted.unwrap_or_default()).await?);
        self.authorized(request(self)).send().await.map_err(|error| self.unreachable(&error))
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    /// Basic, or a token of the server that the registry names.
    async fn authorize(&self, wanted: &str) -> Result<String> {
        let known = known_login(&self.target.host);
        let login = || {
            let reason = "it wants to know who asks; run `docker login` for it first".to_owned();
            refused(self.target, &reason)
        };
        let Some(parameters) = wanted.strip_prefix("Bearer ") else {
            return known.map(|login| format!("Basic {login}")).ok_or_else(login);
        };
        let value = |name: &str| {
            let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let realm = value("realm").and_then(|realm| Url::parse(&realm).ok()).ok_or_else(login)?;
        let scope = format!("repository:{}:pull,push", self.target.name);
        let mut url = realm;
        if let Some(service) = value("service") {
            url.query_pairs_mut().append_pair("service", &service);
        }
        url.query_pairs_mut().append_pair("scope", &scope);
        let mut request = self.client.get(url);
        if let Some(known) = known {
            request = request.header(header::AUTHORIZATION, format!("Basic {known}"));
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(login());
        }
        let text = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        let answer: TokenAnswer = serde_json::from_slice(&text).map_err(|_| login())?;
        answer.token.or(answer.access_token).map(|token| format!("Bearer {token}")).ok_or_else(login)
    }

    /// Where an upload goes on; may be relative, and on another host.
    fn location(&self, answer: &reqwest::Response) -> Result<Url> {
        let given = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let place = given.and_then(|place| answer.url().join(place).ok());
        place.ok_or_else(|| refused(self.target, "it does not say where the upload goes"))
    }

    fn url(&self, path: &str) -> String {
        let Target { scheme, host, name, .. } = self.target;
        format!("{scheme}://{host}/v2/{name}/{path}")
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        refused(self.target, &format!("it does not answer ({cause})"))
    }

    async fn unexpected(&self, answer: reqwest::Response) -> Error {
        let status = answer.status();
        let told: String = answer.text().await.unwrap_or_default().chars().take(500).collect();
        refused(self.target, &format!("it answered {status} {}", told.trim()))
    }
}

/// What `docker login` noted for a host: user and password in base64.
fn known_login(host: &str) -> Option<String> {
    let folder = match std::env::var_os("DOCKER_CONFIG") {
        Some(folder) => std::path::PathBuf::from(folder),
        None => std::path::PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    let text = std::fs::read(folder.join("config.json")).ok()?;
    let config: DockerConfig = serde_json::from_slice(&text).ok()?;
    let auth = config.auths.into_iter().find(|(name, _)| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.split('/').next() == Some(host)
    });
    // What is no base64 of `user:password` is of no use.
    let login = auth?.1.auth?;
    STANDARD.decode(&login).ok().filter(|login| login.contains(&b':')).map(|_| login)
}

fn refused(target: &Target, reason: &str) -> Error {
    Error::Registry { target: target.to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_read() {
        for (text, scheme, shown) in [
            ("127.0.0.1:5001/wildlife:3", "http", "127.0.0.1:5001/wildlife:3"),
            ("ghcr.io/safari/wildlife", "https", "ghcr.io/safari/wildlife:latest"),
            ("http://registry:5000/a/b:c", "http", "registry:5000/a/b:c"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.scheme.as_str(), target.to_string().as_str()), (scheme, shown));
        }
        for text in
            ["wildlife", "host/", "host/A:b", "host/a:", "user:pass@host/a", "ftp://host/a", "host/a//b", "host/a:b c"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
