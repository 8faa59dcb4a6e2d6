//! One round of the executor: attempts as the state has them, held against the Jobs and pods as they were seen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::claims::Book;
use super::cluster::{Cluster, Made};
use super::job::{Subject, job, name};
use super::verdict::{self, Verdict};
use super::watch::{Seen, Watched, attempt_of};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::ids::{AttemptId, RunId};
use crate::job::JobError;
use crate::metrics;
use crate::runner::failure;
use crate::state::{End, Ended, Gone, Plan, Ticket, UnderWay};

/// Requests for Jobs under way at once.
const AT_ONCE: usize = 16;
/// A Job that was made and is not seen after this time is asked for again: the answer tells whether it is there.
const SEEN_BY_THEN: Duration = Duration::from_secs(15);
/// How long a pod whose attempt has ended may take to end by itself, beside its time to stop.
const SLACK: Duration = Duration::from_secs(5);

/// What the executor remembers from round to round. All of it can be lost.
#[derive(Default)]
pub(super) struct Memory {
    /// When Jobs were made.
    made: HashMap<AttemptId, Instant>,
    /// Since when the API server refuses a Job.
    refused: HashMap<AttemptId, Instant>,
    /// Since when Jobs are not needed any more, by name.
    unneeded: HashMap<String, Instant>,
    /// Whether the last round got no answer.
    pub(super) is_cut_off: bool,
}

/// What is to be recorded.
#[derive(Default)]
struct Findings {
    /// Ends by the key of the owner of their attempts.
    ended: BTreeMap<String, (crate::state::Owner, Vec<Ended>)>,
    gone: BTreeMap<RunId, BTreeMap<AttemptId, Gone>>,
    /// Jobs that are not needed from now on.
    remove: Vec<String>,
}

/// One round. Gives how many attempts are under way.
pub(super) async fn round(
    book: &Book<'_>,
    cluster: &Cluster,
    watched: &Watched,
    owner: Option<&OwnerReference>,
    memory: &mut Memory,
) -> Result<usize> {
    // First what is there, then what should be: a Job that is seen has an attempt that was committed before.
    let seen = watched.now();
    let under_way = book.store.under_way(&book.owner.key).await?;
    let stopping: HashSet<RunId> = book.store.stopping_runs().await?.into_iter().collect();
    let mut findings = Findings::default();
    let mut missing = Vec::new();
    for one in &under_way {
        let plan = book.store.plan(one.claim.run).await?;
        let is_pending = one.owner.key == book.owner.key;
        if is_pending && stopping.contains(&one.claim.run) {
            findings.remove.push(name(one.claim.attempt));
            findings.end(one, End::Interrupted);
            continue;
        }
        let verdict = verdict(book, &seen, one, is_pending);
        settle(book, cluster, one, &plan, verdict, &mut findings).await?;
        if is_pending && memory.is_missing(&seen, one.claim.attempt) {
            missing.push((one, plan));
        }
    }
    make(book, cluster, owner, missing, memory, &mut findings).await?;
    let ended = record(book, findings, cluster).await?;
    memory.forget(&under_way);
    clean(book, cluster, &seen, &under_way, memory).await;
    Ok(under_way.len().saturating_sub(ended))
}

fn verdict(book: &Book<'_>, seen: &Seen, one: &UnderWay, is_pending: bool) -> Verdict {
    let pods: Vec<&Pod> = seen.pods.get(&one.claim.attempt).into_iter().flatten().map(Arc::as_ref).collect();
    if is_pending {
        let job = seen.jobs.get(&name(one.claim.attempt)).map(Arc::as_ref);
        return verdict::pending(job, &pods, Timestamp::now(), book.options.pending);
    }
    let own = pods.into_iter().find(|pod| pod.metadata.name.as_ref() == Some(&one.owner.host));
    own.map_or(Verdict::GoesOn, verdict::taken)
}

/// Notes what a verdict means.
async fn settle(
    book: &Book<'_>,
    cluster: &Cluster,
    one: &UnderWay,
    plan: &Plan,
    verdict: Verdict,
    findings: &mut Findings,
) -> Result<()> {
    match verdict {
        Verdict::GoesOn => {}
        Verdict::Failed { mut error, quote } => {
            if let Some(pod) = quote
                && let Some(lines) = cluster.last_lines(&pod).await
            {
                error.message = format!("{}; it wrote last:\n{lines}", error.message);
            }
            findings.fail(book, one, plan, error)?;
        }
        Verdict::Lost(how) => {
            let gone = Gone { owner_key: one.owner.key.clone(), how };
            findings.gone.entry(one.claim.run).or_default().insert(one.claim.attempt, gone);
        }
    }
    Ok(())
}

