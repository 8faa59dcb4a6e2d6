//! Histories of metrics.

use platform::database::Statement;

use super::Store;
use super::experiments::Page;
use crate::entities::Metric;
use crate::number::Stored;
use crate::{Error, Result};

/// Key, value, whether it is no number, time, step.
type Row = (f64, i64, i64, i64);

impl Store {
    /// The values of a metric by time, step and value, and the token of the next page when `page` has a size.
    pub(crate) async fn metric_history(
        &self,
        run: &str,
        key: &str,
        page: &Page,
    ) -> Result<(Vec<Metric>, Option<String>)> {
        let mut statement = Statement::new(
            "SELECT m.value, m.is_nan, m.time, m.step FROM metric m
             WHERE m.run_no = (SELECT no FROM run WHERE id = ",
        );
        statement.text(run).push(") AND m.key = ").text(key).push(" ORDER BY m.time, m.step, m.value");
        page.push(&mut statement);
        let mut rows: Vec<Row> =
            statement.query_as().fetch_all(self.pool()).await.map_err(Error::database("reading a metric's history"))?;
        let next = page.cut(&mut rows);
        Ok((rows.into_iter().map(|row| metric(key, row, None)).collect(), next))
    }

    /// The values of a metric of some runs, by run, time, step and value; `limit` in all.
    pub(crate) async fn metric_histories(&self, runs: &[String], key: &str, limit: i64) -> Result<Vec<Metric>> {
        let mut statement = Statement::new(
            "SELECT r.id, m.value, m.is_nan, m.time, m.step FROM run r JOIN metric m ON m.run_no = r.no WHERE m.key = ",
        );
        statement.text(key).push(" AND r.id IN ").row();
        for run in runs {
            statement.text(run);
        }
        statement.end_row().push(match self.engine() {
            platform::database::Engine::Sqlite => " ORDER BY r.id",
            platform::database::Engine::Postgres => " ORDER BY r.id COLLATE \"C\"",
        });
        statement.push(", m.time, m.step, m.value LIMIT ").number(limit);
        let rows: Vec<(String, f64, i64, i64, i64)> = statement
            .query_as()
            .fetch_all(self.pool())
            .await
            .map_err(Error::database("reading histories of a metric"))?;
        let of = |(run, value, is_nan, time, step): (String, f64, i64, i64, i64)| {
            metric(key, (value, is_nan, time, step), Some(run))
        };
        Ok(rows.into_iter().map(of).collect())
    }

    /// Some values of a metric, spread evenly over its history and with its last one: `samples` at most. `steps` are the
    /// first and the last step that are wanted.
    pub(crate) async fn sampled_history(
        &self,
        run: &str,
        key: &str,
        steps: Option<(i64, i64)>,
        samples: i64,
    ) -> Result<Vec<Metric>> {
        let (from, to) = steps.unwrap_or((i64::MIN, i64::MAX));
        let mut statement = Statement::new("WITH history AS (SELECT m.value, m.is_nan, m.time, m.step, ntile(CAST(");
        statement.number(samples).push(
            " AS INTEGER)) OVER ordered AS bucket, CAST(row_number() OVER ordered AS BIGINT) AS place,
              CAST(count(*) OVER () AS BIGINT) AS total
              FROM metric m WHERE m.run_no = (SELECT no FROM run WHERE id = ",
        );
        statement.text(run).push(") AND m.key = ").text(key);
        statement.push(" AND m.step BETWEEN ").number(from).push(" AND ").number(to);
        statement.push(
            " WINDOW ordered AS (ORDER BY m.step, m.time, m.value, m.is_nan)),
              buckets AS (SELECT history.*, lag(bucket, 1, 0) OVER (ORDER BY place) AS before FROM history)
              SELECT value, is_nan, time, step FROM buckets WHERE bucket <> before OR place = total ORDER BY place",
        );
        let mut rows: Vec<Row> = statement
            .query_as()
            .fetch_all(self.pool())
            .await
            .map_err(Error::database("sampling a metric's history"))?;
        let samples = usize::try_from(samples).unwrap_or(usize::MAX);
        if rows.len() > samples {
            // The last value is in the last bucket, whose first gives way.
            let last = rows.pop();
            rows.truncate(samples - 1);
            rows.extend(last);
        }
        Ok(rows.into_iter().map(|row| metric(key, row, Some(run.to_owned()))).collect())
    }
}

fn metric(key: &str, (value, is_nan, timestamp, step): Row, run_id: Option<String>) -> Metric {
    Metric {
        key: key.to_owned(),
        value: Stored { value, is_nan }.value(),
        timestamp,
        step,
        dataset_name: None,
        dataset_digest: None,
        model_id: None,
        run_id,
    }
}
