//! Drives one rollout, for as long as the lease is held. It may be killed at any point: everything that it does can be done
//! again, and what it knows is read anew.

use std::time::{Duration, Instant};

use model_registry::client::Client;
use tracing::{info, warn};

use crate::alias::{self, Moved};
use crate::analysis::{Both, Verdict, Window, drift, judge};
use crate::fleet::{Behind, Cause, Fleet, Standing, Versions};
use crate::machine::{Next, Phase, Seen, next};
use crate::prometheus::Prometheus;
use crate::store::{Change, Lease, Rollout, Store};
use crate::{Error, Result};

/// How often replicas are asked, and how long a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks at the replicas.
    pub look: Duration,
    /// A driver that is gone is noticed after this time.
    pub lease: Duration,
}

/// Drives a rollout with what it needs.
pub(crate) struct Driver<'a> {
    pub(crate) store: &'a Store,
    pub(crate) client: &'a Client,
    pub(crate) fleet: Box<dyn Fleet>,
    /// Who has counted the answers; none: the replicas themselves.
    pub(crate) prometheus: Option<Prometheus>,
    pub(crate) pace: Pace,
}

/// What is known of a phase, since this driver began with it.
struct Watching {
    phase: Phase,
    step: usize,
    began: Instant,
    applied: Option<Instant>,
    window: Window,
    /// What was written down last, so that it is written once.
    told: String,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look: Duration::from_secs(1), lease: Duration::from_secs(15) }
    }
}

