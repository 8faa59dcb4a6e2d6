//! Gateways before a server, which say for whom they ask: `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Networks of the proxies whose word is taken about who asks. With none, who connects is who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Networks and addresses between commas, such as `10.0.0.0/8, 192.0.2.7`; nothing if one is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let one = |part: &str| IpNet::from_str(part).ok().or_else(|| Some(IpNet::from(IpAddr::from_str(part).ok()?)));
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(one).collect::<Option<_>>().map(Self)
    }

    /// Who asks. A proxy adds whom it heard at the end of the list, so it is read from there: the first that is no proxy of
    /// ours is the caller, and all before it is what the caller says.
    pub(super) fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut caller = peer.to_canonical();
        let lists = headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>();
        let mut heard = lists.iter().rev().flat_map(|list| list.to_str().unwrap_or_default().rsplit(','));
        while self.has(caller) {
            match heard.next().map(str::trim) {
                None => break,
                // What cannot be read hides who was heard: the proxy that wrote it stands for them.
                Some(text) => match address(text) {
                    Some(before) => caller = before,
                    None => break,
                },
            }
        }
        caller
    }

    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Some proxies add the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = IpAddr::from_str(bare).ok().or_else(|| Some(SocketAddr::from_str(text).ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn caller(proxies: &str, peer: &str, lists: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(FORWARDED_FOR, list.parse().unwrap());
        }
        TrustedProxies::parse(proxies).unwrap().caller(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_a_proxy_of_ours_says_for_whom_it_asks() {
        assert_eq!(caller("", "192.0.2.1", &["198.51.100.9"]), "192.0.2.1");
        assert_eq!(caller("10.0.0.0/8", "192.0.2.1", &["198.51.100.9"]), "192.0.2.1");
        assert_eq!(caller("10.0.0.0/8", "10.1.2.3", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(caller("10.0.0.0/8", "10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(caller("10.0.0.0/8", "::ffff:10.1.2.3", &["::ffff:198.51.100.9"]), "198.51.100.9");
        assert_eq!(caller("fd00::/8", "fd00::1", &["[2001:db8::5]:4711"]), "2001:db8::5");
        assert_eq!(caller("fd00::/8", "fd00::1", &["[2001:db8::5]"]), "2001:db8::5");
    }

    #[test]
    fn what_a_caller_says_of_themselves_does_not_count() {
        let ours = "10.0.0.0/8, 192.0.2.7";
        assert_eq!(caller(ours, "10.0.0.2", &["203.0.113.5, 198.51.100.9, 192.0.2.7:55"]), "198.51.100.9");
        assert_eq!(caller(ours, "10.0.0.2", &["203.0.113.5", "198.51.100.9"]), "198.51.100.9");
        assert_eq!(caller(ours, "10.0.0.2", &["203.0.113.5, unknown, 10.0.0.9"]), "10.0.0.9");
        assert_eq!(caller(ours, "10.0.0.2", &["10.0.0.7, 10.0.0.8"]), "10.0.0.7");
        assert_eq!(caller(ours, "10.0.0.2", &[""]), "10.0.0.2");
    }

    #[test]
    fn networks_are_read_or_refused() {
        assert_eq!(TrustedProxies::parse(" , "), Some(TrustedProxies::default()));
        assert!(TrustedProxies::parse("10.0.0.0/33").is_none() && TrustedProxies::parse("gateway").is_none());
    }
}
