//! Settings of people's collections of species.

use super::Key;
use super::read::{path, state_address};
use crate::object_store::Location;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "collections.enabled",
        default: "true",
        allowed: "true or false",
        help: "Whether `safari serve` keeps people's collections of species.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.collections.enabled = text.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "collections.database",
        default: "",
        allowed: "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE, or nothing",
        help: "The database of collections; empty means sqlite:<home>/collections.db. Several replicas need PostgreSQL.",
        secret: true,
        alias: None,
        set: |config, text| {
            state_address(text)?;
            config.collections.database = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "collections.pictures",
        default: "",
        allowed: "the path of a folder, s3://bucket/prefix, or nothing",
        help: "Where photographs of sightings are kept; empty means <home>/collections. Several replicas need one that all reach.",
        secret: false,
        alias: None,
        set: |config, text| {
            if !text.is_empty() {
                Location::parse(text).ok()?;
            }
            config.collections.pictures = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "collections.statuses",
        default: "",
        allowed: "the path of a CSV file, or nothing",
        help: "Conservation statuses of species: lines of scientific_name,status,source. What it does not call LC or NT is blurred.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.collections.statuses = path(text);
            Some(())
        },
    },
];
