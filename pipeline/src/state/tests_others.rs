//! What one process leaves to do wakes those that wait in another.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::schedule::DataInterval;

const PATIENCE: Duration = Duration::from_secs(20);

const DAG: &str = "
dag: d
schedule: '0 * * * *'
alerts:
  - {on: [retry], command: [tell]}
tasks:
  a: {job: x, retries: 2}
  b: {job: x, needs: [a]}
  c: {job: x, needs: [b], queue: far}
  d: {job: x, needs: [c], pool: one}
  e: {job: x, pool: one}
";

/// One who waits in another process, as far as the database can tell.
struct Other {
    changed: watch::Receiver<u64>,
    watching: JoinHandle<()>,
}

impl Other {
    /// Watches what is written to the world's database from now on.
    async fn of(world: &World) -> Self {
        let store = Store::open(world.store.database.clone()).await.unwrap();
        let mut other =
            Self { changed: store.changed(), watching: tokio::spawn(async move { store.watch_others().await }) };
        // On PostgreSQL it looks once when it has begun to listen; on SQLite it must have looked before it can compare.
        match engine() {
            Engine::Postgres => other.is_told("it listens").await,
            Engine::Sqlite => tokio::time::sleep(Duration::from_millis(600)).await,
        }
        other
    }

    async fn is_told(&mut self, of: &str) {
        let told = tokio::time::timeout(PATIENCE, self.changed.changed()).await;
        told.unwrap_or_else(|_| panic!("nobody was told: {of}")).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// A step on any run by a worker that takes tasks of one queue.
async fn step_as(world: &World, queue: &str, free: usize, ended: Vec<Ended>) -> Vec<Claimed> {
    let run = RunStep { plan: world.plan.clone(), begin: Begin::Now, lost: None, ended: Arc::new(ended) };
    let claim =
        ClaimRequest { free, idle: false, run: None, queues: vec![queue.to_owned()], ..ClaimRequest::default() };
    let step = Step { owner: owner("one"), now: world.now, lease: LEASE, runs: vec![run], claim };
    world.store.step(step).await.unwrap().claimed
}

fn at(claims: &[Claimed], world: &World, task: &str) -> Claimed {
    let position = world.plan.dag.position(task).unwrap();
    claims.iter().find(|claim| claim.position == position).unwrap().clone()
}

#[tokio::test]
async fn whatever_leaves_something_to_do_is_told() {
    let mut world = World::new(DAG).await;
    let mut other = Other::of(&world).await;
    let (store, dag) = (world.store.clone(), Arc::clone(&world.plan.dag));
    let params = dag.params(&[]).unwrap();

    store.create_run(&dag, &params, world.now).await.unwrap();
    other.is_told("a run is made").await;
    // It takes `e` with the only slot of the pool, and leaves `a`.
    let begun = step_as(&world, "near", 2, Vec::new()).await;
    assert_eq!(begun.len(), 2);
    let (a, e) = (at(&begun, &world, "a"), at(&begun, &world, "e"));
    step_as(&world, "near", 0, vec![ok(&e, "1")]).await;
    other.is_told("a slot of a pool is free").await;
    step_as(&world, "near", 5, vec![bad(&a, Some(world.now.plus(Duration::from_secs(60))))]).await;
    other.is_told("a task is tried again later, and an alert waits").await;
    world.sleep(61);
    let again = step_as(&world, "near", 5, Vec::new()).await;
    let b = step_as(&world, "near", 5, vec![ok(&at(&again, &world, "a"), "1")]).await;
    assert!(step_as(&world, "near", 5, vec![ok(&at(&b, &world, "b"), "1")]).await.is_empty());
    other.is_told("a task is ready that this worker may not take").await;

    store.cancel(world.plan.run, world.now).await.unwrap();
    other.is_told("a run is stopped").await;
    store.reopen(world.plan.run, Again::Failed, world.now).await.unwrap();
    other.is_told("a run goes on").await;
    store.update_asset("asset", world.now).await.unwrap();
    other.is_told("an asset is updated").await;
    store.set_pool("one", 2).await.unwrap();
    other.is_told("a pool has more slots").await;
    store.register(&dag, world.now).await.unwrap();
    other.is_told("a dag is read").await;
    store.pause("d", true).await.unwrap();
    other.is_told("a schedule rests").await;
    let hour = |hour: i64| Timestamp::from_millis(hour * 3_600_000).time();
    let range = DataInterval { start: hour(1), end: hour(3) };
    let backfill = NewBackfill { range, params, rerun: Rerun::All, max_active: 1 };
    store.backfill("d", &backfill, world.now).await.unwrap();
    other.is_told("a backfill is made").await;
    let item = NewItem { id: "1".to_owned(), item: json!(1) };
    store.add_items("d", &[item], world.now).await.unwrap();
    other.is_told("an item has come in").await;
}

/// A chain costs others nothing while its own worker goes on. What is said has the order of the commits, so that what was
/// told last was told alone.
#[tokio::test]
async fn what_a_worker_goes_on_with_itself_is_not_told() {
    if engine() == Engine::Sqlite {
        return;
    }
    let world =
        World::new("dag: d\ntasks:\n  a: {job: x}\n  b: {job: x, needs: [a]}\n  c: {job: x, needs: [b]}\n").await;
    let one = owner("one");
    let mut claims = world.begin(&one, 1).await.claimed;
    let mut other = Other::of(&world).await;
    let before = *other.changed.borrow_and_update();
    for _ in 0..2 {
        claims = world.step(&one, 1, vec![ok(&claims[0], "1")], None).await.claimed;
        assert_eq!(claims.len(), 1);
    }
    world.store.set_pool("p", 1).await.unwrap();
    other.is_told("a pool").await;
    assert_eq!(*other.changed.borrow(), before + 1);
}

#[tokio::test]
async fn what_a_process_says_itself_does_not_wake_it_twice() {
    if engine() == Engine::Sqlite {
        return;
    }
    let world = World::new(PAIR).await;
    let mut own = Other {
        changed: world.store.changed(),
        watching: tokio::spawn({
            let store = world.store.clone();
            async move { store.watch_others().await }
        }),
    };
    own.changed.mark_unchanged();
    own.is_told("it listens").await;
    let before = *own.changed.borrow_and_update();
    world.store.set_pool("p", 1).await.unwrap();
    let other = Store::open(world.store.database.clone()).await.unwrap();
    other.set_pool("q", 1).await.unwrap();
    // One for its own, told within the process, and one for the other's.
    let told = tokio::time::timeout(PATIENCE, own.changed.wait_for(|count| *count >= before + 2)).await;
    assert_eq!(*told.unwrap().unwrap(), before + 2);
}