/// Makes Jobs that are missing.
async fn make(
    book: &Book<'_>,
    cluster: &Cluster,
    owner: Option<&OwnerReference>,
    missing: Vec<(&UnderWay, Arc<Plan>)>,
    memory: &mut Memory,
    findings: &mut Findings,
) -> Result<()> {
    let mut asking = Vec::with_capacity(missing.len());
    for (place, (one, plan)) in missing.iter().enumerate() {
        let Some(task) = plan.dag.tasks().get(one.claim.position) else { continue };
        let ticket =
            Ticket { attempt: one.claim.attempt, number: one.claim.number, claimed_by: book.owner.key.clone() };
        let subject = Subject { ticket, run: one.claim.run, dag: &plan.dag.name, task, map_index: one.claim.map_index };
        let job = job(&subject, &cluster.namespace, &book.options.template, book.options.keep, owner.cloned());
        let cluster = cluster.clone();
        asking.push(async move { (place, cluster.make(&job).await) });
    }
    let mut making = futures::stream::iter(asking).buffer_unordered(AT_ONCE);
    let mut silent = None;
    while let Some((place, made)) = making.next().await {
        let Some((one, plan)) = missing.get(place) else { continue };
        let attempt = one.claim.attempt;
        match made {
            Made::There => {
                memory.made.insert(attempt, Instant::now());
                memory.refused.remove(&attempt);
            }
            Made::NoAnswer(reason) => silent = Some(reason),
            Made::Never(reason) => {
                let error = format!(
                    "Kubernetes takes no such Job: {reason}; correct `kubernetes` of the task, or the pod template"
                );
                findings.fail(book, one, plan, JobError::permanent(error))?;
            }
            Made::Refused(reason) => {
                let since = *memory.refused.entry(attempt).or_insert_with(Instant::now);
                tracing::warn!(%attempt, reason, "Kubernetes refuses a Job for now");
                if since.elapsed() >= book.options.pending {
                    memory.refused.remove(&attempt);
                    let error = format!("Forbidden: Kubernetes refused a Job for {:?}: {reason}", book.options.pending);
                    findings.fail(book, one, plan, JobError::transient(error))?;
                }
            }
        }
    }
    if let Some(reason) = &silent {
        tracing::warn!(reason, "the API server of Kubernetes does not answer; what waits for a pod waits on");
    }
    memory.is_cut_off = silent.is_some();
    Ok(())
}

/// Records what was found; gives how many attempts have ended.
async fn record(book: &Book<'_>, findings: Findings, cluster: &Cluster) -> Result<usize> {
    let Findings { ended, gone, remove } = findings;
    let count =
        ended.values().map(|(_, ended)| ended.len()).sum::<usize>() + gone.values().map(BTreeMap::len).sum::<usize>();
    for (owner, ended) in ended.into_values() {
        book.record(&owner, ended, BTreeMap::new()).await?;
    }
    book.record(book.owner, Vec::new(), gone).await?;
    for name in remove {
        if let Err(reason) = cluster.remove(&name).await {
            tracing::warn!(
                job = name,
                reason,
                "a Job that is not needed any more could not be removed; it will be tried again"
            );
        }
    }
    Ok(count)
}

/// Removes Jobs that nobody needs: those that go on though their attempt has ended, and those that ended long ago.
async fn clean(book: &Book<'_>, cluster: &Cluster, seen: &Seen, under_way: &[UnderWay], memory: &mut Memory) {
    let needed: HashSet<AttemptId> = under_way.iter().map(|one| one.claim.attempt).collect();
    let is_ours = |attempt: Option<AttemptId>| attempt.is_some_and(|attempt| !needed.contains(&attempt));
    memory.unneeded.retain(|name, _| seen.jobs.contains_key(name));
    for (name, job) in &seen.jobs {
        if !is_ours(attempt_of(job.as_ref())) || job.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let since = *memory.unneeded.entry(name.clone()).or_insert_with(Instant::now);
        let patience = if verdict::is_over(job) { book.options.keep } else { book.options.grace + SLACK };
        if since.elapsed() < patience {
            continue;
        }
        match cluster.remove(name).await {
            Ok(()) => drop(memory.unneeded.remove(name)),
            // The others would not be answered either.
            Err(reason) => {
                tracing::warn!(job = name, reason, "a Job that is not needed any more could not be removed");
                return;
            }
        }
    }
}

impl Memory {
    fn is_missing(&self, seen: &Seen, attempt: AttemptId) -> bool {
        let was_made = self.made.get(&attempt).is_some_and(|made| made.elapsed() < SEEN_BY_THEN);
        !was_made && !seen.jobs.contains_key(&name(attempt))
    }

    fn forget(&mut self, under_way: &[UnderWay]) {
        let open: HashSet<AttemptId> = under_way.iter().map(|one| one.claim.attempt).collect();
        self.made.retain(|attempt, _| open.contains(attempt));
        self.refused.retain(|attempt, _| open.contains(attempt));
    }
}

impl Findings {
    fn end(&mut self, one: &UnderWay, end: End) {
        let ended = Ended { claim: one.claim.clone(), end, items: 0 };
        let entry = self.ended.entry(one.owner.key.clone());
        entry.or_insert_with(|| (one.owner.clone(), Vec::new())).1.push(ended);
    }

    /// A failure, tried again as the task says.
    fn fail(&mut self, book: &Book<'_>, one: &UnderWay, plan: &Plan, error: JobError) -> Result<()> {
        let missing =
            || Error::Corrupt { what: format!("task position {}, which the DAG does not have", one.claim.position) };
        let task = plan.dag.tasks().get(one.claim.position).ok_or_else(missing)?;
        let message = book.options.known_secrets.masker().mask(&error.message).into_owned();
        let end = failure(JobError { message, ..error }, task, &one.claim, Timestamp::now());
        let outcome = if matches!(end, End::Failed { retry_at: Some(_), .. }) { "retried" } else { "failed" };
        metrics::attempt_ended(&plan.dag.name, &task.id, outcome, Timestamp::now().since(one.claim.claimed_at));
        if let End::Failed { error, .. } = &end {
            tracing::warn!(
                task = task.id,
                index = one.claim.map_index,
                attempt = one.claim.number,
                error,
                "attempt failed"
            );
        }
        self.end(one, end);
        Ok(())
    }
}
