//! Who asks.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// A person, as the server knows them: the subject of their token. Never shown to others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PersonId(String);

impl PersonId {
    /// From the subject of a token.
    pub fn new(subject: impl Into<String>) -> Self {
        Self(subject.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who asks and what they may see. Whoever checks identities puts it into a request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub id: PersonId,
    /// What others see until the person chooses another name.
    pub name: String,
    /// Sees exact places and times of threatened species that others have seen: rangers, scientists, admins.
    pub sees_exact: bool,
    /// Runs the server. Nobody's own data are open to an admin because of that.
    pub is_admin: bool,
}

impl Person {
    /// The only person of a server without identity, which answers on loopback only.
    pub fn local() -> Self {
        Self { id: PersonId::new("local"), name: "local".to_owned(), sees_exact: true, is_admin: true }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(Self::local))
    }
}
