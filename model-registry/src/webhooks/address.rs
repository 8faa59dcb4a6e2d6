//! Where webhooks may be sent: to public addresses. A receiver inside, such as the cloud's metadata service, would
//! answer this server what it must not tell others.

use std::net::IpAddr;

use platform::public_address::is_public;
use url::{Host, Url};

use super::WebhookOptions;
use crate::{Error, Result};

/// Checks the URL of a webhook: its scheme, no credentials, and, unless internal addresses are allowed, that its host is
/// public.
pub(super) async fn check(text: &str, options: &WebhookOptions) -> Result<Url> {
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("Webhook URL cannot be empty or just whitespace: '{text}'")));
    }
    let allowed: &[&str] = if options.allow_http { &["https", "http"] } else { &["https"] };
    let url = Url::parse(text);
    let scheme = url.as_ref().map_or("", Url::scheme);
    if matches!(&url, Err(url::ParseError::EmptyHost)) {
        return Err(Error::invalid(format!("Webhook URL must include a hostname: '{text}'")));
    }
    if !allowed.contains(&scheme) {
        let allowed = allowed.join(", ");
        return Err(Error::invalid(format!("Invalid webhook URL scheme: '{scheme}'. Allowed schemes are: {allowed}.")));
    }
    let url = url.map_err(|error| Error::invalid(format!("Invalid webhook URL '{text}': {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::invalid("Webhook URL must not include embedded credentials; sign with `secret` instead"));
    }
    let Some(host) = url.host() else {
        return Err(Error::invalid(format!("Webhook URL must include a hostname: '{text}'")));
    };
    if options.allow_private {
        return Ok(url);
    }
    let (shown, addresses) = match host {
        Host::Ipv4(address) => (address.to_string(), vec![IpAddr::V4(address)]),
        Host::Ipv6(address) => (address.to_string(), vec![IpAddr::V6(address)]),
        Host::Domain(name) => (name.to_owned(), lookup(name).await?),
    };
    match addresses.into_iter().find(|address| !is_public(*address)) {
        None => Ok(url),
        Some(inside) => Err(Error::invalid(format!(
            "Webhook URL must not resolve to a non-public IP address. '{shown}' resolves to {inside}."
        ))),
    }
}

async fn lookup(name: &str) -> Result<Vec<IpAddr>> {
    let unknown = |reason: String| Error::invalid(format!("Cannot resolve Webhook URL hostname '{name}': {reason}"));
    let looked = tokio::time::timeout(std::time::Duration::from_secs(5), tokio::net::lookup_host((name, 0))).await;
    match looked {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(unknown(error.to_string())),
        Err(_) => Err(unknown("nobody answered within 5 s".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn urls_inside_are_refused_however_they_are_written() {
        let options = WebhookOptions::default();
        for bad in [
            "http://8.8.8.8/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0177.0.0.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://localhost/",
            "https://u:p@8.8.8.8/",
            "https:///",
            "file:///etc/passwd",
            " ",
        ] {
            check(bad, &options).await.unwrap_err();
        }
        check("https://8.8.8.8/hook", &options).await.unwrap();
        let open = WebhookOptions { allow_http: true, allow_private: true, ..options };
        check("http://127.0.0.1:1/hook", &open).await.unwrap();
    }
}
