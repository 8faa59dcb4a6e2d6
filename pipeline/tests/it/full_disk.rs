//! A SQLite file that may not grow.

use pipeline::{RunState, Runner, RunnerOptions, Start, Store};
use platform::database::{Database, Engine};

use crate::common::{dag, registry};
use crate::runs::task;

#[tokio::test]
async fn a_full_disk_ends_with_one_clear_message_and_the_run_goes_on_later() {
    let home = tempfile::tempdir().unwrap();
    let yaml =
        "dag: d\ntasks:\n  a: {job: give, map: '{{ range(40) | list }}', with: {value: '{{ \"x\" * 20000 }}'}}\n";
    let dag = dag(yaml);
    let params = dag.params(&[]).unwrap();
    sqlx::any::install_default_drivers();
    let small = sqlx::any::AnyPoolOptions::new()
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await?;
                sqlx::query("PRAGMA max_page_count = 120").execute(connection).await.map(drop)
            })
        })
        .connect(&format!("sqlite://{}/state.db?mode=rwc", home.path().display()))
        .await
        .unwrap();
    let small = Database::new(small, Engine::Sqlite);
    let runner = Runner::new(Store::open(small).await.unwrap(), registry([]), RunnerOptions::new(home.path()));
    let start = runner.start_or_resume(&dag, &params).await.unwrap();
    let error = runner.drive(start.run_id()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no space left for the state database while recording the end of an attempt; free some space and start again, \
         the run goes on where it stopped"
    );
    drop(runner);
    let runner = crate::common::runner(home.path(), []).await;
    let again = runner.start_or_resume(&dag, &params).await.unwrap();
    let Start::Resumed { run_id, done_instances } = again else { panic!("not resumed") };
    assert!(run_id == start.run_id() && done_instances > 5, "{done_instances}");
    let outcome = runner.drive(run_id).await.unwrap();
    assert_eq!(outcome.state, RunState::Succeeded);
    // At most the two that were under way ran twice.
    let attempts = task(&outcome.tasks, "a").attempts;
    assert!((40..=42).contains(&attempts), "{attempts}");
}
