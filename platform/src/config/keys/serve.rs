//! Settings of the server of live detections.

use super::Key;
use super::read::{fetch_prefixes, is_http_url, is_url_of, named_paths, path, whole};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "serve.listen",
        default: "127.0.0.1:8080",
        allowed: "an address and a port",
        help: "Where `safari serve` answers.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.listen = Some(text.parse().ok()?);
            Some(())
        },
    },
    Key {
        name: "serve.poll_seconds",
        default: "30",
        allowed: "a whole number from 0 to 86_400",
        help: "How often it is looked what an alias such as models:/wildlife@champion names now; 0 never looks.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.poll_seconds = whole(text, 0..=86_400)?;
            Some(())
        },
    },
    Key {
        name: "serve.models",
        default: "",
        allowed: "NAME=PATH, several with commas between them, or nothing",
        help: "Further TorchScript models for the Open Inference Protocol: folders, or .pt files with a signature beside them.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.models = named_paths(text)?;
            Some(())
        },
    },
    Key {
        name: "serve.repository",
        default: "",
        allowed: "the path of a folder, or nothing",
        help: "A folder of TorchScript models that the Open Inference Protocol loads when somebody asks it to.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.repository = path(text);
            Some(())
        },
    },
    Key {
        name: "serve.queue",
        default: "64",
        allowed: "a whole number from 1 to 100_000",
        help: "Requests that may wait; more are answered with 429.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.queue = whole(text, 1..=100_000)?;
            Some(())
        },
    },
    Key {
        name: "serve.timeout_seconds",
        default: "60",
        allowed: "a whole number from 1 to 3_600",
        help: "The longest that a request may take, and the deadline of those that name none.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.timeout_seconds = whole(text, 1..=3_600)?;
            Some(())
        },
    },
    Key {
        name: "serve.drain_seconds",
        default: "30",
        allowed: "a whole number from 0 to 3_600",
        help: "How long requests under way may take when the server is told to end.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.drain_seconds = whole(text, 0..=3_600)?;
            Some(())
        },
    },
    Key {
        name: "serve.max_body_bytes",
        default: "33_554_432",
        allowed: "a whole number from 1_024 to 1_073_741_824",
        help: "Requests with larger bodies are refused.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.max_body_bytes = whole(text, 1_024..=1_073_741_824)?;
            Some(())
        },
    },
    Key {
        name: "serve.body_memory_bytes",
        default: "536_870_912",
        allowed: "a whole number from 65_536 to 1_099_511_627_776",
        help: "Bytes of all requests in memory; more are answered with 429.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.body_memory_bytes = whole(text, 65_536..=1_099_511_627_776)?;
            Some(())
        },
    },
    Key {
        name: "serve.max_pictures",
        default: "64",
        allowed: "a whole number from 1 to 1_024",
        help: "Pictures in one request.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.max_pictures = whole(text, 1..=1_024)?;
            Some(())
        },
    },
    Key {
        name: "serve.max_connections",
        default: "1024",
        allowed: "a whole number from 1 to 1_000_000",
        help: "Connections at the same time; more wait to be taken.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.max_connections = whole(text, 1..=1_000_000)?;
            Some(())
        },
    },
    Key {
        name: "serve.cache_bytes",
        default: "67_108_864",
        allowed: "a whole number from 0 to 1_099_511_627_776",
        help: "Memory for answers that are kept by content and model; 0 keeps none.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.cache_bytes = whole(text, 0..=1_099_511_627_776)?;
            Some(())
        },
    },
    Key {
        name: "serve.redis",
        default: "",
        allowed: "redis://HOST:PORT, or nothing",
        help: "Redis in which replicas share answers; requests go on without it when it is away.",
        secret: true,
        alias: None,
        set: |config, text| {
            is_url_of(text, &["redis", "redis+unix", "unix"]).then_some(())?;
            config.serve.redis = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "serve.redis_keep_seconds",
        default: "86_400",
        allowed: "a whole number from 1 to 31_536_000",
        help: "How long Redis keeps an answer.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.redis_keep_seconds = whole(text, 1..=31_536_000)?;
            Some(())
        },
    },
    Key {
        name: "serve.deployments",
        default: "10_000",
        allowed: "a whole number from 1 to 10_000_000",
        help: "Cameras whose bursts are remembered between requests.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.deployments = whole(text, 1..=10_000_000)?;
            Some(())
        },
    },
    Key {
        name: "serve.fetch_allow",
        default: "",
        allowed: "https://HOST/PATH/ or s3://BUCKET/PREFIX/, several with commas between them, or nothing",
        help: "Where pictures may be fetched from that requests name by URL; empty refuses all URLs.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.fetch_allow = fetch_prefixes(text)?;
            Some(())
        },
    },
    Key {
        name: "serve.fetch_hosts",
        default: "public",
        allowed: "public or any",
        help: "Whether such URLs may lead to public addresses by https only, or to any, such as a program on this machine.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.serve.fetch_anywhere = match text {
                "public" => false,
                "any" => true,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "serve.pipeline",
        default: "",
        allowed: "http://HOST:PORT or https://HOST, or nothing",
        help: "The `safari server` that POST /v1/detection-jobs asks to look at videos and large sets.",
        secret: true,
        alias: None,
        set: |config, text| {
            is_http_url(text).then_some(())?;
            config.serve.pipeline = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "serve.pipeline_dag",
        default: "detect",
        allowed: "the name of a DAG",
        help: "The DAG that it is asked to run.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.serve.pipeline_dag = text.to_owned();
            Some(())
        },
    },
];
