//! Who asks.

use std::fmt;

use platform::identity::Principal;

/// A person, as the server knows them: whom their token names. Never shown to others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PersonId(String);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// Who.
    pub(crate) id: PersonId,
    /// What a new profile is called.
    pub(crate) name: String,
}

impl PersonId {
    /// As the tables have it.
    pub(crate) fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Principal> for Person {
    fn from(principal: &Principal) -> Self {
        Self { id: PersonId::new(principal.id.as_ref()), name: principal.name.to_string() }
    }
}
