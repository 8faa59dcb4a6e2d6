//! Queries to the tables of the lake.

use lake::OutputFormat;
use serde_json::Value;

use crate::Services;

use super::settings::Settings;
use super::{Answer, Failure};

/// Asks the lake.
pub(super) async fn ask(services: &Services, settings: &Settings) -> Result<Answer, Failure> {
    if !settings.gives_rows() {
        return Err(Failure::Lasting(
            "the tables of the lake are only read by `sql`; give a query, or a `database` to change".to_owned(),
        ));
    }
    let lake = services.lake().await.map_err(|error| Failure::Passing(error.to_string()))?;
    let limited = format!("SELECT * FROM ({}) AS answer LIMIT {}", settings.query, settings.limit);
    let rows = lake.sql(&limited).await.map_err(|error| Failure::Lasting(error.to_string()))?;
    let mut lines = Vec::new();
    lake::format::write(rows, OutputFormat::Json, &mut lines).await.map_err(|e| Failure::Lasting(e.to_string()))?;
    let rows = serde_json::Deserializer::from_slice(&lines).into_iter::<Value>().collect::<Result<_, _>>();
    rows.map(Answer::Rows).map_err(|error| Failure::Lasting(format!("the answer is no JSON: {error}")))
}
