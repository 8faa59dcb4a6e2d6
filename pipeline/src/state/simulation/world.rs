//! One history: schedulers and workers over several runs, with a clock of its own and faults, all drawn from one seed. It
//! is played on the model, and step by step on a store beside it if one is given.

use std::collections::{BTreeMap, BTreeSet};

use super::super::on_sqlite::Random;
use super::super::*;
use super::check::{Verdict, Watch, all_have_ended};
use super::counts::Counts;
use super::dags::random_dag;
use super::model::{Answer, Asked, AskedOfRun, Claim, Flaw, Model};
use super::rows::{AttemptName, MOST_LOST, RunNumber};
use super::sql::Sql;

const LEASE: Duration = Duration::from_secs(30);
const WORKERS: usize = 3;
const POOLS: [(&str, u32); 2] = [("p", 3), ("q", 2)];
/// Steps after which faults end, and after which a history must have ended.
const FAULTY: usize = 30;
const PATIENCE: usize = 3000;

/// One history under way.
pub(super) struct World {
    number: usize,
    random: Random,
    now: Timestamp,
    model: Model,
    sql: Option<Sql>,
    watch: Watch,
    workers: Vec<Worker>,
    /// Claims of dead and fenced workers, whose answers come late.
    stale: Vec<(String, Claim)>,
    /// What a scheduler has seen that stands still since.
    seen: Option<Seen>,
    /// The database is away until this step.
    away_until: usize,
    counts: Counts,
}

struct Worker {
    life: usize,
    holds: Vec<Claim>,
    /// The answer to its last step was lost.
    unsure: bool,
    health: Health,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    /// It works, and its heartbeats do not arrive.
    Silent,
    /// It does nothing, and goes on later as if nothing had happened.
    StandsStill,
}

struct Seen {
    at: Timestamp,
    intervals: Vec<(usize, DataInterval)>,
    runs: Vec<RunNumber>,
}

