//! Whose turn it is: pools that are full, tasks that are urgent or wide, and clocks that jump.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Several runs on one store.
struct Play {
    world: World,
    plans: Vec<Arc<Plan>>,
}

impl Play {
    /// Begins a run of one more DAG, whose tasks are ready now.
    async fn add(&mut self, yaml: &str) {
        let dag = Dag::parse("test.yaml", yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        let store = &self.world.store;
        let run = store.create_run(&dag, &dag.params(&[]).unwrap(), self.world.now).await.unwrap();
        self.plans.push(store.plan(run).await.unwrap());
        let begin = self.one(self.plans.len() - 1, Vec::new());
        self.step(vec![begin], 0).await;
    }

    fn one(&self, plan: usize, ended: Vec<Ended>) -> RunStep {
        RunStep { plan: Arc::clone(&self.plans[plan]), begin: Begin::Now, lost: None, ended: Arc::new(ended) }
    }

    /// Ends attempts and claims others of any run.
    async fn step(&self, runs: Vec<RunStep>, free: usize) -> Vec<Claimed> {
        let claim = ClaimRequest { free, idle: true, ..ClaimRequest::default() };
        let step = Step { owner: owner("one"), now: self.world.now, lease: LEASE, runs, claim };
        self.world.store.step(step).await.unwrap().claimed
    }

    async fn end(&self, claim: &Claimed, free: usize) -> Vec<Claimed> {
        let plan = self.plans.iter().position(|plan| plan.run == claim.run).unwrap();
        self.step(vec![self.one(plan, vec![ok(claim, "1")])], free).await
    }
}

#[tokio::test]
async fn a_full_pool_holds_up_no_task_of_another() {
    let world = World::new(
        "dag: d\ntasks:\n  full: {job: x, pool: full, priority: 100, map: '{{ range(30) | list }}'}\n  free: {job: x, pool: free, map: '{{ range(3) | list }}'}\n  none: {job: x}\n",
    )
    .await;
    world.store.set_pool("free", 3).await.unwrap();
    let one = owner("one");
    let first = world.begin(&one, 5).await.claimed;
    let places = |claims: &[Claimed]| {
        let mut places: Vec<_> = claims.iter().map(|claim| (claim.position, claim.map_index)).collect();
        places.sort_unstable();
        places
    };
    assert_eq!(places(&first), [(0, Some(0)), (1, Some(0)), (1, Some(1)), (1, Some(2)), (2, None)]);
    // Both are full now, and the next goes where a slot comes free.
    assert!(world.begin(&owner("two"), 5).await.claimed.is_empty());
    let of_full = first.iter().find(|claim| claim.position == 0).unwrap();
    let next = world.step(&one, 5, vec![ok(of_full, "1")], None).await.claimed;
    assert_eq!(places(&next), [(0, Some(1))]);
}

/// Each of three slots is always taken by a small task of high priority, and more of them come all the time.
#[tokio::test]
async fn a_wide_task_of_low_priority_goes_in_the_end_though_urgent_small_ones_keep_coming() {
    const SMALL: &str = "dag: small\ntasks:\n  small: {job: x, pool: p, priority: 10}\n";
    let mut play = Play { world: World::new(SMALL).await, plans: Vec::new() };
    play.world.store.set_pool("p", 3).await.unwrap();
    for _ in 0..3 {
        play.add(SMALL).await;
    }
    let mut busy = play.step(Vec::new(), 3).await;
    assert_eq!(busy.len(), 3);
    play.add("dag: wide\ntasks:\n  wide: {job: x, pool: p, slots: 3}\n").await;
    let (began, wide) = (play.world.now, play.plans.last().unwrap().run);
    let mut small = 0;
    let waited = loop {
        // Every 20 seconds one of them ends after a minute, and another comes.
        play.world.now = play.world.now.plus(20 * SECOND);
        play.add(SMALL).await;
        let claimed = match busy.is_empty() {
            true => play.step(Vec::new(), 3).await,
            false => play.end(&busy.remove(0), 3).await,
        };
        let waited = play.world.now.since(began);
        if claimed.iter().any(|claim| claim.run == wide) {
            assert!(claimed.len() == 1 && busy.is_empty(), "it has the pool for itself");
            break waited;
        }
        assert!(waited < 15 * MINUTE, "it starves");
        small += claimed.len();
        busy.extend(claimed);
    };
    // Ten steps of priority are ten minutes; then the slots come free one after the other.
    assert!(waited >= 10 * MINUTE && waited <= 12 * MINUTE, "{waited:?}");
    assert!(small >= 28, "until then the urgent ones went first: {small}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_ahead_loses_no_task_and_counts_no_answer_twice() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut world =
        World::new("dag: d\ntasks:\n  a: {job: x}\n  b: {job: x, needs: [a]}\n  c: {job: x, needs: [b]}\n").await;
    world.now = world.now.plus(10 * DAY);
    let (one, two) = (owner("one"), owner("two"));
    let a = world.begin(&one, 1).await.claimed.remove(0);
    // A day back: the lease that was given before seems long, and the next heartbeat gives a right one.
    world.now = world.now.minus(DAY);
    assert!(world.begin(&two, 5).await.claimed.is_empty());
    assert_eq!(world.store.renew("one", world.now, LEASE).await.unwrap(), [a.attempt]);
    let lease = world.store.attempts(world.plan.run).await.unwrap()[0].lease_until;
    assert_eq!(lease, world.now.plus(LEASE));
    let done = world.step(&one, 1, vec![ok(&a, "1")], None).await;
    assert_eq!((done.counted, done.claimed[0].position), (vec![true], 1), "what comes after goes at once");
    let late = &done.claimed[0];
    // Two days ahead, past every lease: a living worker is taken for dead. Its answer does not count.
    world.now = world.now.plus(2 * DAY);
    let b = world.begin(&two, 1).await.claimed.remove(0);
    assert_eq!((b.instance, b.number), (late.instance, 2));
    assert_eq!(world.step(&one, 0, vec![ok(late, "1")], None).await.counted, [false]);
    let done = world.step(&two, 1, vec![ok(&b, "2")], None).await;
    assert_eq!(done.counted, [true]);
    // Back again in the middle of the last.
    world.now = world.now.minus(DAY);
    let done = world.step(&two, 0, vec![ok(&done.claimed[0], "3")], None).await;
    assert_eq!((done.counted, done.state), (vec![true], RunState::Succeeded));
    assert_eq!(world.store.output(world.plan.run, "b").await.unwrap(), Some(json!(2)));
}

#[tokio::test]
async fn a_dead_worker_gives_its_slots_back() {
    let mut world = World::new("dag: d\ntasks:\n  a: {job: x, pool: p, slots: 2, map: [1, 2]}\n").await;
    world.store.set_pool("p", 3).await.unwrap();
    assert_eq!(world.begin(&owner("dead"), 5).await.claimed.len(), 1);
    assert!(world.begin(&owner("next"), 5).await.claimed.is_empty(), "one slot is left, and it needs two");
    world.sleep(31);
    let done = world.begin(&owner("next"), 5).await;
    assert!(matches!(done.changes[..], [Change::Lost { failed: false, .. }]), "{:?}", done.changes);
    assert_eq!(done.claimed.len(), 1);
    assert_eq!(world.store.pools().await.unwrap(), [("p".to_owned(), 3, 2)]);
}
