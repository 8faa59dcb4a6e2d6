//! Alerts that are to be told. They are written in the transaction of what they tell of, and told afterwards, so that
//! none is forgotten; one that was told just before a crash is told again, with the same key.

use serde_json::{Value, json};
use sqlx::AnyConnection;

use super::step::RunTransaction;
use super::writer::read_id;
use super::{Plan, Store};
use crate::clock::Timestamp;
use crate::dag::AlertEvent;
use crate::error::{Error, Result};
use crate::ids::{AlertId, RunId};
use platform::database::Statement;

const DOING: &str = "keeping alerts";

/// An alert that is due.
#[derive(Clone, Debug)]
pub(crate) struct DueAlert {
    pub(crate) id: AlertId,
    pub(crate) run: RunId,
    /// Place in the DAG's list of alerts.
    pub(crate) entry: usize,
    /// What happened, as it is told.
    pub(crate) message: Value,
    /// How often it was tried before.
    pub(crate) tries: u32,
}

impl RunTransaction<'_> {
    /// Notes what happened for everybody whom the DAG tells of it.
    pub(super) async fn alert(&mut self, event: AlertEvent, fields: Value) -> Result<()> {
        self.concerns_others |= insert(self.connection, self.plan, event, fields, self.now).await?;
        Ok(())
    }
}

impl Store {
    /// Notes all runs whose deadline has passed; gives how many.
    pub(crate) async fn note_missed_deadlines(&self, now: Timestamp) -> Result<usize> {
        let late: Vec<(String,)> = sqlx::query_as(
            "SELECT id FROM run WHERE deadline_at <= $1 AND state IN ('queued', 'running') ORDER BY deadline_at LIMIT 100",
        )
        .bind(now.millis())
        .fetch_all(self.pool())
        .await
        .map_err(doing)?;
        for (run,) in &late {
            let plan = self.plan(read_id(run)?).await?;
            let mut transaction = self.pool().begin_with(self.database.begin_write()).await.map_err(doing)?;
            // Another scheduler may have been faster.
            let noted = sqlx::query("UPDATE run SET deadline_at = NULL WHERE id = $1 AND deadline_at <= $2")
                .bind(run)
                .bind(now.millis())
                .execute(&mut *transaction)
                .await
                .map_err(doing)?;
            if noted.rows_affected() > 0 {
                let error =
                    format!("the run has not ended {:?} after it was due", plan.dag.deadline.unwrap_or_default());
                insert(&mut transaction, &plan, AlertEvent::Deadline, json!({ "error": error }), now).await?;
                self.say(&mut transaction).await.map_err(doing)?;
            }
            transaction.commit().await.map_err(doing)?;
        }
        if !late.is_empty() {
            self.writer.tell_others();
        }
        Ok(late.len())
    }

    /// Alerts that are due, the oldest first.
    pub(crate) async fn due_alerts(&self, now: Timestamp, most: u32) -> Result<Vec<DueAlert>> {
        let rows: Vec<(String, String, i64, String, i64)> = sqlx::query_as(
            "SELECT id, run_id, entry, message, tries FROM alert
             WHERE state = 'waiting' AND next_try_at <= $1 ORDER BY next_try_at, id LIMIT $2",
        )
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(self.pool())
        .await
        .map_err(doing)?;
        let read = |(id, run, entry, message, tries): (String, String, i64, String, i64)| {
            Ok(DueAlert {
                id: read_id(&id)?,
                run: read_id(&run)?,
                entry: usize::try_from(entry).unwrap_or(usize::MAX),
                message: serde_json::from_str(&message)
                    .map_err(|error| Error::Corrupt { what: format!("an alert that is not JSON ({error})") })?,
                tries: u32::try_from(tries).unwrap_or(u32::MAX),
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Takes an alert for telling it: false when another process has it. It is due again at `until`, should this process
    /// die meanwhile.
    pub(crate) async fn take_alert(&self, alert: &DueAlert, until: Timestamp) -> Result<bool> {
        let taken = sqlx::query(
            "UPDATE alert SET tries = tries + 1, next_try_at = $1 WHERE id = $2 AND state = 'waiting' AND tries = $3",
        )
        .bind(until.millis())
        .bind(alert.id.to_string())
        .bind(i64::from(alert.tries))
        .execute(self.pool())
        .await
        .map_err(doing)?;
        Ok(taken.rows_affected() > 0)
    }

    /// Records how telling an alert went: told, to be tried again at a moment, or given up.
    pub(crate) async fn alert_told(&self, id: AlertId, told: Told, now: Timestamp) -> Result<()> {
        let (state, error, at) = match &told {
            Told::Yes => ("sent", None, None),
            Told::Again { error, at } => ("waiting", Some(error.as_str()), Some(at.millis())),
            Told::GivenUp { error } => ("failed", Some(error.as_str()), None),
        };
        sqlx::query(
            "UPDATE alert SET state = $1, error = $2, next_try_at = COALESCE($3, next_try_at), ended_at = $4
             WHERE id = $5 AND state = 'waiting'",
        )
        .bind(state)
        .bind(error)
        .bind(at)
        .bind((state != "waiting").then(|| now.millis()))
        .bind(id.to_string())
        .execute(self.pool())
        .await
        .map(drop)
        .map_err(doing)
    }
}

/// How telling an alert went.
#[derive(Debug)]
pub(crate) enum Told {
    Yes,
    Again { error: String, at: Timestamp },
    GivenUp { error: String },
}

/// Gives whether there is anybody to tell.
async fn insert(
    connection: &mut AnyConnection,
    plan: &Plan,
    event: AlertEvent,
    fields: Value,
    now: Timestamp,
) -> Result<bool> {
    let mut any = false;
    let listening = plan.dag.alerts.iter().enumerate().filter(|(_, alert)| alert.on.contains(&event));
    for (entry, _) in listening {
        let mut message = json!({
            "event": event.name(),
            "dag": plan.dag.name,
            "run": plan.run.to_string(),
            "at": now.to_string(),
        });
        if let (Value::Object(message), Value::Object(fields)) = (&mut message, &fields) {
            message.extend(fields.clone());
        }
        let mut row = Statement::new(
            "INSERT INTO alert (id, run_id, entry, event, message, state, next_try_at, created_at) VALUES ",
        );
        row.row()
            .text(AlertId::new().to_string())
            .text(plan.run.to_string())
            .number(entry as i64)
            .text(event.name())
            .text(message.to_string())
            .text("waiting")
            .number(now.millis())
            .number(now.millis())
            .end_row();
        row.query().execute(&mut *connection).await.map_err(doing)?;
        any = true;
    }
    Ok(any)
}

fn doing(error: sqlx::Error) -> Error {
    Error::database(DOING, error)
}
