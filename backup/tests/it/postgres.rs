//! A PostgreSQL database by `pg_dump`, while it is written to.

use backup::restore::{self, Choice};
use backup::{Error, PartKind, PartName, Places, Progress, What};
use platform::database::{Address, Database};
use sqlx::AssertSqlSafe;

use crate::house::{House, restore_to};

struct Server {
    server: e2e::postgres::Server,
    url: String,
}

impl Server {
    async fn start() -> Self {
        let server = e2e::postgres::Server::start().await.unwrap();
        let url = server.database().await.unwrap();
        let started = Self { server, url };
        started.run("CREATE TABLE run (id BIGINT PRIMARY KEY, text TEXT)").await;
        started.run("CREATE TABLE event (run BIGINT REFERENCES run, no BIGINT)").await;
        started
    }

    async fn run(&self, sql: &'static str) {
        let database = self.open().await;
        sqlx::query(sql).execute(database.pool()).await.unwrap();
        database.pool().close().await;
    }

    async fn open(&self) -> Database {
        Database::open(&Address::Postgres(self.url.clone())).await.unwrap()
    }

    fn places(&self, house: &House) -> Places {
        let mut places = house.places.clone();
        places.databases = vec![(PartName::State, Address::Postgres(self.url.clone()))];
        places
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let database = self.open().await;
        let number = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
        database.pool().close().await;
        number
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_under_load_comes_back_as_of_one_moment() {
    let (house, server) = (House::empty(), Server::start().await);
    let (repository, places) = (house.plain().await, server.places(&house));
    // Each transaction adds a run and its event: at no moment is there one without the other.
    let database = server.open().await;
    let writing = tokio::spawn(async move {
        for id in 0_i64.. {
            let sql = format!("BEGIN; INSERT INTO run VALUES ({id}, 'x'); INSERT INTO event VALUES ({id}, 1); COMMIT");
            if sqlx::raw_sql(AssertSqlSafe(sql)).execute(database.pool()).await.is_err() {
                return;
            }
        }
    });
    while server.number("SELECT COUNT(*) FROM run").await < 200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let made = backup::create(&repository, &places, What::Db, &Progress::silent()).await.unwrap();
    writing.abort();
    let _aborted = writing.await;
    let part = made.manifest.part(PartName::State).unwrap();
    assert_eq!(part.kind, PartKind::Postgres);
    assert_eq!(part.rows["public.run"], part.rows["public.event"]);
    assert!(part.rows["public.run"] >= 200);
    assert!(!part.origin.contains(server.url.split(':').nth(2).unwrap().split('@').next().unwrap()), "no password");

    // Nobody may be in it.
    let inside = server.open().await;
    let error = restore_to(&repository, &places, What::Db, Choice::Newest).await.unwrap_err();
    assert!(matches!(error, Error::DatabaseInUse(_)), "{error}");
    let still: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM run").fetch_one(inside.pool()).await.unwrap();
    assert!(still >= part.rows["public.run"] as i64);
    inside.pool().close().await;

    server.run("TRUNCATE run CASCADE").await;
    restore_to(&repository, &places, What::Db, Choice::Newest).await.unwrap();
    assert_eq!(server.number("SELECT COUNT(*) FROM run").await, part.rows["public.run"] as i64);
    assert_eq!(server.number("SELECT COUNT(*) FROM event JOIN run ON run = id").await, part.rows["public.run"] as i64);
    assert_eq!(others(&server).await, 0, "nothing is left beside it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_makes_a_database_of_its_own_and_removes_it() {
    let (house, server) = (House::empty(), Server::start().await);
    let (repository, places) = (house.plain().await, server.places(&house));
    server.run("INSERT INTO run VALUES (1, 'x'), (2, 'y')").await;
    backup::create(&repository, &places, What::Db, &Progress::silent()).await.unwrap();
    server.run("INSERT INTO run VALUES (3, 'z')").await;
    let folder = tempfile::tempdir().unwrap();
    let (home, progress) = (folder.path().join("x"), Progress::silent());
    let begun = backup::drill::begin(&repository, &places, What::Db, &home, &progress).await;
    let scratch = begun.unwrap();
    assert_eq!(others(&server).await, 1);
    assert_eq!(scratch.look().await.unwrap().rows, 2);
    scratch.remove().await;
    assert_eq!(others(&server).await, 0);
    assert_eq!(server.number("SELECT COUNT(*) FROM run").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_made_again() {
    let (house, server) = (House::empty(), Server::start().await);
    let (repository, places) = (house.plain().await, server.places(&house));
    server.run("INSERT INTO run VALUES (1, 'x')").await;
    backup::create(&repository, &places, What::Db, &Progress::silent()).await.unwrap();
    let name = server.url.rsplit('/').next().unwrap().to_owned();
    let other = server.server.database().await.unwrap();
    let database = Database::open(&Address::Postgres(other)).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name}"))).execute(database.pool()).await.unwrap();
    let plan = restore::plan(&repository, &places, What::Db, &Choice::Newest).await.unwrap();
    assert!(!plan.items[0].replaces);
    restore::restore(&repository, &places, &plan, false, &Progress::silent()).await.unwrap();
    assert_eq!(server.number("SELECT COUNT(*) FROM run").await, 1);
    database.pool().close().await;
}

/// Databases of restorations and drills.
async fn others(server: &Server) -> i64 {
    server.number("SELECT COUNT(*) FROM pg_database WHERE datname LIKE 'safari%'").await
}
