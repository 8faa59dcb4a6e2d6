//! Claims of the executor, and attempts of workers and pods that are not heard of any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::options::KubernetesOptions;
use crate::clock::Timestamp;
use crate::dag::ExecutorKind;
use crate::error::Result;
use crate::ids::{AttemptId, RunId};
use crate::metrics;
use crate::state::{
    Begin, Change, ClaimRequest, Claimed, Ended, Gone, LostRule, Owner, RunStep, Step, StepDone, Store, Takes,
};

/// What the executor says to the state.
pub(super) struct Book<'a> {
    pub(super) store: &'a Store,
    pub(super) options: &'a KubernetesOptions,
    pub(super) owner: &'a Owner,
}

impl Book<'_> {
    /// Claims at most so many attempts, and gives when more will be ready if there was room left.
    pub(super) async fn claim(&self, free: usize) -> Result<(Vec<Claimed>, Option<Timestamp>)> {
        let takes = Takes::Of { executor: ExecutorKind::Kubernetes, is_default: self.options.is_default };
        // Each attempt has a process of its own, so a suspect harms no other.
        let claim = ClaimRequest { free, idle: true, takes, ..ClaimRequest::default() };
        let done = self.store.step(self.step(self.owner, Vec::new(), claim)).await?;
        for claimed in &done.claimed {
            let plan = self.store.plan(claimed.run).await?;
            metrics::claimed(&plan.dag.name, claimed.delay);
        }
        Ok((done.claimed, done.next_ready))
    }

    /// Records ends of attempts of an owner, and losses.
    pub(super) async fn record(
        &self,
        owner: &Owner,
        ended: Vec<Ended>,
        gone: BTreeMap<RunId, BTreeMap<AttemptId, Gone>>,
    ) -> Result<()> {
        let mut ends: BTreeMap<RunId, Vec<Ended>> = BTreeMap::new();
        for end in ended {
            ends.entry(end.claim.run).or_default().push(end);
        }
        let runs: std::collections::BTreeSet<RunId> = ends.keys().chain(gone.keys()).copied().collect();
        let mut steps = Vec::with_capacity(runs.len());
        for run in &runs {
            let lost = gone.get(run).map(|gone| self.rule(Some(Arc::new(gone.clone()))));
            let ended = Arc::new(ends.remove(run).unwrap_or_default());
            steps.push(RunStep { plan: self.store.plan(*run).await?, begin: Begin::No, lost, ended });
        }
        if steps.is_empty() {
            return Ok(());
        }
        let done = self.store.step(self.step(owner, steps, ClaimRequest::default())).await?;
        self.tell(&runs.into_iter().collect::<Vec<_>>(), &done).await
    }

    /// Gives back what is under way in processes whose lease has run out.
    pub(super) async fn sweep(&self) -> Result<()> {
        let runs = self.store.runs_with_lost_attempts(Timestamp::now()).await?;
        let mut steps = Vec::with_capacity(runs.len());
        for run in &runs {
            let lost = Some(self.rule(None));
            steps.push(RunStep { plan: self.store.plan(*run).await?, begin: Begin::No, lost, ended: Arc::default() });
        }
        if steps.is_empty() {
            return Ok(());
        }
        let done = self.store.step(self.step(self.owner, steps, ClaimRequest::default())).await?;
        self.tell(&runs, &done).await
    }

    async fn tell(&self, runs: &[RunId], done: &StepDone) -> Result<()> {
        for (run, done) in runs.iter().zip(&done.runs) {
            let plan = self.store.plan(*run).await?;
            for change in &done.changes {
                if let Change::Lost { position, map_index, how, .. } = change {
                    let task = plan.dag.tasks().get(*position).map(|task| task.id.as_str()).unwrap_or_default();
                    metrics::attempt_lost(&plan.dag.name, task);
                    tracing::warn!(%run, task, index = map_index, how, "attempt lost");
                }
            }
        }
        Ok(())
    }

    fn rule(&self, gone: Option<Arc<BTreeMap<AttemptId, Gone>>>) -> LostRule {
        LostRule { take_over: false, most_in_a_row: self.options.max_lost, known: None, gone }
    }

    fn step(&self, owner: &Owner, runs: Vec<RunStep>, claim: ClaimRequest) -> Step {
        Step { owner: owner.clone(), now: Timestamp::now(), lease: self.options.lease, runs, claim }
    }
}
