//! The one error type of this crate.

use model_registry::VersionNumber;

use crate::{Phase, RolloutId};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a rollout.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings and databases.
    #[error(transparent)]
    Platform(#[from] platform::Error),

    /// The registry does not answer or refuses.
    #[error(transparent)]
    Registry(#[from] model_registry::Error),

    /// The database does not do what it is asked.
    #[error("the database of rollouts failed while {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        source: sqlx::Error,
    },

    /// The database's tables cannot be brought up to date.
    #[error("the tables of rollouts cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),

    /// The database holds something that this version does not understand.
    #[error("the database of rollouts holds {found} for {what}: was it written by a newer version")]
    Unreadable {
        /// The column.
        what: &'static str,
        /// What was found.
        found: String,
    },

    /// A plan that is none: `file:line:column: message`, or what is wrong with a flag.
    #[error("{0}")]
    Plan(String),

    /// A text that names no rollout.
    #[error("`{0}` is no rollout's id; `safari rollout status` lists them")]
    NoId(String),

    /// There is no such rollout.
    #[error("there is no rollout {0}; `safari rollout status` lists them")]
    NotFound(RolloutId),

    /// The alias is not there, so nothing is served that could be replaced.
    #[error(
        "alias `{alias}` of {model} names no version, so there is nothing to replace; set it with `safari model promote`"
    )]
    NoAlias {
        /// The registered model.
        model: String,
        /// The alias.
        alias: String,
    },

    /// The version is served already.
    #[error("alias `{alias}` of {model} names version {version} already; give another version")]
    SameVersion {
        /// The registered model.
        model: String,
        /// The alias.
        alias: String,
        /// What it names.
        version: VersionNumber,
    },

    /// An alias has one rollout at a time.
    #[error("rollout {id} of {model} for `{alias}` is {phase}; wait for its end, or `safari rollout abort {id}`")]
    Busy {
        /// The other rollout.
        id: RolloutId,
        /// The registered model.
        model: String,
        /// The alias.
        alias: String,
        /// How it stands.
        phase: Phase,
    },

    /// Another rollout of the same alias was in the way and has ended by now.
    #[error("another rollout of the same alias has ended at this moment; try again")]
    Crossed,

    /// What is asked does not fit how the rollout stands.
    #[error("rollout {id} is {phase} and cannot be {wanted}")]
    Phase {
        /// The rollout.
        id: RolloutId,
        /// How it stands.
        phase: Phase,
        /// Such as `paused`.
        wanted: &'static str,
    },

    /// Somebody has moved the alias since, so there is nothing of this rollout to undo.
    #[error("alias `{alias}` of {model} was moved since rollout {id}; look at `safari model history {model}`")]
    MovedSince {
        /// The rollout.
        id: RolloutId,
        /// The registered model.
        model: String,
        /// The alias.
        alias: String,
    },

    /// Another process changed the rollout again and again.
    #[error("rollout {0} was changed by somebody else at the same moment; look at it and try again")]
    Changed(RolloutId),

    /// Replicas cannot be found or asked.
    #[error("the replicas cannot be asked: {0}")]
    Fleet(String),

    /// The server that counts answers cannot be asked, or does not know of them.
    #[error("the Prometheus server {server} {reason}")]
    Prometheus {
        /// Its address.
        server: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// An [`Error::Database`] about what was being done.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    /// Whether trying again may help: a server or a database that does not answer now.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Platform(error) => error.is_transient(),
            Self::Registry(error) => {
                matches!(error, model_registry::Error::Server { .. } | model_registry::Error::Database { .. })
                    || error.code() == model_registry::ErrorCode::TemporarilyUnavailable
            }
            Self::Database { .. } | Self::Changed(_) | Self::Crossed | Self::Fleet(_) | Self::Prometheus { .. } => true,
            _ => false,
        }
    }
}