impl World {
    /// A history from its seed; on a `store`, if given, step by step as well.
    pub(super) async fn new(seed: usize, number: usize, store: Option<&Store>, flaw: Option<Flaw>) -> Self {
        // Its own numbers, whatever was played before it.
        let mixed = (number as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95);
        let mut random = Random((seed as u64).wrapping_mul(0x9e37_79b9).wrapping_add(1) ^ mixed);
        let now = Timestamp::from_millis(1_772_409_600_000);
        let mut dags = Vec::new();
        for one in 0..1 + random.below(3) {
            let yaml = random_dag(&mut random, &format!("h{number}_{one}"));
            dags.push(Arc::new(Dag::parse("test.yaml", &yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))));
        }
        let mut model = Model::new(&dags, &POOLS, now, flaw);
        let mut sql = match store {
            Some(store) => Some(Sql::new(store.clone(), &dags, &POOLS, now).await),
            None => None,
        };
        for dag in 0..dags.len() {
            for _ in 0..random.below(3) {
                model.create_run(dag, now);
                if let Some(sql) = &mut sql {
                    sql.create_run(dag, now).await;
                }
            }
        }
        if let Some(sql) = &mut sql {
            sql.find_runs().await;
        }
        let worker = || Worker { life: 0, holds: Vec::new(), unsure: false, health: Health::Well };
        Self {
            number,
            random,
            now,
            model,
            sql,
            watch: Watch::default(),
            workers: (0..WORKERS).map(|_| worker()).collect(),
            stale: Vec::new(),
            seen: None,
            away_until: 0,
            counts: Counts::default(),
        }
    }

    /// Whether it begins with a run.
    pub(super) fn has_runs(&self) -> bool {
        !self.model.rows.runs.is_empty()
    }

    /// Plays it to its end.
    ///
    /// # Errors
    /// The first promise that was broken, or difference between the store and the model.
    pub(super) async fn play(mut self) -> Verdict<Counts> {
        for step in 0..PATIENCE {
            self.step(step).await.map_err(|breach| format!("history {}, step {step}: {breach}", self.number))?;
            self.counts.steps += 1;
            if step > FAULTY && all_have_ended(&self.model.rows) {
                self.counts.ended(&self.model.rows);
                return Ok(self.counts);
            }
        }
        Err(format!("history {} does not end", self.number))
    }

    async fn step(&mut self, step: usize) -> Verdict {
        let faulty = step < FAULTY;
        if step == FAULTY {
            self.calm().await;
        }
        self.let_time_pass(faulty);
        if step >= self.away_until {
            match self.random.below(12) {
                0..=3 => self.schedule(faulty).await,
                4 if faulty => self.answer_late().await?,
                _ => self.work(faulty).await?,
            }
            if faulty {
                self.disturb(step).await?;
            }
            self.renew().await?;
        }
        self.watch_ends_and_compare().await
    }

    /// Faults end, and no more runs are made.
    async fn calm(&mut self) {
        for dag in 0..self.model.rows.dags.len() {
            self.model.rows.dags[dag].paused = true;
            if let Some(sql) = &mut self.sql {
                sql.pause(dag).await;
            }
        }
        self.workers.iter_mut().for_each(|worker| worker.health = Health::Well);
        self.seen = None;
    }

    fn let_time_pass(&mut self, faulty: bool) {
        self.now = self.now.plus(Duration::from_secs(self.random.below(if faulty { 9 } else { 20 }) as u64));
        match self.random.below(40) {
            0 if faulty => {
                // Past every lease.
                self.counts.happened("clock set ahead", 1);
                self.now = self.now.plus(Duration::from_secs(90));
            }
            1 if faulty => {
                self.counts.happened("clock set back", 1);
                self.now = self.now.minus(Duration::from_secs(4 + 40 * self.random.below(2) as u64));
            }
            _ => {}
        }
    }

    /// One scheduler does what is due, or two at once, or one that has stood still since it looked.
    async fn schedule(&mut self, faulty: bool) {
        if faulty && self.random.below(4) == 0 {
            return self.schedule_late().await;
        }
        let two = self.random.below(2) == 0;
        for run in self.model.overdue(self.now) {
            self.counts.happened("timed out", 1);
            self.watch.stopped(run);
        }
        self.model.pass(self.now);
        if two {
            self.counts.happened("two schedulers", 1);
            self.model.pass(self.now);
        }
        if let Some(sql) = &mut self.sql {
            sql.pass(self.now, two).await;
            sql.find_runs().await;
        }
    }

    async fn schedule_late(&mut self) {
        let Some(Seen { at, intervals, runs }) = self.seen.take() else {
            let (intervals, runs) = (self.model.due(self.now), self.model.startable());
            self.seen = Some(Seen { at: self.now, intervals, runs });
            return;
        };
        self.counts.happened("schedulers late", 1);
        for (dag, interval) in intervals {
            self.model.make_scheduled(dag, interval, at);
            if let Some(sql) = &mut self.sql {
                sql.make_scheduled(dag, interval, at).await;
            }
        }
        self.model.begin(&runs, at);
        if let Some(sql) = &mut self.sql {
            sql.begin(&runs, at).await;
            sql.find_runs().await;
        }
    }

    /// One worker says what ended and claims more; the answer may be lost.
    async fn work(&mut self, faulty: bool) -> Verdict {
        let who = self.random.below(WORKERS);
        if self.workers[who].health == Health::StandsStill {
            return Ok(());
        }
        let key = self.key(who);
        let mut ended = Vec::new();
        for _ in 0..self.random.below(4) {
            let Some(claim) = self.workers[who].holds.pop() else { break };
            if self.random.below(5) == 0 {
                self.stale.push((key.clone(), claim.clone()));
            }
            let end = self.end(&claim, faulty);
            ended.push((claim, end));
        }
        let from_hand = ended.len();
        let late = self.stale.iter().position(|(owner, _)| *owner == key);
        if let (Some(at), 0) = (late, self.random.below(2)) {
            self.counts.happened("answers late", 1);
            let (_, claim) = self.stale.swap_remove(at);
            let end = self.end(&claim, faulty);
            ended.push((claim, end));
        }
        let asked = self.ask(who, ended).await?;
        let answer = self.take_step(&asked).await?;
        let worker = &mut self.workers[who];
        if faulty && self.random.below(12) == 0 {
            // The database went away after the commit: the worker knows of no claim, and says its ends again.
            self.counts.happened("answers lost", 1);
            worker.unsure = true;
            let ends = asked.runs.into_iter().flat_map(|run| run.ended).take(from_hand);
            self.stale.extend(ends.map(|(claim, _)| (key.clone(), claim)));
            return Ok(());
        }
        worker.unsure = false;
        worker.holds.extend(answer.claimed);
        Ok(())
    }

    /// Somebody who was taken for dead says what ended, and nothing more.
    async fn answer_late(&mut self) -> Verdict {
        if self.stale.is_empty() {
            return Ok(());
        }
        self.counts.happened("answers of the dead", 1);
        let at = self.random.below(self.stale.len());
        let (owner, claim) = self.stale.swap_remove(at);
        let (run, end) = (claim.name.run, self.end(&claim, true));
        let (most_lost, ended) = (Some(MOST_LOST), vec![(claim, end)]);
        let runs = vec![AskedOfRun { run, begin: Begin::No, most_lost, known: None, ended }];
        let asked = Asked { owner, now: self.now, lease: LEASE, runs, free: 0, idle: false };
        self.take_step(&asked).await.map(drop)
    }

    async fn take_step(&mut self, asked: &Asked) -> Verdict<Answer> {
        let answer = self.model.step(asked);
        if let Some(sql) = &mut self.sql {
            same("the answer to a step", &sql.step(asked).await, &answer)?;
        }
        self.note(asked, &answer)?;
        Ok(answer)
    }

    /// What a worker asks, as the module `runner` does: also about runs that have lost attempts.
    async fn ask(&mut self, who: usize, ended: Vec<(Claim, End)>) -> Verdict<Asked> {
        let (key, now) = (self.key(who), self.now);
        let known = self.workers[who].unsure.then(|| {
            let claims = self.workers[who].holds.iter().chain(ended.iter().map(|(claim, _)| claim));
            claims.map(|claim| claim.name).collect::<Vec<_>>()
        });
        let mut runs = self.model.runs_with_lost_attempts(now);
        if let Some(sql) = &self.sql {
            same("runs with lost attempts", &sql.runs_with_lost_attempts(now).await, &runs)?;
        }
        if known.is_some() {
            let own = self.model.runs_of_owner(&key);
            if let Some(sql) = &self.sql {
                same("runs of an owner", &sql.runs_of_owner(&key).await, &own)?;
            }
            runs.extend(own);
        }
        let mut by_run: BTreeMap<RunNumber, Vec<(Claim, End)>> =
            runs.into_iter().map(|run| (run, Vec::new())).collect();
        for (claim, end) in ended {
            by_run.entry(claim.name.run).or_default().push((claim, end));
        }
        let runs = by_run.into_iter().map(|(run, ended)| AskedOfRun {
            run,
            begin: Begin::No,
            most_lost: Some(MOST_LOST),
            known: known.clone(),
            ended,
        });
        let (runs, free) = (runs.collect(), 1 + self.random.below(4));
        let idle = self.workers[who].holds.is_empty();
        Ok(Asked { owner: key, now, lease: LEASE, runs, free, idle })
    }

    /// Notes what came of a step.
    fn note(&mut self, asked: &Asked, answer: &Answer) -> Verdict {
        for (asked, answer) in asked.runs.iter().zip(&answer.runs) {
            for ((claim, _), counted) in asked.ended.iter().zip(&answer.counted) {
                match counted {
                    true => self.watch.counts(claim.name)?,
                    false => self.counts.happened("answers fenced", 1),
                }
            }
            self.counts.happened("attempts lost", answer.lost.len());
            self.counts.happened("given up", answer.lost.iter().filter(|(.., given_up)| *given_up).count());
        }
        Ok(())
    }

    fn end(&mut self, claim: &Claim, faulty: bool) -> End {
        let soon = self.now.plus(Duration::from_secs(self.random.below(40) as u64));
        let task = &self.model.rows.dags[self.model.rows.runs[claim.name.run].dag].dag.tasks()[claim.name.position];
        let is_tried_again = claim.failed < task.retry_policy("no").retries;
        match self.random.below(if faulty { 12 } else { 36 }) {
            0 | 1 => End::Failed { error: "no".to_owned(), retry_at: is_tried_again.then_some(soon) },
            2 => End::Later { note: "not yet".to_owned(), at: soon },
            3 => End::Interrupted,
            other => End::Succeeded {
                output: "[1, 2]".to_owned(),
                failures: u64::from(other == 4),
                summary: String::new(),
                caching: Caching::None,
            },
        }
    }

    /// Deaths, workers that fall silent, runs that are cancelled or let go on, a database that goes away.
    async fn disturb(&mut self, step: usize) -> Verdict {
        let who = self.random.below(WORKERS);
        match self.random.below(28) {
            0..=3 => {
                self.counts.happened("deaths", 1);
                // Rather one that has something to lose.
                let who = (0..WORKERS).find(|who| !self.workers[*who].holds.is_empty()).unwrap_or(who);
                let key = self.key(who);
                let worker = &mut self.workers[who];
                self.stale.extend(std::mem::take(&mut worker.holds).into_iter().map(|claim| (key.clone(), claim)));
                (worker.life, worker.unsure) = (worker.life + 1, false);
            }
            4 => {
                self.counts.happened("heartbeats missing", 1);
                self.workers[who].health = Health::Silent;
            }
            5 => {
                self.counts.happened("standing still", 1);
                self.workers[who].health = Health::StandsStill;
            }
            6..=8 => self.workers[who].health = Health::Well,
            9 => self.cancel().await,
            10 | 11 => return self.reopen().await,
            12 => {
                self.counts.happened("outages", 1);
                self.away_until = step + 1 + self.random.below(6);
            }
            _ => {}
        }
        Ok(())
    }

    async fn cancel(&mut self) {
        let count = self.model.rows.runs.len();
        if count == 0 {
            return;
        }
        let run = self.random.below(count);
        if !self.model.rows.runs[run].facts.state.is_finished() {
            self.counts.happened("cancelled", 1);
            self.watch.stopped(run);
        }
        self.model.stop(run, None, self.now);
        if let Some(sql) = &mut self.sql {
            sql.stop(run, self.now).await;
        }
    }

    async fn reopen(&mut self) -> Verdict {
        let rows = &self.model.rows;
        let ended: Vec<RunNumber> =
            (0..rows.runs.len()).filter(|run| rows.runs[*run].facts.state.is_finished()).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let run = ended[self.random.below(ended.len())];
        let tasks = rows.dags[rows.runs[run].dag].dag.tasks();
        let again = match self.random.below(2) {
            0 => Again::Failed,
            _ => {
                let task = tasks[self.random.below(tasks.len())].id.clone();
                Again::Task { task, downstream: self.random.below(2) == 0 }
            }
        };
        // Nothing may have failed.
        let goes_on = self.model.reopen(run, &again, self.now);
        if let Some(sql) = &mut self.sql {
            same("whether a run goes on", &sql.reopen(run, &again, self.now).await, &goes_on)?;
        }
        if goes_on {
            self.counts.happened("reopened", 1);
            self.watch.reopened(run);
        }
        Ok(())
    }

    /// Those workers whose heartbeats arrive keep their leases; what they no longer own they give up, and its answer
    /// comes late all the same.
    async fn renew(&mut self) -> Verdict {
        let mut alive = Vec::new();
        for who in 0..WORKERS {
            if self.workers[who].health == Health::Well && self.random.below(10) > 0 {
                alive.push(who);
            }
        }
        let keys: Vec<String> = alive.iter().map(|who| self.key(*who)).collect();
        let until = self.now.plus(LEASE);
        let kept: Vec<Vec<AttemptName>> = keys.iter().map(|key| self.model.renew(key, until)).collect();
        if let Some(sql) = &mut self.sql {
            same("the leases that were renewed", &sql.renew(&keys, self.now, LEASE).await, &kept)?;
        }
        for ((who, key), kept) in alive.into_iter().zip(keys).zip(kept) {
            let kept: BTreeSet<AttemptName> = kept.into_iter().collect();
            let fenced = self.workers[who].holds.extract_if(.., |claim| !kept.contains(&claim.name));
            self.stale.extend(fenced.map(|claim| (key.clone(), claim)));
        }
        Ok(())
    }

    async fn watch_ends_and_compare(&mut self) -> Verdict {
        if let Some(sql) = &mut self.sql {
            let watch = &self.watch;
            sql.compare(&self.model.rows, &self.model.told, |run| watch.is_settled(run)).await?;
        }
        self.watch.look(&self.model.rows, &self.model.told)
    }

    fn key(&self, who: usize) -> String {
        format!("{}/{who}/{}", self.number, self.workers[who].life)
    }
}

/// The store and the model must give the same.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, sql: &T, model: &T) -> Verdict {
    if sql == model {
        return Ok(());
    }
    Err(format!("{what} differs\nin SQL: {sql:?}\nmodel:  {model:?}"))
}
