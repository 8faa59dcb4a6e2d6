//! Settings of where things are kept, and the servers that keep them.

use super::Key;
use super::read::{is_http_url, state_address, whole};
use crate::object_store::Location;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "lake.url",
        default: "",
        allowed: "the path of a folder, s3://bucket/prefix, or nothing",
        help: "Where the tables are; empty means <home>/lake.",
        secret: false,
        alias: None,
        set: |config, text| {
            if !text.is_empty() {
                Location::parse(text).ok()?;
            }
            config.lake.url = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "state.url",
        default: "",
        allowed: "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE, or nothing",
        help: "The database for the state of runs; empty means sqlite:<home>/state.db. PostgreSQL lets several hosts share it.",
        secret: true,
        alias: None,
        set: |config, text| {
            state_address(text)?;
            config.state.url = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "server.url",
        default: "",
        allowed: "http://HOST:PORT or https://HOST, or nothing",
        help: "The server that commands about runs, DAGs, backfills and assets ask; empty means the state database itself.",
        secret: true,
        alias: Some("SAFARI_SERVER"),
        set: |config, text| {
            is_http_url(text).then_some(())?;
            config.server.url = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "registry.url",
        default: "",
        allowed: "http://HOST:PORT or https://HOST, or nothing",
        help: "The tracking and registry server that commands and jobs about models ask, ours or MLflow's; empty means the registry's database itself.",
        secret: true,
        alias: None,
        set: |config, text| {
            is_http_url(text).then_some(())?;
            config.registry.url = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "registry.listen",
        default: "",
        allowed: "an address and a port, or nothing",
        help: "Where `safari registry` and `safari server` answer clients of MLflow; empty means 127.0.0.1:5000 for the former, and that the latter does not.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.registry.listen = if text.is_empty() { None } else { Some(text.parse().ok()?) };
            Some(())
        },
    },
    Key {
        name: "registry.database",
        default: "",
        allowed: "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE, or nothing",
        help: "The database of the registry; empty means sqlite:<home>/registry.db.",
        secret: true,
        alias: None,
        set: |config, text| {
            state_address(text)?;
            config.registry.database = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "registry.artifacts",
        default: "",
        allowed: "the path of a folder, s3://bucket/prefix, or nothing",
        help: "Where the registry keeps files of runs and models; empty means <home>/artifacts.",
        secret: false,
        alias: None,
        set: |config, text| {
            if !text.is_empty() {
                Location::parse(text).ok()?;
            }
            config.registry.artifacts = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "registry.grace_days",
        default: "30",
        allowed: "a whole number from 0 to 36_500",
        help: "`safari registry gc` removes what was deleted so many days ago.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.registry.grace_days = whole(text, 0..=36_500)?;
            Some(())
        },
    },
    Key {
        name: "registry.webhooks",
        default: "public",
        allowed: "public or any",
        help: "Which receivers of webhooks are told: those with https and an address on the internet, or any, such as a program on this machine.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.registry.webhooks_anywhere = match text {
                "public" => false,
                "any" => true,
                _ => return None,
            };
            Some(())
        },
    },
];
