//! Statements for PostgreSQL and SQLite. A connection is made for each attempt: they are far apart.

use serde_json::{Map, Number, Value};
use sqlx::any::{AnyArguments, AnyConnectOptions, AnyRow, AnyTypeInfoKind};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Database, Row as _};
use url::Url;

use super::settings::Settings;
use super::{Answer, Failure};

/// Runs the statement. Rows of PostgreSQL come as JSON made by the server, so that every type has a text.
pub(super) async fn ask(url: &Url, settings: &Settings) -> Result<Answer, Failure> {
    sqlx::any::install_default_drivers();
    let failed = |error: sqlx::Error| failure(url, &error);
    // A statement may hold a secret, and slow ones would be logged.
    let options = url.as_str().parse::<AnyConnectOptions>().map_err(failed)?.disable_statement_logging();
    let mut connection = AnyConnection::connect_with(&options).await.map_err(failed)?;
    let answer = statement(url, settings, &mut connection).await;
    // The answer is there; how the connection ends does not matter.
    drop(connection.close().await);
    answer
}

async fn statement(url: &Url, settings: &Settings, connection: &mut AnyConnection) -> Result<Answer, Failure> {
    let failed = |error: sqlx::Error| failure(url, &error);
    let is_sqlite = url.scheme() == "sqlite";
    let limit = settings.limit;
    if !settings.gives_rows() {
        let done = bound(settings.query.clone(), settings).execute(connection).await.map_err(failed)?;
        return Ok(Answer::Changed(done.rows_affected()));
    }
    if is_sqlite {
        let sql = format!("SELECT * FROM ({}) LIMIT {limit}", settings.query);
        let rows = bound(sql, settings).fetch_all(connection).await.map_err(failed)?;
        return Ok(Answer::Rows(rows.iter().map(object).collect()));
    }
    let sql = format!("SELECT row_to_json(answer)::text FROM ({}) AS answer LIMIT {limit}", settings.query);
    let rows = bound(sql, settings).fetch_all(connection).await.map_err(failed)?;
    let json = |row: &AnyRow| row.try_get::<String, _>(0).ok().and_then(|text| serde_json::from_str(&text).ok());
    let rows: Option<Vec<Value>> = rows.iter().map(json).collect();
    rows.map(Answer::Rows).ok_or_else(|| Failure::Lasting("the server's JSON cannot be read".to_owned()))
}

fn bound(sql: String, settings: &Settings) -> Query<'static, Any, AnyArguments> {
    // The statement is the author's of the DAG; values go in as parameters.
    settings.parameters.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
        Value::Bool(flag) => query.bind(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => query.bind(whole),
            None => query.bind(number.as_f64()),
        },
        Value::String(text) => query.bind(text.clone()),
        _ => query.bind(None::<String>),
    })
}

/// A row of SQLite, whose types are few.
fn object(row: &AnyRow) -> Value {
    let value = |column: &<Any as Database>::Column| {
        let at = column.ordinal();
        match row.try_get_raw(at).map(|raw| sqlx::ValueRef::type_info(&raw).kind()) {
            Ok(AnyTypeInfoKind::Bool) => row.try_get::<bool, _>(at).ok().map(Value::Bool),
            Ok(AnyTypeInfoKind::SmallInt | AnyTypeInfoKind::Integer | AnyTypeInfoKind::BigInt) => {
                row.try_get::<i64, _>(at).ok().map(|number| Value::Number(number.into()))
            }
            Ok(AnyTypeInfoKind::Real | AnyTypeInfoKind::Double) => {
                row.try_get::<f64, _>(at).ok().and_then(Number::from_f64).map(Value::Number)
            }
            Ok(AnyTypeInfoKind::Text) => row.try_get::<String, _>(at).ok().map(Value::String),
            // Bytes have no JSON.
            Ok(AnyTypeInfoKind::Blob | AnyTypeInfoKind::Null) | Err(_) => None,
        }
    };
    let columns = row.columns().iter();
    let entries = columns.map(|column| (column.name().to_owned(), value(column).unwrap_or_default()));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn failure(url: &Url, error: &sqlx::Error) -> Failure {
    let server = match url.scheme() {
        "sqlite" => url.path().to_owned(),
        _ => format!("the PostgreSQL server {}", url.host_str().unwrap_or("on this machine")),
    };
    let sqlx::Error::Database(told) = error else {
        return Failure::Passing(format!("{server}: {error}"));
    };
    let message = format!("{server}: {}", told.message());
    let code = told.code().unwrap_or_default();
    let passes = match code.len() {
        // A SQLSTATE: serialisation failure, shutting down, no connection left, connection lost, lock not available.
        5 => ["40", "57", "53", "08", "55P03"].iter().any(|class| code.starts_with(class)),
        // A result code of SQLite: busy, locked.
        _ => code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6)),
    };
    if passes { Failure::Passing(message) } else { Failure::Lasting(message) }
}
