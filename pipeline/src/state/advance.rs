//! What the end of a task means for the tasks downstream.

use std::collections::BTreeSet;

use serde_json::Value;

use super::claim::STEP_OF_PRIORITY;
use super::create::{ROWS_IN_ONE, pool_of};
use super::read::output_of;
use super::rules::{Spoiled, not_run_because, turn, upstream, verdict_on_items};
use super::step::{Change, RunTransaction};
use super::types::{InstanceKind, TaskState};
use crate::dag::{Decision, Task, Upstream};
use crate::error::{Error, Result};
use crate::ids::TaskInstanceId;
use crate::template::{self, Scope};
use platform::database::Statement;

/// Items of one mapped task.
const MOST_ITEMS: usize = 100_000;
const DOING: &str = "letting tasks go on";

/// Ends mapped tasks whose items have all ended, and lets waiting tasks go on, until nothing more follows.
pub(super) async fn advance(run: &mut RunTransaction<'_>) -> Result<()> {
    let mut maps = std::mem::take(&mut run.settled.maps);
    maps.sort_unstable();
    for items in maps.chunk_by(|a, b| a == b) {
        if let Some(map) = items.first() {
            run.items_ended(*map, items.len()).await?;
        }
    }
    loop {
        for ended in std::mem::take(&mut run.settled.ended) {
            if let Some(task) = run.plan.dag.tasks().get(ended) {
                run.settled.candidates.extend(&task.downstream);
                if !task.produces.is_empty() && run.states.get(&ended) == Some(&TaskState::Succeeded) {
                    run.update_assets(ended).await?;
                }
            }
        }
        let mut candidates = std::mem::take(&mut run.settled.candidates);
        candidates.sort_unstable();
        candidates.dedup();
        if candidates.is_empty() || run.stopping {
            return Ok(());
        }
        run.look_at_needs(&candidates).await?;
        for candidate in candidates {
            run.let_go(candidate).await?;
        }
    }
}

