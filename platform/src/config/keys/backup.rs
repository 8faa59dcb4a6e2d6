//! Settings of backups.

use super::Key;
use super::read::{path, whole};
use crate::object_store::Location;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "backup.url",
        default: "",
        allowed: "the path of a folder, s3://bucket/prefix, or nothing",
        help: "Where backups are kept; empty means <home>/backups, which is lost with the disk of the home.",
        secret: false,
        alias: None,
        set: |config, text| {
            if !text.is_empty() {
                Location::parse(text).ok()?;
            }
            config.backup.url = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "backup.recipients",
        default: "",
        allowed: "public keys of age (age1…) between commas, or nothing",
        help: "Who can read backups: they are encrypted for these keys; empty means that they are not encrypted.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.recipients = recipients(text)?;
            Some(())
        },
    },
    Key {
        name: "backup.identity_file",
        default: "",
        allowed: "the path of a file that age-keygen wrote, or nothing",
        help: "Secret keys that read encrypted backups; needed to restore, and to tell unchanged files by their time.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.identity_file = path(text);
            Some(())
        },
    },
    Key {
        name: "backup.keep_days",
        default: "30",
        allowed: "a whole number from 1 to 36_500",
        help: "Every backup is kept for so many days.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.keep_days = whole(text, 1..=36_500)?;
            Some(())
        },
    },
    Key {
        name: "backup.keep_weeks",
        default: "12",
        allowed: "a whole number from 0 to 5_200",
        help: "The newest backup of each week is kept for so many weeks.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.keep_weeks = whole(text, 0..=5_200)?;
            Some(())
        },
    },
    Key {
        name: "backup.keep_months",
        default: "12",
        allowed: "a whole number from 0 to 1_200",
        help: "The newest backup of each month is kept for so many months.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.keep_months = whole(text, 0..=1_200)?;
            Some(())
        },
    },
    Key {
        name: "backup.keep_last",
        default: "3",
        allowed: "a whole number from 1 to 1_000",
        help: "So many of the newest backups are kept however old they are.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.keep_last = whole(text, 1..=1_000)?;
            Some(())
        },
    },
    Key {
        name: "backup.lease_seconds",
        default: "30",
        allowed: "a whole number from 1 to 3_600",
        help: "A backup that gives no sign of life for so many seconds counts as dead, and another may begin.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.lease_seconds = whole(text, 1..=3_600)?;
            Some(())
        },
    },
    Key {
        name: "backup.postgres_data",
        default: "",
        allowed: "the path of a folder, or nothing",
        help: "The data folder of the PostgreSQL server of `state.url` on this machine, for `safari backup cluster`.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.postgres_data = path(text);
            Some(())
        },
    },
    Key {
        name: "backup.postgres_socket",
        default: "/var/run/postgresql",
        allowed: "the path of a folder",
        help: "The folder of that server's socket, through which pgBackRest speaks to it.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.backup.postgres_socket = path(text)?;
            Some(())
        },
    },
];

/// Keys are checked further where they are used; what is no key of age at all is a slip of the pen.
fn recipients(text: &str) -> Option<Vec<String>> {
    let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
    keys.map(|key| key.starts_with("age1").then(|| key.to_owned())).collect()
}
