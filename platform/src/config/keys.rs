//! The table of settings.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::{Config, Device};
use crate::database::Address;
use crate::identity::Role;
use crate::object_store::Location;
use crate::telemetry;

/// One setting: its name, default and meaning, and how its text is checked and stored.
pub struct Key {
    /// Such as `detector.threshold`.
    pub name: &'static str,
    /// The text that is used when nobody sets it.
    pub default: &'static str,
    /// What may be given, as the end of "give …".
    pub allowed: &'static str,
    /// What it does, one sentence.
    pub help: &'static str,
    /// Whether its value may hold a secret, which is never shown.
    pub secret: bool,
    /// A second variable that sets it, weaker than `SAFARI_…`.
    pub alias: Option<&'static str>,
    pub(super) set: fn(&mut Config, &str) -> Option<()>,
}

impl Key {
    /// The variable that sets it: `detector.threshold` is `SAFARI_DETECTOR_THRESHOLD`.
    pub fn variable(&self) -> String {
        format!("SAFARI_{}", self.name.to_uppercase().replace('.', "_"))
    }
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "home",
        default: "./safari-home",
        allowed: "the path of a folder",
        help: "The folder for the state of runs, tables, reports and locks; made when it is missing.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.home = path(text)?;
            Some(())
        },
    },
    Key {
        name: "model",
        default: "",
        allowed: "the path of a model folder or of a TorchScript .pt file, or nothing; `safari serve` takes models:/NAME@ALIAS too",
        help: "The model that looks at the pictures; empty means the one that is shipped.",
        secret: false,
        alias: Some("MODEL_PATH"),
        set: |config, text| {
            config.model = path(text);
            Some(())
        },
    },
    Key {
        name: "detector.threshold",
        default: "0.3",
        allowed: "a number from 0 to 1",
        help: "Boxes below this confidence are dropped.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.threshold = number(text, 0.0..=1.0)?;
            Some(())
        },
    },
    Key {
        name: "detector.threads",
        default: "0",
        allowed: "a whole number from 0 to 1024",
        help: "CPU threads of the networks; 0 means all cores.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.threads = whole(text, 0..=1024)?;
            Some(())
        },
    },
    Key {
        name: "detector.batch",
        default: "0",
        allowed: "a whole number from 0 to 1024",
        help: "Pictures in one forward pass; 0 means 1 on a CPU and 16 on a GPU.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.batch = whole(text, 0..=1024)?;
            Some(())
        },
    },
    Key {
        name: "detector.device",
        default: "auto",
        allowed: "auto, cpu or cuda",
        help: "Where the networks run; auto takes a GPU where one can be used.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.device = match text {
                "auto" => Device::Auto,
                "cpu" => Device::Cpu,
                "cuda" => Device::Cuda,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "detector.cuda_dir",
        default: "",
        allowed: "the path of a folder, or nothing",
        help: "The folder that holds libtorch_cuda.so; empty means the system's library path.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.cuda_dir = path(text);
            Some(())
        },
    },
    Key {
        name: "detector.gpu_memory_fraction",
        default: "1.0",
        allowed: "a number above 0, at most 1",
        help: "The share of a GPU's memory that this process may take.",
        secret: false,
        alias: Some("GPU_MEMORY_FRACTION"),
        set: |config, text| {
            config.detector.gpu_memory_fraction = number(text, f64::MIN_POSITIVE..=1.0)?;
            Some(())
        },
    },
    Key {
        name: "detector.max_pixels",
        default: "200_000_000",
        allowed: "a whole number from 1 to 10_000_000_000",
        help: "Pictures with more pixels than this are refused, so that a decompression bomb cannot fill the memory.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.max_pixels = whole(text, 1..=10_000_000_000)?;
            Some(())
        },
    },
    Key {
        name: "detector.max_bytes",
        default: "268_435_456",
        allowed: "a whole number from 1 to 1_099_511_627_776",
        help: "Files with more bytes than this are refused.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.max_bytes = whole(text, 1..=1_099_511_627_776)?;
            Some(())
        },
    },
    Key {
        name: "detector.video_fps",
        default: "1.0",
        allowed: "a number above 0, at most 240",
        help: "Frames a second that are looked at in a video.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.video_fps = number(text, f64::MIN_POSITIVE..=240.0)?;
            Some(())
        },
    },
    Key {
        name: "detector.video_max_frames",
        default: "600",
        allowed: "a whole number from 1 to 1_000_000",
        help: "At most so many frames of one video are looked at.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.video_max_frames = whole(text, 1..=1_000_000)?;
            Some(())
        },
    },
    Key {
        name: "burst.gap_seconds",
        default: "60.0",
        allowed: "a number from 0 to 86400",
        help: "Frames of one deployment that are at most this many seconds apart are one burst.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.burst.gap_seconds = number(text, 0.0..=86_400.0)?;
            Some(())
        },
    },
    Key {
        name: "rollup.threshold",
        default: "0.7",
        allowed: "a number from 0 to 1",
        help: "A species is named when its score reaches this; else the score is summed up the taxonomy until a taxon does.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.rollup.threshold = number(text, 0.0..=1.0)?;
            Some(())
        },
    },
    Key {
        name: "run.shard_size",
        default: "500",
        allowed: "a whole number from 1 to 100_000",
        help: "Media files in one task.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.run.shard_size = whole(text, 1..=100_000)?;
            Some(())
        },
    },
    Key {
        name: "run.parallelism",
        default: "2",
        allowed: "a whole number from 1 to 1024",
        help: "Tasks of one run at the same time.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.run.parallelism = whole(text, 1..=1024)?;
            Some(())
        },
    },
    Key {
        name: "run.lease_seconds",
        default: "30",
        allowed: "a whole number from 1 to 3600",
        help: "Tasks of a process that has not been heard of for so many seconds are given to others.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.run.lease_seconds = whole(text, 1..=3600)?;
            Some(())
        },
    },
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
    Key {
        name: "identity.enabled",
        default: "false",
        allowed: "true or false",
        help: "Whether servers ask who asks; without it they listen on loopback only.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.identity.enabled = match text {
                "true" => true,
                "false" => false,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "identity.database",
        default: "",
        allowed: "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE, or nothing",
        help: "The database of people and tokens; empty means that of `state.url`.",
        secret: true,
        alias: None,
        set: |config, text| {
            state_address(text)?;
            config.identity.database = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.issuer",
        default: "safari",
        allowed: "a name or a URL",
        help: "Who our access tokens are of: `iss`.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.identity.issuer = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.audience",
        default: "safari",
        allowed: "a name or a URL",
        help: "Whom our access tokens are for: `aud`.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.identity.audience = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.requests_per_second",
        default: "500",
        allowed: "a whole number from 0 to 1_000_000",
        help: "Requests a second of one identity, and twice as many in a burst; 0 means no limit.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.identity.requests_per_second = whole(text, 0..=1_000_000)?;
            Some(())
        },
    },
    Key {
        name: "identity.oidc_issuer",
        default: "",
        allowed: "https://HOST/PATH, or nothing",
        help: "Another issuer whose access tokens are taken, found by OpenID Connect discovery; empty means none.",
        secret: false,
        alias: None,
        set: |config, text| {
            is_http_url(text).then_some(())?;
            config.identity.oidc_issuer = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.oidc_audience",
        default: "safari",
        allowed: "a name or a URL",
        help: "What `aud` of its tokens must name.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.identity.oidc_audience = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.oidc_roles_claim",
        default: "roles",
        allowed: "a claim, or claims with dots between them such as realm_access.roles",
        help: "Where its tokens say in which roles somebody is.",
        secret: false,
        alias: None,
        set: |config, text| {
            (!text.is_empty()).then_some(())?;
            config.identity.oidc_roles_claim = text.to_owned();
            Some(())
        },
    },
    Key {
        name: "identity.oidc_roles",
        default: "",
        allowed: "a list such as wildlife-admins=admin,*=viewer, or nothing",
        help: "Its words for our roles, `*` for everybody; empty means that its words are ours.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.identity.oidc_roles = role_mapping(text)?;
            Some(())
        },
    },
    Key {
        name: "tls.cert",
        default: "",
        allowed: "the path of a file in PEM form, or nothing",
        help: "The certificate chain of all servers, read again when it changes; empty means no TLS.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.tls.cert = path(text);
            Some(())
        },
    },
    Key {
        name: "tls.key",
        default: "",
        allowed: "the path of a file in PEM form, or nothing",
        help: "The private key of the certificate.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.tls.key = path(text);
            Some(())
        },
    },
    Key {
        name: "serve.listen",
        default: "127.0.0.1:8080",
        allowed: "a loopback address and a port",
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

/// The database that a URL names; an empty path for an empty text.
pub(super) fn state_address(url: &str) -> Option<Address> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let parsed = Url::parse(url).ok()?;
        return parsed.has_host().then(|| Address::Postgres(url.to_owned()));
    }
    if url.is_empty() {
        return Some(Address::Sqlite(PathBuf::new()));
    }
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    // `sqlite:///data/x.db` is the file /data/x.db.
    if rest.is_empty() || rest.contains(['?', '\0']) || rest == ":memory:" {
        return None;
    }
    Some(Address::Sqlite(PathBuf::from(rest)))
}

