//! Who this client is.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use platform::identity::TOKEN_VARIABLE;

/// What is sent as `Authorization`.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// A token.
    Token(String),
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl Credentials {
    /// Those of MLflow's own variables: `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, else
    /// `MLFLOW_TRACKING_TOKEN`; else `SAFARI_TOKEN`.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let token = variable("MLFLOW_TRACKING_TOKEN").or_else(|| variable(TOKEN_VARIABLE));
        match (variable("MLFLOW_TRACKING_USERNAME"), token) {
            (Some(user), _) => Self::Basic { user, password: variable("MLFLOW_TRACKING_PASSWORD").unwrap_or_default() },
            (None, Some(token)) => Self::Token(token),
            (None, None) => Self::None,
        }
    }

    /// The value of the header.
    pub(super) fn header(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Token(token) => Some(format!("Bearer {token}")),
            Self::Basic { user, password } => Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))),
        }
    }
}

/// Without secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token(***)"),
            Self::Basic { user, .. } => write!(f, "Basic({user}, ***)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let token = Credentials::Token("s3cret".to_owned());
        let basic = Credentials::Basic { user: "ada".to_owned(), password: "s3cret".to_owned() };
        assert!(!format!("{token:?} {basic:?}").contains("s3cret"));
        assert_eq!(token.header().as_deref(), Some("Bearer s3cret"));
        assert_eq!(basic.header().as_deref(), Some("Basic YWRhOnMzY3JldA=="));
    }
}
