//! Attempts that an executor claims and other processes take over.

use std::collections::BTreeMap;

use super::*;
use crate::dag::ExecutorKind;

const KEY: &str = "kubernetes/wild";

const DAG: &str = "
dag: d
tasks:
  a: {job: x, executor: kubernetes, retries: 1}
  b: {job: x, executor: worker}
  c: {job: x}
  d: {dag: other}
";

impl World {
    async fn claim_as(&self, executor: ExecutorKind, is_default: bool) -> Vec<String> {
        let run = RunStep { plan: self.plan.clone(), begin: Begin::Now, lost: None, ended: Arc::default() };
        let takes = Takes::Of { executor, is_default };
        let claim = ClaimRequest { free: 9, takes, ..ClaimRequest::default() };
        let step = Step { owner: owner(KEY), now: self.now, lease: LEASE, runs: vec![run], claim };
        let claimed = self.store.step(step).await.unwrap().claimed;
        claimed.iter().map(|claim| self.plan.dag.tasks()[claim.position].id.clone()).collect()
    }

    async fn take(&self, claim: &Claimed, by: &str) -> bool {
        let ticket = Ticket { attempt: claim.attempt, number: claim.number, claimed_by: KEY.to_owned() };
        self.store.take_over(&ticket, &owner(by), self.now, LEASE).await.unwrap().is_some()
    }
}

fn gone(claim: &Claimed, owner: &str) -> LostRule {
    let one = Gone { owner_key: owner.to_owned(), how: "Evicted: for good reason".to_owned() };
    LostRule { gone: Some(Arc::new(BTreeMap::from([(claim.attempt, one)]))), ..rule(false) }
}

#[tokio::test]
async fn workers_and_the_executor_take_each_their_own() {
    let world = World::new(DAG).await;
    assert_eq!(world.claim_as(ExecutorKind::Kubernetes, false).await, ["a"]);
    assert_eq!(world.claim_as(ExecutorKind::Worker, false).await, ["b", "d"]);
    assert_eq!(world.claim_as(ExecutorKind::Worker, true).await, ["c"]);
    let world = World::new(DAG).await;
    assert_eq!(world.claim_as(ExecutorKind::Kubernetes, true).await, ["a", "c"]);
    // Who drives one run does all of it.
    let world = World::new(DAG).await;
    assert_eq!(world.begin(&owner("one"), 9).await.claimed.len(), 4);
}

#[tokio::test]
async fn of_many_that_would_take_an_attempt_over_one_does() {
    let world = World::new(DAG).await;
    let claim = world.begin(&owner(KEY), 1).await.claimed.remove(0);
    let names: Vec<String> = (0..8).map(|number| format!("{KEY}/pod-{number}")).collect();
    let taken = futures::future::join_all(names.iter().map(|name| world.take(&claim, name))).await;
    let winners: Vec<&String> = names.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(name, _)| name).collect();
    assert_eq!(winners.len(), 1, "{taken:?}");
    // The answer may have been lost on the way: it asks again.
    assert!(world.take(&claim, winners[0]).await);
    let under_way = world.store.under_way(KEY).await.unwrap();
    assert!(under_way.len() == 1 && under_way[0].owner.key == *winners[0], "{under_way:?}");
    assert_eq!(under_way[0].claim.attempt, claim.attempt);

    // Only its end counts.
    assert_eq!(world.step(&owner(KEY), 0, vec![bad(&claim, None)], None).await.counted, [false]);
    assert_eq!(world.step(&owner(winners[0]), 0, vec![ok(&claim, "1")], None).await.counted, [true]);
    assert!(!world.take(&claim, &format!("{KEY}/late")).await);
    assert!(world.store.under_way(KEY).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_pod_that_is_gone_is_told_of_in_words_unless_another_has_its_attempt() {
    let world = World::new(DAG).await;
    let claim = world.begin(&owner(KEY), 1).await.claimed.remove(0);
    let pod = format!("{KEY}/pod");
    assert!(world.take(&claim, &pod).await);
    // The executor saw it before it was taken over.
    let stepped = world.step(&owner(KEY), 0, Vec::new(), Some(gone(&claim, KEY))).await;
    assert!(stepped.changes.is_empty(), "{:?}", stepped.changes);
    assert_eq!(world.state("a").await, TaskState::Running);

    let stepped = world.step(&owner(KEY), 0, Vec::new(), Some(gone(&claim, &pod))).await;
    assert!(
        matches!(&stepped.changes[..], [Change::Lost { how, failed: false, .. }] if how == "Evicted: for good reason"),
        "{:?}",
        stepped.changes
    );
    assert_eq!(world.state("a").await, TaskState::Ready);
    assert_eq!(world.step(&owner(&pod), 0, vec![ok(&claim, "1")], None).await.counted, [false]);
    // It is done again, and no retry was counted. A claim of the executor's own can be gone, too.
    let again = world.begin(&owner(KEY), 1).await.claimed.remove(0);
    assert_eq!((again.number, again.failed), (2, 0));
    let stepped = world.step(&owner(KEY), 0, Vec::new(), Some(gone(&again, KEY))).await;
    assert_eq!(stepped.changes.len(), 1, "{:?}", stepped.changes);
}
