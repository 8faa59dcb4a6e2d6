//! Settings of whoever drives rollouts.

use super::Key;
use super::read::is_http_url;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "rollout.prometheus",
        default: "",
        allowed: "http://HOST:PORT or https://HOST, without a password, or nothing",
        help: "The Prometheus server that has counted what a rollout is judged by; empty means that replicas are asked themselves.",
        secret: false,
        alias: None,
        set: |config, text| {
            // It is kept with each rollout.
            (is_http_url(text) && !text.contains('@')).then_some(())?;
            config.rollout.prometheus = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "rollout.prometheus_authorization",
        default: "",
        allowed: "the value of a header, such as Bearer KEY, or nothing",
        help: "Sent to the Prometheus server as the header Authorization.",
        secret: true,
        alias: None,
        set: |config, text| {
            config.rollout.prometheus_authorization = text.to_owned();
            Some(())
        },
    },
];