impl Driver<'_> {
    /// Goes on until the rollout has ended, or the lease is lost.
    ///
    /// # Errors
    /// The rollout cannot be read.
    pub(crate) async fn drive(&self, lease: Lease) -> Result<()> {
        let released = lease.clone();
        tokio::select! {
            done = self.go_on(&lease) => {
                // It would end by itself.
                let _ = self.store.release(&released).await;
                done
            }
            () = self.hold(lease.clone()) => Ok(()),
        }
    }

    /// Holds the lease; ends when it is lost.
    async fn hold(&self, mut lease: Lease) {
        loop {
            tokio::time::sleep(self.pace.lease / 3).await;
            let renewed = self.store.renew(&lease, self.pace.lease);
            match tokio::time::timeout_at(lease.until.into(), renewed).await {
                Ok(Ok(Some(longer))) => lease = longer,
                Ok(Ok(None)) => return,
                Ok(Err(error)) if Instant::now() < lease.until => {
                    warn!(rollout = %lease.id, %error, "the lease of a rollout was not renewed yet");
                }
                Ok(Err(_)) | Err(_) => {
                    warn!(rollout = %lease.id, "the lease of a rollout is lost, as the database does not answer");
                    return;
                }
            }
        }
    }

    async fn go_on(&self, lease: &Lease) -> Result<()> {
        let mut watching: Option<Watching> = None;
        loop {
            let rollout = match self.store.get(lease.id).await {
                Err(error) if error.is_transient() => {
                    warn!(rollout = %lease.id, %error, "a rollout cannot be read now");
                    tokio::time::sleep(self.pace.look).await;
                    continue;
                }
                other => other?,
            };
            if rollout.phase.is_end() {
                return Ok(());
            }
            let mut now = match watching.take() {
                Some(before) if before.phase == rollout.phase && before.step == rollout.step => before,
                _ => Watching::new(&rollout),
            };
            if let Err(error) = self.once(lease, &rollout, &mut now).await {
                warn!(rollout = %rollout.id, phase = %rollout.phase, %error, "a rollout does not go on now");
                self.tell(&rollout, &mut now, error.to_string()).await;
            }
            watching = Some(now);
            tokio::time::sleep(self.pace.look).await;
        }
    }

    async fn once(&self, lease: &Lease, rollout: &Rollout, watching: &mut Watching) -> Result<()> {
        match rollout.phase {
            Phase::Advancing | Phase::Paused => self.watch(lease, rollout, watching).await,
            Phase::Promoting => self.promote(lease, rollout, watching).await,
            Phase::Aborting | Phase::Undoing => self.retreat(lease, rollout, watching).await,
            Phase::Promoted | Phase::Aborted | Phase::Undone => Ok(()),
        }
    }

    /// Gives the candidate its share, reads what was counted, and decides.
    async fn watch(&self, lease: &Lease, rollout: &Rollout, watching: &mut Watching) -> Result<()> {
        // A registry that does not answer now is no reason to stop: the alias is compared again when it moves.
        if let Ok(Moved::Elsewhere(now, who)) = alias::look(self.client, rollout).await {
            let note = moved_meanwhile(rollout, now, &who);
            return self.change(lease, rollout, Phase::Aborting, rollout.step, note).await;
        }
        let versions = versions(rollout);
        let percent = rollout.percent();
        let standing = self.fleet.share(&versions, percent).await?;
        if let Some(refused) = standing.refusal() {
            let note = format!("{} does not take the candidate: {}", refused.replica, refused.reason);
            return self.change(lease, rollout, Phase::Aborting, rollout.step, note).await;
        }
        if standing.holds() && watching.applied.is_none() {
            watching.applied = Some(Instant::now());
            watching.window = Window::default();
            let replicas = standing.there.len();
            self.tell(rollout, watching, format!("{percent} percent at {replicas} replicas, watched from now on"))
                .await;
        }
        if !standing.behind.is_empty() {
            self.tell(rollout, watching, standing.told()).await;
        }
        let uncounted = match watching.applied {
            Some(_) => self.count(&versions, &mut watching.window).await.err(),
            None => None,
        };
        if let Some(error) = &uncounted {
            self.tell(rollout, watching, error.to_string()).await;
        }
        let both = watching.window.both();
        let seen = Seen {
            phase: rollout.phase,
            step: rollout.step,
            tried: watching.began.elapsed(),
            applied: watching.applied.map(|applied| applied.elapsed()),
            verdict: self.verdict(rollout, both, watching.applied.is_some(), uncounted),
        };
        let (phase, step, note) = match next(&rollout.stored.plan, &seen) {
            Next::Stay => return Ok(()),
            Next::Step(step) => {
                let to = rollout.stored.plan.steps.get(step).map_or(100, |step| step.percent);
                (Phase::Advancing, step, format!("{to} percent come next; at {percent}: {}", summary(both)))
            }
            Next::Promote => {
                (Phase::Promoting, rollout.step, format!("all steps are passed; at {percent}: {}", summary(both)))
            }
            Next::Abort(why) => {
                (Phase::Aborting, rollout.step, with_standing(why, &standing, watching.applied.is_some()))
            }
        };
        self.change(lease, rollout, phase, step, note).await
    }

    /// Takes what was counted until now.
    async fn count(&self, versions: &Versions, window: &mut Window) -> Result<()> {
        let counted = match &self.prometheus {
            Some(prometheus) => prometheus.counted(versions).await?,
            None => self.fleet.counted(versions).await?,
        };
        for counted in counted {
            window.take(&counted.replica, counted.stable, counted.candidate);
        }
        Ok(())
    }

    /// What is said of the candidate. What is known to be bad is bad, though nobody tells what came after it.
    fn verdict(&self, rollout: &Rollout, both: &Both, is_applied: bool, uncounted: Option<Error>) -> Verdict {
        if !is_applied {
            return Verdict::Short("the candidate has not its share yet".to_owned());
        }
        match (judge(&rollout.stored.plan.limits, both, rollout.percent() < 100), uncounted) {
            (Verdict::Good | Verdict::Short(_), Some(error)) => Verdict::Short(error.to_string()),
            (verdict, _) => verdict,
        }
    }

    /// Moves the alias, then lets the replicas follow.
    async fn promote(&self, lease: &Lease, rollout: &Rollout, watching: &mut Watching) -> Result<()> {
        let moved = match alias::promote(self.client, rollout).await {
            Err(error @ Error::Registry(_)) if !error.is_transient() => {
                return self.change(lease, rollout, Phase::Aborting, rollout.step, error.to_string()).await;
            }
            Err(error) => {
                // It would go away while the registry does not answer.
                let _ = self.fleet.share(&versions(rollout), rollout.percent()).await;
                return Err(error);
            }
            Ok(moved) => moved,
        };
        if let Moved::Elsewhere(now, who) = moved {
            let note = moved_meanwhile(rollout, now, &who);
            return self.change(lease, rollout, Phase::Aborting, rollout.step, note).await;
        }
        let standing = self.fleet.agree(&rollout.model, rollout.candidate).await?;
        self.settle(lease, rollout, watching, Phase::Promoted, rollout.candidate, &standing).await
    }

    /// Takes the candidate away, moves the alias back if this rollout has moved it, and lets the replicas follow.
    async fn retreat(&self, lease: &Lease, rollout: &Rollout, watching: &mut Watching) -> Result<()> {
        if rollout.phase == Phase::Aborting {
            // Before the registry is asked, which may not answer.
            self.fleet.withdraw().await?;
        }
        let version = match alias::undo(self.client, rollout, &rollout.note).await? {
            Moved::Names(version) => version,
            Moved::Elsewhere(now, who) => {
                let told =
                    format!("alias `{}` names {}, moved there by {who}, and is left alone", rollout.alias, shown(now));
                self.tell(rollout, watching, told).await;
                now.unwrap_or(rollout.stable)
            }
        };
        let end = if rollout.phase == Phase::Aborting { Phase::Aborted } else { Phase::Undone };
        let standing = self.fleet.agree(&rollout.model, version).await?;
        self.settle(lease, rollout, watching, end, version, &standing).await
    }

    /// Ends when all replicas are in agreement, or when those that are not were waited for long enough.
    async fn settle(
        &self,
        lease: &Lease,
        rollout: &Rollout,
        watching: &mut Watching,
        end: Phase,
        version: model_registry::VersionNumber,
        standing: &Standing,
    ) -> Result<()> {
        let count = standing.there.len();
        let why = if rollout.note.is_empty() { String::new() } else { format!("; {}", rollout.note) };
        if standing.is_whole() {
            let note = format!("version {version} answers at all {count} replicas{why}");
            return self.change(lease, rollout, end, rollout.step, note).await;
        }
        self.tell(rollout, watching, standing.told()).await;
        // A candidate that answers in the place of replicas that do not come may not be left behind, nor one that nobody
        // could be asked to take away.
        let is_open = |one: &Behind| matches!(one.cause, Cause::Away | Cause::Soon);
        let stays = rollout.phase == Phase::Promoting || standing.behind.iter().any(is_open);
        if self.fleet.needs_a_driver() && stays {
            return Ok(());
        }
        if watching.began.elapsed() > rollout.stored.plan.patience {
            let note = format!(
                "version {version} answers at {count} replicas; not yet, and no longer waited for: {}{why}",
                standing.told()
            );
            return self.change(lease, rollout, end, rollout.step, note).await;
        }
        Ok(())
    }

    async fn change(&self, lease: &Lease, rollout: &Rollout, phase: Phase, step: usize, note: String) -> Result<()> {
        info!(rollout = %rollout.id, from = %rollout.phase, to = %phase, step, %note, "a rollout goes on");
        // Whoever was faster has reasons that the next look will see.
        self.store.change(rollout, Some(lease), &Change { phase, step, note }).await.map(drop)
    }

    /// Writes something down once.
    async fn tell(&self, rollout: &Rollout, watching: &mut Watching, text: String) {
        if watching.told == text {
            return;
        }
        if let Err(error) = self.store.tell(rollout, &text).await {
            warn!(rollout = %rollout.id, %error, %text, "an event of a rollout is not written down");
        }
        watching.told = text;
    }
}

