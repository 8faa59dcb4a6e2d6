//! The jobs `sql` and `wait_for_sql`: a statement for the tables of the lake, or for a PostgreSQL or SQLite database.

mod lake;
mod server;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use pipeline::{Job, JobContext, JobError, JobOutput, Masker};
use serde_json::{Value, json};

use crate::Services;
use crate::text;
use crate::with::Templates;

use settings::{Asker, Settings, Target};

/// The job kind `sql`. Output: `{"rows": [{column: value}], "count": 1}`, or `{"rows_affected": 1}` for a statement that
/// gives no rows.
#[derive(Clone)]
pub struct SqlJob {
    services: Arc<Services>,
    masker: Masker,
}

/// The job kind `wait_for_sql`: waits until a query gives a row whose first column is neither NULL, false nor 0. Output:
/// that row.
#[derive(Clone)]
pub struct WaitForSqlJob {
    services: Arc<Services>,
    masker: Masker,
}

/// What a statement gave.
#[derive(Debug, PartialEq)]
enum Answer {
    /// Objects, their keys in the order of the columns where the engine keeps it.
    Rows(Vec<Value>),
    /// How many rows it changed.
    Changed(u64),
}

/// Why a statement gave nothing.
#[derive(Debug)]
enum Failure {
    /// The database cannot be reached, is busy or starting.
    Passing(String),
    /// The statement, its parameters or the rights are wrong.
    Lasting(String),
}

impl SqlJob {
    /// A job whose errors and outputs pass `masker` first. It opens nothing yet.
    pub fn new(services: Arc<Services>, masker: Masker) -> Self {
        Self { services, masker }
    }

    async fn attempt(&self, context: &JobContext, with: &Value) -> Result<JobOutput, JobError> {
        let settings = Settings::read(with, Asker::Sql, Templates::Rendered).map_err(JobError::permanent)?;
        match ask(&self.services, context, &settings).await? {
            Answer::Rows(rows) if rows.len() >= settings.limit => Err(JobError::permanent(format!(
                "the query gave more than {} rows; add a LIMIT, or raise `max_rows`",
                settings.limit - 1
            ))),
            Answer::Rows(rows) => {
                let summary = format!("{} rows", rows.len());
                let value = json!({ "count": rows.len(), "rows": rows });
                Ok(JobOutput { value, failures: 0, summary })
            }
            Answer::Changed(count) => {
                let value = json!({ "rows_affected": count });
                Ok(JobOutput { value, failures: 0, summary: format!("{count} rows affected") })
            }
        }
    }
}

impl WaitForSqlJob {
    /// A job whose errors and outputs pass `masker` first. It opens nothing yet.
    pub fn new(services: Arc<Services>, masker: Masker) -> Self {
        Self { services, masker }
    }

    async fn attempt(&self, context: &JobContext, with: &Value) -> Result<JobOutput, JobError> {
        let settings = Settings::read(with, Asker::Sensor, Templates::Rendered).map_err(JobError::permanent)?;
        let not_yet = |reason: &str| JobError::not_yet(format!("waiting for a query: {reason}"), settings.interval);
        let rows = match ask(&self.services, context, &settings).await {
            Ok(Answer::Rows(rows)) => rows,
            Ok(Answer::Changed(_)) => return Err(JobError::permanent("`query` must be a query that gives rows")),
            // A sensor waits for a database that is away, too.
            Err(error) if error.retry == pipeline::Retry::Yes => return Err(not_yet(&error.message)),
            Err(error) => return Err(error),
        };
        match rows.into_iter().next() {
            Some(row) if is_true(&row) => Ok(JobOutput::new(row)),
            Some(_) => Err(not_yet("the first column of its row is NULL, false or 0")),
            None => Err(not_yet("it gave no row")),
        }
    }
}

#[async_trait]
impl Job for SqlJob {
    fn kind(&self) -> &'static str {
        "sql"
    }

    fn check(&self, with: &Value) -> Result<(), String> {
        Settings::read(with, Asker::Sql, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> Result<JobOutput, JobError> {
        let result = self.attempt(&context, &with).await;
        self.masker.join(&context.masker).mask_result(result)
    }
}

#[async_trait]
impl Job for WaitForSqlJob {
    fn kind(&self) -> &'static str {
        "wait_for_sql"
    }

    fn check(&self, with: &Value) -> Result<(), String> {
        Settings::read(with, Asker::Sensor, Templates::Unrendered).map(drop)
    }

    async fn run(&self, context: JobContext, with: Value) -> Result<JobOutput, JobError> {
        let result = self.attempt(&context, &with).await;
        self.masker.join(&context.masker).mask_result(result)
    }
}

/// Runs the statement within its time, and stops when the attempt should.
async fn ask(services: &Services, context: &JobContext, settings: &Settings) -> Result<Answer, JobError> {
    let work = async {
        match &settings.target {
            Target::Lake => lake::ask(services, settings).await,
            Target::Server(url) => server::ask(url, settings).await,
        }
    };
    let answer = tokio::select! {
        biased;
        () = context.cancel.cancelled() => return Err(JobError::interrupted()),
        answer = tokio::time::timeout(settings.timeout, work) => answer,
    };
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Failure::Passing(reason))) => Err(JobError::transient(reason)),
        Ok(Err(Failure::Lasting(reason))) => Err(JobError::permanent(reason)),
        Err(_) => {
            Err(JobError::transient(format!("no answer within {}; raise `timeout`", text::duration(settings.timeout))))
        }
    }
}

fn is_true(row: &Value) -> bool {
    let first = row.as_object().and_then(|columns| columns.values().next());
    match first {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(_) => true,
    }
}