impl RunTransaction<'_> {
    /// Moves one waiting task if its needs have decided about it.
    async fn let_go(&mut self, position: usize) -> Result<()> {
        let Some(task) = self.plan.dag.tasks().get(position) else { return Ok(()) };
        let state = |need: &String| self.plan.dag.position(need).and_then(|position| self.states.get(&position));
        let states: Vec<Upstream> =
            task.needs.iter().map(|need| state(need).copied().map_or(Upstream::Pending, upstream)).collect();
        match task.trigger.decide(&states) {
            Decision::Wait => Ok(()),
            Decision::Skip => self.end_waiting(position, TaskState::Skipped, None).await,
            Decision::FailWithUpstream => {
                let error = not_run_because(task, &states);
                self.end_waiting(position, TaskState::UpstreamFailed, Some(error)).await
            }
            Decision::Go => match self.wanted(task).await? {
                Ok(false) => self.end_waiting(position, TaskState::Skipped, None).await,
                Err(error) => self.end_waiting(position, TaskState::Failed, Some(error)).await,
                Ok(true) if task.map.is_some() => self.expand(position).await,
                Ok(true) => self.make_ready(position).await,
            },
        }
    }

    /// Whether the task's `when` lets it run; the inner error is a `when` that gives no boolean.
    async fn wanted(&mut self, task: &Task) -> Result<std::result::Result<bool, String>> {
        let Some(when) = &task.when else { return Ok(Ok(true)) };
        let scope = self.scope_with(task.when_uses.iter()).await?;
        Ok(template::render_condition(when, &scope))
    }

    /// What templates know, with the outputs of some tasks.
    async fn scope_with<'s>(&mut self, tasks: impl Iterator<Item = &'s String>) -> Result<Scope> {
        let mut scope = self.plan.scope.clone();
        for used in tasks {
            let output = output_of(self.connection, self.plan.run, used).await?.unwrap_or_default();
            scope.add_output(used, &output);
        }
        Ok(scope)
    }

    /// Asks for the states of the tasks that the candidates need, all at once. What has ended in this transaction is known,
    /// and nothing else that happens in it decides about others.
    async fn look_at_needs(&mut self, candidates: &[usize]) -> Result<()> {
        let dag = &self.plan.dag;
        let needed = candidates.iter().filter_map(|position| dag.tasks().get(*position)).flat_map(|task| &task.needs);
        let positions: BTreeSet<usize> = needed.filter_map(|need| dag.position(need)).collect();
        let unknown: Vec<usize> =
            positions.into_iter().filter(|position| !self.states.contains_key(position)).collect();
        for chunk in unknown.chunks(ROWS_IN_ONE) {
            let mut query = Statement::new("SELECT position, state FROM task_instance WHERE run_id = ");
            query.text(self.plan.run.to_string()).push(" AND map_index = -1 AND task IN ").row();
            for position in chunk {
                query.text(dag.tasks().get(*position).map_or("", |task| &task.id));
            }
            query.end_row();
            let rows: Vec<(i64, String)> = query
                .query_as()
                .fetch_all(&mut *self.connection)
                .await
                .map_err(|error| Error::database(DOING, error))?;
            for (position, state) in rows {
                self.states.insert(usize::try_from(position).unwrap_or(usize::MAX), TaskState::read(&state)?);
            }
        }
        Ok(())
    }

    async fn make_ready(&mut self, position: usize) -> Result<()> {
        let Some(task) = self.plan.dag.tasks().get(position) else { return Ok(()) };
        let moved = sqlx::query(
            "UPDATE task_instance SET state = 'ready', ready_at = $1, turn = $1 - priority * $2
             WHERE run_id = $3 AND task = $4 AND map_index = -1 AND state = 'waiting'",
        )
        .bind(self.now.millis())
        .bind(STEP_OF_PRIORITY.as_millis() as i64)
        .bind(self.plan.run.to_string())
        .bind(&task.id)
        .execute(&mut *self.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        self.made_ready(position, moved.rows_affected());
        Ok(())
    }

    /// Ends a task that never ran.
    async fn end_waiting(&mut self, position: usize, state: TaskState, error: Option<String>) -> Result<()> {
        self.end_task(position, TaskState::Waiting, state, error).await.map(drop)
    }

    /// Makes the items of a mapped task whose list can now be known: as many ready as may run at once, the others
    /// waiting.
    async fn expand(&mut self, position: usize) -> Result<()> {
        let Some(task) = self.plan.dag.tasks().get(position) else { return Ok(()) };
        let items = match self.items_of(task).await? {
            Ok(items) => items,
            Err(error) => return self.end_waiting(position, TaskState::Failed, Some(error)).await,
        };
        let state = if items.is_empty() { TaskState::Succeeded } else { TaskState::Running };
        let moved: Option<(i64,)> = sqlx::query_as(
            "UPDATE task_instance SET state = $1, instances = $2, started_at = $3, finished_at = $4
             WHERE run_id = $5 AND task = $6 AND map_index = -1 AND state = 'waiting' RETURNING attempts",
        )
        .bind(state.as_str())
        .bind(items.len() as i64)
        .bind(self.now.millis())
        .bind(state.is_finished().then(|| self.now.millis()))
        .bind(self.plan.run.to_string())
        .bind(&task.id)
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        let Some((attempts,)) = moved else { return Ok(()) };
        let ready = self.insert_items(position, task, &items, attempts).await?;
        self.made_ready(position, ready);
        self.changes.push(Change::Expanded { position, instances: items.len() as u64 });
        if state.is_finished() {
            self.settle(position, None, state, None);
        }
        Ok(())
    }

    /// The list that a task is mapped over; the inner error is for the task.
    async fn items_of(&mut self, task: &Task) -> Result<std::result::Result<Vec<Value>, String>> {
        let scope = self.scope_with(task.map_uses.iter()).await?;
        let items = task.map.as_ref().map_or(Ok(Value::Null), |map| template::render(map, &scope));
        Ok(match items {
            Ok(Value::Array(items)) if items.len() <= MOST_ITEMS => Ok(items),
            Ok(Value::Array(items)) => {
                Err(format!("`map` gave {} items, more than the {MOST_ITEMS} allowed; make larger items", items.len()))
            }
            Ok(_) => Err("`map` gave no list; it must be a list of items".to_string()),
            Err(error) => Err(format!("`map`: {error}")),
        })
    }

    /// Gives how many of them are ready. `attempts`: those of earlier items, when the task is done again.
    async fn insert_items(&mut self, position: usize, task: &Task, items: &[Value], attempts: i64) -> Result<u64> {
        let at_once = task.parallelism.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let turn = turn(self.now, task.priority);
        let labels = task.labels_text();
        let rows: Vec<(usize, String)> = items.iter().map(Value::to_string).enumerate().collect();
        for chunk in rows.chunks(ROWS_IN_ONE) {
            let mut insert = Statement::new(
                "INSERT INTO task_instance
                   (id, run_id, task, map_index, kind, position, state, ready_at, priority, turn, queue, pool, slots, labels,
                    cpu_millis, memory_bytes, gpus, executor, attempts, item) VALUES ",
            );
            for (index, item) in chunk {
                let state = if *index < at_once { TaskState::Ready } else { TaskState::Waiting };
                insert
                    .row()
                    .text(TaskInstanceId::new().to_string())
                    .text(self.plan.run.to_string())
                    .text(task.id.as_str())
                    .number(*index as i64)
                    .text(InstanceKind::Item.as_str())
                    .number(position as i64)
                    .text(state.as_str())
                    .number(self.now.millis())
                    .number(i64::from(task.priority))
                    .number(turn)
                    .maybe_text(task.queue.as_deref())
                    .maybe_text(pool_of(task))
                    .number(i64::from(task.slots))
                    .maybe_text(labels.as_deref())
                    .number(i64::from(task.resources.cpu_millis))
                    .number(i64::try_from(task.resources.memory_bytes).unwrap_or(i64::MAX))
                    .number(i64::from(task.resources.gpus))
                    .maybe_text(task.executor_text())
                    .number(attempts)
                    .text(item.as_str())
                    .end_row();
            }
            insert.query().execute(&mut *self.connection).await.map_err(|error| Error::database(DOING, error))?;
        }
        Ok(rows.len().min(at_once) as u64)
    }

    /// Some items of a mapped task have ended: as many waiting ones take their places, or the task has ended too.
    async fn items_ended(&mut self, position: usize, count: usize) -> Result<()> {
        let next = self.next_items(position, count).await?;
        if next > 0 {
            self.made_ready(position, next);
            return Ok(());
        }
        let open: Option<(i64,)> = sqlx::query_as(
            "SELECT CAST(1 AS BIGINT) FROM task_instance
             WHERE run_id = $1 AND state IN ('ready', 'running') AND position = $2 AND map_index >= 0 LIMIT 1",
        )
        .bind(self.plan.run.to_string())
        .bind(position as i64)
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        if open.is_some() {
            return Ok(());
        }
        let (state, error) = self.state_of_items(position).await?;
        self.end_task(position, TaskState::Running, state, error).await.map(drop)
    }

    /// Lets waiting items go; gives how many did.
    async fn next_items(&mut self, position: usize, count: usize) -> Result<u64> {
        let limited = self.plan.dag.tasks().get(position).is_some_and(|task| task.parallelism.is_some());
        if !limited || self.stopping {
            return Ok(0);
        }
        self.let_items_go(position, count as i64).await
    }

    /// Makes waiting items of a mapped task ready; gives how many.
    pub(super) async fn let_items_go(&mut self, position: usize, most: i64) -> Result<u64> {
        let moved = sqlx::query(
            "UPDATE task_instance SET state = 'ready', ready_at = $1, turn = $1 - priority * $2
             WHERE id IN (SELECT id FROM task_instance
                          WHERE run_id = $3 AND state = 'waiting' AND position = $4 AND map_index >= 0
                          ORDER BY map_index LIMIT $5)",
        )
        .bind(self.now.millis())
        .bind(STEP_OF_PRIORITY.as_millis() as i64)
        .bind(self.plan.run.to_string())
        .bind(position as i64)
        .bind(most)
        .execute(&mut *self.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        Ok(moved.rows_affected())
    }

    /// How a mapped task whose items have all ended has gone.
    async fn state_of_items(&mut self, position: usize) -> Result<(TaskState, Option<String>)> {
        let spoiled: Vec<(i64, String, Option<String>)> = sqlx::query_as(
            "SELECT map_index, state, error FROM task_instance
             WHERE run_id = $1 AND state IN ('failed', 'cancelled') AND position = $2 AND map_index >= 0
             ORDER BY map_index",
        )
        .bind(self.plan.run.to_string())
        .bind(position as i64)
        .fetch_all(&mut *self.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        let read = |(index, state, error): (i64, String, Option<String>)| {
            let place = usize::try_from(index).unwrap_or(usize::MAX);
            Ok(Spoiled { place, state: TaskState::read(&state)?, error })
        };
        let spoiled: Vec<Spoiled> = spoiled.into_iter().map(read).collect::<Result<_>>()?;
        Ok(verdict_on_items(&spoiled))
    }

    /// Compare-and-set on the row of a task as a whole, to a state that ends it.
    async fn end_task(
        &mut self,
        position: usize,
        from: TaskState,
        to: TaskState,
        error: Option<String>,
    ) -> Result<bool> {
        let Some(task) = self.plan.dag.tasks().get(position) else { return Ok(false) };
        let moved = sqlx::query(
            "UPDATE task_instance SET state = $1, error = $2, finished_at = $3
             WHERE run_id = $4 AND task = $5 AND map_index = -1 AND state = $6",
        )
        .bind(to.as_str())
        .bind(&error)
        .bind(self.now.millis())
        .bind(self.plan.run.to_string())
        .bind(&task.id)
        .bind(from.as_str())
        .execute(&mut *self.connection)
        .await
        .map_err(|error| Error::database(DOING, error))?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        self.settle(position, None, to, error);
        Ok(true)
    }
}