impl Watching {
    fn new(rollout: &Rollout) -> Self {
        Self {
            phase: rollout.phase,
            step: rollout.step,
            began: Instant::now(),
            applied: None,
            window: Window::default(),
            told: String::new(),
        }
    }
}

fn versions(rollout: &Rollout) -> Versions {
    Versions { model: rollout.model.clone(), stable: rollout.stable, candidate: rollout.candidate }
}

/// Such as `412 answers, 0 failed, p99 81ms, drift of box 0.01`.
fn summary(both: &Both) -> String {
    let candidate = &both.candidate;
    let mut told = format!("{} answers, {} failed", candidate.answers, candidate.failures);
    if let Some(p99) = candidate.seconds.quantile(0.99) {
        told.push_str(&format!(", p99 {:.0}ms", p99 * 1000.0));
    }
    for (of, scores) in &candidate.scores {
        if let Some(before) = both.stable.scores.get(of).filter(|before| before.total() > 0) {
            told.push_str(&format!(", drift of {of} {:.2}", drift(before, scores).index));
        }
    }
    told
}

/// Why it ends, with what is wrong with the replicas where that is the reason.
fn with_standing(why: String, standing: &Standing, is_applied: bool) -> String {
    if is_applied { why } else { format!("{why}: {}", standing.told()) }
}

fn moved_meanwhile(rollout: &Rollout, now: Option<model_registry::VersionNumber>, who: &str) -> String {
    format!("alias `{}` was moved to {} by {who} meanwhile", rollout.alias, shown(now))
}

fn shown(version: Option<model_registry::VersionNumber>) -> String {
    version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"))
}
