//! Transactions that commit in another order than they began.

use std::time::Duration;

use pipeline::clock::Timestamp;
use pipeline::state::ChangeFilter;
use pipeline::{ChangeFeed, RunState, Store};
use tokio::time::timeout;

use crate::common::{dag, database};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_committed_late_is_told_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let database = database(home.path()).await;
    let store = Store::open(database.clone()).await.unwrap();
    let told = dag("dag: told\ntasks:\n  a: {job: give}\n");
    let params = told.params(&[]).unwrap();
    let late = store.create_run(&told, &params, Timestamp::now()).await.unwrap();
    let mut follower = ChangeFeed::new(store.clone()).follow(ChangeFilter::default(), None).await.unwrap();

    // Written first, committed last, and older by the clock.
    let mut transaction = database.pool().begin().await.unwrap();
    sqlx::query("INSERT INTO run_change (run_id, number, state, changed_at) VALUES ($1, 2, 'running', 1)")
        .bind(late.to_string())
        .execute(&mut *transaction)
        .await
        .unwrap();
    let quick = store.create_run(&told, &params, Timestamp::now()).await.unwrap();
    let first = timeout(PATIENCE, follower.next()).await.expect("no change came").unwrap();
    assert_eq!((first.run, first.state), (quick, RunState::Queued));
    transaction.commit().await.unwrap();
    let second = timeout(PATIENCE, follower.next()).await.expect("the late change is missed").unwrap();
    assert_eq!((second.run, second.state), (late, RunState::Running));
    assert!(second.position > first.position, "{second:?} {first:?}");
}