fn is_http_url(text: &str) -> bool {
    let url = Url::parse(text);
    text.is_empty() || url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn is_url_of(text: &str, schemes: &[&str]) -> bool {
    text.is_empty() || Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()))
}

/// Pairs such as `wildlife-admins=admin`, between commas.
fn role_mapping(text: &str) -> Option<Vec<(String, Role)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (word, role) = pair.rsplit_once('=')?;
        Some((word.trim().to_owned(), Role::read(role.trim())?))
    });
    pairs.collect()
}

/// `NAME=PATH,NAME=PATH`.
fn named_paths(text: &str) -> Option<Vec<(String, PathBuf)>> {
    let one = |part: &str| {
        let (name, file) = part.trim().split_once('=')?;
        Some((Some(name.trim().to_owned()).filter(|name| !name.is_empty())?, path(file.trim())?))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

/// Places that end with a slash, so that a prefix is a whole folder.
fn fetch_prefixes(text: &str) -> Option<Vec<Url>> {
    let one = |part: &str| {
        let url = Url::parse(part.trim()).ok()?;
        let known = matches!(url.scheme(), "http" | "https" | "s3") && url.has_host();
        (known && url.path().ends_with('/')).then_some(url)
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

/// What is shown of a value that may hold a secret: a URL without its password, `***` for what is no URL.
pub(super) fn masked(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let Ok(mut url) = Url::parse(text) else {
        return "***".to_owned();
    };
    if url.password().is_none() && url.query().is_none() {
        return text.to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".to_owned();
    }
    url.into()
}

pub(super) fn sample() -> String {
    let mut text = String::from(
        "# Settings of Safari. Every key is shown with its default; remove the # in front of a key to set it.\n\
         # A SAFARI_ variable is stronger than this file, and the command line stronger than both.\n\
         # How to reach S3 is set by the usual AWS variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,\n\
         # AWS_ENDPOINT_URL, AWS_PROFILE; AWS_SKIP_SIGNATURE=true reads public buckets without credentials.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (new_section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        text.push('\n');
        if new_section != section {
            text.push_str(&format!("[{new_section}]\n"));
            section = new_section;
        }
        let plain = key.default.replace('_', "").parse::<f64>().is_ok();
        let value = if plain { key.default.to_owned() } else { format!("\"{}\"", key.default) };
        let alias = key.alias.map(|alias| format!(" or {alias}")).unwrap_or_default();
        text.push_str(&format!(
            "# {help}\n# Give {allowed}. Variable: {variable}{alias}\n# {name} = {value}\n",
            help = key.help,
            allowed = key.allowed,
            variable = key.variable(),
        ));
    }
    text
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

fn number<T: FromStr + PartialOrd>(text: &str, allowed: RangeInclusive<T>) -> Option<T> {
    text.trim().parse().ok().filter(|value| allowed.contains(value))
}

/// Whole numbers may have `_` between their digits, as in TOML.
fn whole<T: FromStr + PartialOrd>(text: &str, allowed: RangeInclusive<T>) -> Option<T> {
    let text = text.trim();
    if text.starts_with(['_', '+']) || text.ends_with('_') {
        return None;
    }
    text.replace('_', "").parse().ok().filter(|value| allowed.contains(value))
}
