//! Who asks.

use std::net::IpAddr;
use std::sync::Arc;

use super::roles::Roles;

/// Who asks, and in which roles. Requests that were let through have it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Tells it from all others: the id of a user or token, `oidc:SUBJECT`, or `local`.
    pub id: Arc<str>,
    /// For people and audits.
    pub name: Arc<str>,
    /// In which roles.
    pub roles: Roles,
    /// How that is known.
    pub how: How,
    /// The session of an access token that a login gave.
    pub session: Option<Arc<str>>,
}

/// How it is known who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Identity is off and the server on loopback: whoever is on this machine.
    Local,
    /// A name and a password with this request.
    Password,
    /// An API token.
    ApiToken,
    /// An access token of this issuer.
    AccessToken,
    /// An access token of another issuer.
    External,
}

/// The address of the other end of a connection; an extension of requests that came through a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

impl Principal {
    /// Whoever is on this machine, where identity is off.
    pub fn local() -> Self {
        Self { id: "local".into(), name: "local".into(), roles: Roles::all(), how: How::Local, session: None }
    }
}
