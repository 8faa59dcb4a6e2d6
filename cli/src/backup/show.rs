//! `safari backup list`.

use std::process::ExitCode;

use backup::{Listed, Manifest, Repository, Verified};
use chrono::{DateTime, TimeDelta, Utc};
use indicatif::HumanBytes;
use platform::config::Config;
use serde_json::{Value, json};

use crate::error::Result;
use crate::model::table::Table;
use crate::model::{Format, print_json};
use crate::runs::print;

pub(super) async fn list(format: Format, config: &Config) -> Result<ExitCode> {
    let repository = Repository::of(config).await?;
    let listed = repository.list().await?;
    match format {
        Format::Json => print_json(&listed.iter().map(listed_view).collect::<Vec<_>>()),
        Format::Table if listed.is_empty() => {
            print(&format!("no backups in {}; `safari backup all` makes one", repository.place()))
        }
        Format::Table => {
            let mut table = Table::new(&["BACKUP", "WHAT", "AGE", "SIZE", "WRITTEN", "ENCRYPTED", "VERIFIED"]);
            for backup in &listed {
                table.row(row(backup, Utc::now()));
            }
            print(&table.text())
        }
    }
}

/// A backup for programs.
pub(super) fn view(manifest: &Manifest, verified: Option<&Verified>, written_at: Option<DateTime<Utc>>) -> Value {
    json!({
        "id": manifest.id,
        "what": manifest.what,
        "began_at": manifest.began_at,
        "ended_at": manifest.ended_at,
        "written_at": written_at,
        "host": manifest.host,
        "program": manifest.program,
        "encrypted": manifest.encrypted,
        "bytes": manifest.bytes,
        "stored": manifest.stored,
        "written": manifest.written,
        "pieces": manifest.blobs,
        "parts": manifest.parts,
        "verified": verified,
    })
}

/// The parts of a backup, a line each.
pub(super) fn parts(manifest: &Manifest) -> String {
    let mut table = Table::new(&["PART", "KIND", "FILES", "SIZE", "FROM"]);
    for part in &manifest.parts {
        let kind = match part.version {
            Some(version) => format!("version {version}"),
            None if part.rows.is_empty() => "files".to_owned(),
            None => format!("{} rows", part.rows.values().sum::<u64>()),
        };
        let size = HumanBytes(part.bytes).to_string();
        table.row(vec![part.name.to_string(), kind, part.files.to_string(), size, part.origin.clone()]);
    }
    table.text()
}

fn listed_view(backup: &Listed) -> Value {
    match &backup.manifest {
        Ok(manifest) => view(manifest, backup.verified.as_ref(), Some(backup.written_at)),
        Err(error) => json!({"id": backup.id, "written_at": backup.written_at, "error": error.to_string()}),
    }
}

fn row(backup: &Listed, now: DateTime<Utc>) -> Vec<String> {
    let Ok(manifest) = &backup.manifest else {
        let age = age(now - backup.written_at);
        let unknown = || "-".to_owned();
        return vec![backup.id.to_string(), unknown(), age, unknown(), unknown(), unknown(), "damaged".to_owned()];
    };
    let verified = match &backup.verified {
        Some(verified) => format!("{} ago", age(now - verified.at)),
        None => "no".to_owned(),
    };
    vec![
        backup.id.to_string(),
        manifest.what.to_string(),
        age(now - manifest.began_at),
        HumanBytes(manifest.bytes).to_string(),
        HumanBytes(manifest.written).to_string(),
        if manifest.encrypted { "yes" } else { "no" }.to_owned(),
        verified,
    ]
}

/// The largest unit of a length of time that has more than one of it.
fn age(age: TimeDelta) -> String {
    let seconds = age.num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let texts = [-5, 0, 119, 120, 7_199, 7_200, 172_799, 172_800, 31_536_000]
            .map(|seconds| age(TimeDelta::seconds(seconds)));
        assert_eq!(texts, ["0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days", "365 days"]);
    }
}
