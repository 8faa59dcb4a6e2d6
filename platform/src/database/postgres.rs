//! Pools on a PostgreSQL server.

use std::time::Duration;

use sqlx::Connection;
use sqlx::any::AnyPoolOptions;
use url::Url;

use super::{Database, Engine};
use crate::{Error, Result};

/// Connections of one process. The writer takes one, questions the rest; servers allow 100 by default.
const MAX_CONNECTIONS: u32 = 8;

/// How long a connection may take to be made or to become free.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that does not answer within this time is dead, though nobody has closed it.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A process that says nothing for so long in the middle of a transaction was stopped, or its host is gone: the server ends
/// its connection, and with it the locks that others wait for.
const SILENCE: &str = "SET idle_in_transaction_session_timeout = '5s'";

/// Prepared statements that a connection keeps, unless the URL says how many: a statement about several rows is another one for
/// each number of them.
const STATEMENTS: (&str, &str) = ("statement-cache-capacity", "512");

/// Opens a pool on the server and database that `url` names.
///
/// # Errors
/// [`Error::ServerUnreachable`] and [`Error::ServerRefused`], with the server's words.
pub(super) async fn open(url: &str) -> Result<Database> {
    sqlx::any::install_default_drivers();
    let pool = AnyPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(CONNECT_TIMEOUT)
        // In the place of the pool's own test, which would wait for as long as a connection may take to be made.
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            Box::pin(async move {
                let answer = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                Ok(matches!(answer, Ok(Ok(()))))
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::query(SILENCE).execute(connection).await.map(drop) })
        })
        .connect(&with_statements(url))
        .await
        .map_err(|error| explain(url, &error))?;
    Ok(Database::new(pool, Engine::Postgres))
}

/// The URL with room for statements. One that cannot be read stays as it is, for sqlx to say what is wrong with it.
fn with_statements(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return url.to_owned() };
    let (name, number) = STATEMENTS;
    if !url.query_pairs().any(|(key, _)| key == name) {
        url.query_pairs_mut().append_pair(name, number);
    }
    url.into()
}

/// The server's address for people: without password and options.
pub(super) fn shown(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "the PostgreSQL server".to_owned() };
    url.set_query(None);
    // Both fail only for URLs that cannot have a password.
    let _ = url.set_password(None);
    url.to_string()
}

/// A failure of the server that `url` names, in words without its password.
pub(super) fn explain(url: &str, error: &sqlx::Error) -> Error {
    let server = shown(url);
    match error {
        sqlx::Error::Database(failure) => {
            let code = failure.code().unwrap_or_default().into_owned();
            let advice = match code.as_str() {
                "28P01" | "28000" => "check user and password in `state.url`",
                "3D000" => "create the database, or name another in `state.url`",
                "53300" => "the server has no connection left; raise its max_connections or stop other programs",
                _ => "check `state.url` and the server's log",
            };
            Error::ServerRefused { server, reason: failure.message().to_owned(), advice }
        }
        sqlx::Error::PoolTimedOut => {
            Error::ServerUnreachable { server, reason: "it did not answer in time".to_owned() }
        }
        other => Error::ServerUnreachable { server, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_what_it_says_about_statements() {
        let more = with_statements("postgres://db.example/state?sslmode=require");
        assert_eq!(more, "postgres://db.example/state?sslmode=require&statement-cache-capacity=512");
        let own = "postgres://db.example/state?statement-cache-capacity=0";
        assert_eq!(with_statements(own), own);
        assert_eq!(with_statements("no url"), "no url");
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = "postgres://safari:s3cret@db.example/state?sslpassword=other";
        assert_eq!(shown(url), "postgres://safari@db.example/state");
        assert_eq!(shown("postgres://no password here"), "the PostgreSQL server");
    }
}
