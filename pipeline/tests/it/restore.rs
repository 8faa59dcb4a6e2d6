//! A backup of the state that is put back.

use pipeline::{RunState, Start};
use serde_json::json;

use crate::common::{back_up, dag, put_back, store};
use crate::kill::{ITEMS, child_runner, spawn, yaml};
use crate::process::{lines, runtime, until};

#[test]
fn a_run_goes_on_from_a_backup_and_effects_that_came_after_it_exist_once() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::create_dir(home.join("effects")).unwrap();
    let made = || lines(&home.join("made")).len();
    let mut child = spawn(home, "random");
    until("some effects", || made() >= 40);
    runtime().block_on(back_up(home));
    let in_backup = made();
    until("effects that the backup does not know", || made() >= in_backup + 40);
    child.die();
    let before = made();
    assert!(before < ITEMS, "the run ended before it could be killed");

    runtime().block_on(async {
        put_back(home).await;
        let runner = child_runner(home, "random", store(home).await);
        let dag = dag(&yaml("random"));
        let start = runner.start_or_resume(&dag, &dag.params(&[]).unwrap()).await.unwrap();
        let Start::Resumed { run_id, done_instances } = start else { panic!("a new run: {start:?}") };
        assert!(done_instances > 0 && done_instances as usize <= in_backup + 1, "{done_instances} of {in_backup}");
        let outcome = runner.drive(run_id).await.unwrap();
        assert_eq!(outcome.state, RunState::Succeeded);
        assert_eq!(runner.store().output(run_id, "total").await.unwrap(), Some(json!(ITEMS)));
    });
    assert_eq!(std::fs::read_dir(home.join("effects")).unwrap().count(), ITEMS);
    let again = lines(&home.join("made")).iter().filter(|line| line.ends_with(" false")).count();
    assert!(again >= 40, "what came after the backup is done again: {again}");
}
