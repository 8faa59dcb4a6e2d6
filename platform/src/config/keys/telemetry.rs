//! Settings of logs, the history of runs, lineage and traces.

use super::Key;
use super::read::{is_http_url, whole};
use crate::object_store::Location;
use crate::telemetry;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "log.level",
        default: "info",
        allowed: "off, error, warn, info, debug or trace, or a list such as warn,pipeline=debug",
        help: "What is logged to standard error.",
        secret: false,
        alias: None,
        set: |config, text| {
            telemetry::check_level(text).ok()?;
            config.log.level = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "logs.url",
        default: "",
        allowed: "the path of a folder, s3://bucket/prefix, or nothing",
        help: "Where the logs of attempts are; empty means <home>/logs.",
        secret: false,
        alias: None,
        set: |config, text| {
            if !text.is_empty() {
                Location::parse(text).ok()?;
            }
            config.logs.url = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "logs.max_bytes",
        default: "67_108_864",
        allowed: "a whole number from 1_024 to 17_179_869_184",
        help: "What an attempt writes beyond so many bytes is not kept; one line says so.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.logs.max_bytes = whole(text, 1_024..=17_179_869_184)?;
            Some(())
        },
    },
    Key {
        name: "logs.keep_days",
        default: "30",
        allowed: "a whole number from 0 to 36_500",
        help: "Logs of runs that ended so many days ago are removed; 0 keeps them as long as their runs.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.logs.keep_days = whole(text, 0..=36_500)?;
            Some(())
        },
    },
    Key {
        name: "history.keep_days",
        default: "0",
        allowed: "a whole number from 0 to 36_500",
        help: "Runs that ended so many days ago are removed with all that belongs to them but rows of tables; 0 keeps all.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.history.keep_days = whole(text, 0..=36_500)?;
            Some(())
        },
    },
    Key {
        name: "lineage.url",
        default: "",
        allowed: "http://HOST:PORT or https://HOST, or nothing",
        help: "The catalogue that is told of runs by OpenLineage events, at <url>/api/v1/lineage; empty means none.",
        secret: true,
        alias: Some("OPENLINEAGE_URL"),
        set: |config, text| {
            is_http_url(text).then_some(())?;
            config.lineage.url = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "lineage.namespace",
        default: "safari",
        allowed: "a name",
        help: "Namespace of jobs, and of assets that are no URLs, in OpenLineage events.",
        secret: false,
        alias: Some("OPENLINEAGE_NAMESPACE"),
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.lineage.namespace = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "lineage.api_key",
        default: "",
        allowed: "a key, or nothing",
        help: "Sent to the catalogue as a bearer token.",
        secret: true,
        alias: Some("OPENLINEAGE_API_KEY"),
        set: |config, text| {
            config.lineage.api_key = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "traces.url",
        default: "",
        allowed: "http://HOST:PORT/v1/traces or https://HOST/PATH, or nothing",
        help: "The collector that is given the spans of runs by OTLP/HTTP in JSON; empty means none.",
        secret: true,
        alias: Some("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        set: |config, text| {
            is_http_url(text).then_some(())?;
            config.traces.url = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "traces.authorization",
        default: "",
        allowed: "the value of a header, such as Bearer KEY, or nothing",
        help: "Sent to the collector as the header Authorization.",
        secret: true,
        alias: None,
        set: |config, text| {
            config.traces.authorization = text.to_owned();
            Some(())
        },
    },
];
