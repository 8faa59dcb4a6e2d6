//! Databases on a PostgreSQL server: made beside those that they replace, and exchanged by name in one transaction.

use platform::database::{Address, Database};
use sqlx::AssertSqlSafe;

use crate::source::postgres::{self, database_name, with_database};
use crate::{Error, Result};

/// The database that every server has, from which others are made and renamed.
const MAINTENANCE: &str = "postgres";

/// A connection to the server of a database, in another one.
struct Server {
    address: Address,
    database: Database,
}

impl Server {
    async fn of(url: &str) -> Result<Self> {
        let address = Address::Postgres(with_database(url, MAINTENANCE));
        let database = Database::open(&address).await?;
        Ok(Self { address, database })
    }

    async fn run(&self, doing: &'static str, sql: String) -> Result<()> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(self.database.pool()).await;
        done.map(drop).map_err(Error::database(&self.address, doing))
    }

    async fn exists(&self, name: &str) -> Result<bool> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pg_database WHERE datname = $1")
            .bind(name)
            .fetch_one(self.database.pool())
            .await
            .map_err(Error::database(&self.address, "listing databases"))?;
        Ok(count > 0)
    }

    async fn close(self) {
        self.database.pool().close().await;
    }
}

/// Whether the database exists and has a table.
pub(super) async fn has_tables(address: &Address) -> Result<bool> {
    let Address::Postgres(url) = address else { return Ok(false) };
    let server = Server::of(url).await?;
    let exists = server.exists(&database_name(url)).await?;
    server.close().await;
    Ok(exists && postgres::has_tables(url).await?)
}

/// An empty database of that name on the server of `url`; what had the name is gone. Gives its URL.
pub(super) async fn create(url: &str, name: &str) -> Result<String> {
    let server = Server::of(url).await?;
    server.run("removing an unfinished restoration", format!("DROP DATABASE IF EXISTS {}", quoted(name))).await?;
    // Not template1, to which others may have added what the archive has as well.
    let sql = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", quoted(name));
    server.run("making a database", sql).await?;
    server.close().await;
    Ok(with_database(url, name))
}

/// Removes a database, if it is there.
pub(crate) async fn drop_database(url: &str, name: &str) -> Result<()> {
    let server = Server::of(url).await?;
    let dropped = server.run("removing a database", format!("DROP DATABASE IF EXISTS {}", quoted(name))).await;
    server.close().await;
    dropped
}

/// Lets nobody else into a database that is to be replaced.
///
/// # Errors
/// [`Error::DatabaseInUse`] while somebody is in it.
pub(super) async fn close_doors(address: &Address) -> Result<()> {
    let Address::Postgres(url) = address else { return Ok(()) };
    let (server, name) = (Server::of(url).await?, database_name(url));
    if !server.exists(&name).await? {
        server.close().await;
        return Ok(());
    }
    let doors = |open: bool| format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {open}", quoted(&name));
    server.run("closing a database", doors(false)).await?;
    let inside: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = $1")
        .bind(&name)
        .fetch_one(server.database.pool())
        .await
        .map_err(Error::database(&server.address, "counting its connections"))?;
    if inside > 0 {
        server.run("opening a database again", doors(true)).await?;
        server.close().await;
        return Err(Error::DatabaseInUse(address.clone()));
    }
    server.close().await;
    Ok(())
}

/// Lets others in again, after nothing was replaced.
pub(super) async fn open_doors(address: &Address) {
    let Address::Postgres(url) = address else { return };
    let sql = format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", quoted(&database_name(url)));
    let Ok(server) = Server::of(url).await else { return };
    if let Err(error) = server.run("opening a database again", sql).await {
        tracing::warn!(%error, "a database that was to be replaced stays closed");
    }
    server.close().await;
}

/// Gives the restored database the name of the old one, and the old one another, in one transaction. Done again, it does
/// nothing.
pub(super) async fn exchange(url: &str, staged: &str, old: &str) -> Result<()> {
    let (server, name) = (Server::of(url).await?, database_name(url));
    if server.exists(staged).await? {
        let away = match server.exists(&name).await? {
            true => format!("ALTER DATABASE {} RENAME TO {};", quoted(&name), quoted(old)),
            false => String::new(),
        };
        let sql = format!("BEGIN; {away} ALTER DATABASE {} RENAME TO {}; COMMIT", quoted(staged), quoted(&name));
        server.run("exchanging databases", sql).await?;
    }
    server.close().await;
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
