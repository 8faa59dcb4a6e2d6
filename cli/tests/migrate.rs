//! `safari migrate`: checks, plans, and many at once.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::safari;
use platform::database::{Address, Database};

const TABLES: [&str; 3] = ["_sqlx_migrations", "_registry_migrations", "_identity_migrations"];

/// Databases on a server: that of the state and of identity, and that of the registry.
type Urls<'a> = Option<[&'a str; 2]>;

fn migrate(folder: &Path, urls: Urls<'_>) -> Command {
    let mut command = safari(folder);
    if let Some([state, registry]) = urls {
        command.env("SAFARI_STATE_URL", state).env("SAFARI_REGISTRY_DATABASE", registry);
    }
    command.arg("migrate");
    command
}

async fn at_once(folder: &Path, urls: Urls<'_>) {
    let start = |_| migrate(folder, urls).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let all: Vec<_> = (0..6).map(start).collect();
    for child in all {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(migrate(folder, urls).arg("--check").output().unwrap().status.success());
    for table in TABLES {
        let address = match (urls, table) {
            (Some([_, registry]), "_registry_migrations") => Address::Postgres(registry.to_owned()),
            (Some([state, _]), _) => Address::Postgres(state.to_owned()),
            (None, "_registry_migrations") => Address::Sqlite(folder.join("home/registry.db")),
            (None, _) => Address::Sqlite(folder.join("home/state.db")),
        };
        let database = Database::open(&address).await.unwrap();
        let applied = database.applied_migrations(table).await.unwrap();
        let expected: Vec<i64> = (1..=applied.len() as i64).collect();
        assert!(!applied.is_empty() && applied == expected, "{table}: {applied:?}");
        database.pool().close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_each_change_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    at_once(folder.path(), None).await;
    let server = e2e::postgres::Server::start().await.unwrap();
    let (state, registry) = (server.database().await.unwrap(), server.database().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    at_once(folder.path(), Some([&state, &registry])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_the_sql_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plan = migrate(folder.path(), None).arg("--plan").output().unwrap();
    assert!(plan.status.success(), "{}", String::from_utf8_lossy(&plan.stderr));
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("-- state in ") && plan.contains(": 2 telemetry\n"), "{plan}");
    assert!(plan.contains("CREATE TABLE task_instance") && plan.contains("CREATE TABLE registered_model"), "{plan}");
    // What the version before uses is neither changed nor removed.
    let lower = plan.to_lowercase();
    for word in ["drop table", "drop column", " rename ", "alter column"] {
        assert!(!lower.contains(word), "{word}");
    }
    let check = migrate(folder.path(), None).arg("--check").output().unwrap();
    assert_eq!(check.status.code(), Some(1), "it has only planned");
    assert!(migrate(folder.path(), None).output().unwrap().status.success());
    let plan = migrate(folder.path(), None).arg("--plan").output().unwrap();
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.lines().all(|line| line.starts_with("-- ") && line.ends_with(": up to date")), "{plan}");
}
