#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::database::Address;

fn load(toml: Option<&str>, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("safari.toml");
    if let Some(toml) = toml {
        fs::write(&file, toml).unwrap();
    }
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let flags: Vec<_> = flags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Config::load_from(None, &file, variables, &flags)
}

fn message(result: Result<Config>) -> String {
    result.unwrap_err().to_string()
}

fn setting<'a>(config: &'a Config, key: &str) -> &'a Setting {
    config.settings().iter().find(|setting| setting.key == key).unwrap()
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = load(None, &[], &[]).unwrap();
    assert_eq!(config.home, PathBuf::from("./safari-home"));
    assert_eq!(config.model, None);
    assert_eq!(config.detector.threshold, 0.3);
    assert_eq!(config.detector.device, Device::Auto);
    assert_eq!(config.detector.max_pixels, 200_000_000);
    assert_eq!(config.detector.max_bytes, 256 * 1024 * 1024);
    assert_eq!(config.detector.video_fps, 1.0);
    assert_eq!(config.detector.video_max_frames, 600);
    assert_eq!(config.burst.gap_seconds, 60.0);
    assert_eq!(config.rollup.threshold, 0.7);
    assert_eq!((config.run.shard_size, config.run.parallelism), (500, 2));
    assert_eq!(config.lake_url(), "./safari-home/lake");
    assert_eq!(config.state_address(), sqlite("./safari-home/state.db"));
    assert_eq!(config.log.level, "info");
    assert_eq!(config.detector.gpu_memory_fraction, 1.0);
    assert_eq!(config.serve.listen, Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!((config.serve.queue, config.serve.max_body_bytes), (64, 32 << 20));
    assert_eq!(config.settings().len(), keys().count());
    assert!(config.settings().iter().all(|setting| setting.source == Source::Default));
}

#[test]
fn the_command_line_beats_variables_which_beat_the_file() {
    let toml = "home = '/file'\n[detector]\nthreshold = 0.1\nbatch = 4\n[run]\nshard_size = 7\n";
    let variables =
        [("SAFARI_HOME", "/variable"), ("SAFARI_DETECTOR_BATCH", "8"), ("PATH", "/bin"), ("SAFARI_MODEL", "")];
    let config = load(Some(toml), &variables, &[("home", "/flag")]).unwrap();
    assert_eq!(config.home, PathBuf::from("/flag"));
    assert_eq!(config.detector.batch, 8);
    assert_eq!(config.detector.threshold, 0.1);
    assert_eq!(config.run.shard_size, 7);
    assert_eq!(setting(&config, "home").source, Source::Flag);
    assert_eq!(setting(&config, "detector.batch").source, Source::Environment("SAFARI_DETECTOR_BATCH".to_owned()));
    assert!(matches!(setting(&config, "run.shard_size").source, Source::File { line: 6, .. }));
    assert_eq!(setting(&config, "model").source, Source::Default, "an empty variable is as good as none");
    assert_eq!(config.state_address(), sqlite("/flag/state.db"));
}

#[test]
fn model_path_is_a_weaker_name_of_safari_model() {
    let config = load(None, &[("MODEL_PATH", "/a.pt")], &[]).unwrap();
    assert_eq!(config.model, Some(PathBuf::from("/a.pt")));
    for variables in
        [[("MODEL_PATH", "/a.pt"), ("SAFARI_MODEL", "/b")], [("SAFARI_MODEL", "/b"), ("MODEL_PATH", "/a.pt")]]
    {
        assert_eq!(load(None, &variables, &[]).unwrap().model, Some(PathBuf::from("/b")));
    }
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let text = message(load(Some("\n[detector]\ntreshold = 0.5\n"), &[], &[]));
    assert!(text.starts_with("unknown setting `detector.treshold` in "), "{text}");
    assert!(text.ends_with("safari.toml, line 3, did you mean `detector.threshold`?"), "{text}");
    let text = message(load(Some("[detectors]\nthreshold = 0.5\n"), &[], &[]));
    assert!(text.contains("unknown setting `detectors`"), "{text}");
    assert_eq!(
        message(load(None, &[("SAFARI_DETECTOR_TRESHOLD", "0.5")], &[])),
        "unknown setting `SAFARI_DETECTOR_TRESHOLD` in the environment, did you mean `SAFARI_DETECTOR_THRESHOLD`?"
    );
    assert_eq!(
        message(load(None, &[], &[("hoem", "/x")])),
        "unknown setting `hoem` in the command line, did you mean `home`?"
    );
}

#[test]
fn secrets_and_variables_of_kubernetes_and_of_the_tests_are_let_pass() {
    let variables = [
        ("SAFARI_SERVICE_HOST", "10.0.0.1"),
        ("SAFARI_PORT", "tcp://10.0.0.1:80"),
        ("SAFARI_CONSOLE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("SAFARI_WEED", "/bin/weed"),
        ("SAFARI_SECRET_TOKEN", "s3cret"),
    ];
    load(None, &variables, &[]).unwrap();
}

#[test]
fn values_are_checked_and_the_message_says_what_is_allowed() {
    let text = message(load(Some("[detector]\nthreshold = 1.5\n"), &[], &[]));
    assert!(text.starts_with("`1.5` is not allowed for detector.threshold in "), "{text}");
    assert!(text.ends_with("safari.toml, line 2: give a number from 0 to 1"), "{text}");
    assert_eq!(
        message(load(None, &[("SAFARI_RUN_PARALLELISM", "many")], &[])),
        "`many` is not allowed for run.parallelism in the variable SAFARI_RUN_PARALLELISM: give a whole number from 1 to 1024"
    );
    assert_eq!(
        message(load(None, &[], &[("detector.device", "tpu")])),
        "`tpu` is not allowed for detector.device in the command line: give auto, cpu or cuda"
    );
    let bad = [
        ("home", ""),
        ("detector.threshold", "nan"),
        ("detector.threads", "-1"),
        ("detector.threads", "_1"),
        ("detector.video_fps", "0"),
        ("detector.video_fps", "inf"),
        ("run.shard_size", "0"),
        ("run.shard_size", "1.5"),
        ("lake.url", "ftp://x/y"),
        ("state.url", "mysql://u:p@h/d"),
        ("state.url", "postgres:///d"),
        ("state.url", "sqlite:"),
        ("server.url", "ftp://x"),
        ("server.url", "localhost:8750"),
        ("log.level", "loud"),
    ];
    for (key, value) in bad {
        let text = message(load(None, &[], &[(key, value)]));
        assert!(text.contains(&format!("not allowed for {key}")), "{text}");
    }
    let text = message(load(Some("home = ['a', 'b']\n"), &[], &[]));
    assert!(text.starts_with("`['a', 'b']` is not allowed for home"), "{text}");
}

#[test]
fn secrets_are_not_shown() {
    assert_eq!(keys::masked("postgres://ranger:tiger@db/safari"), "postgres://ranger:***@db/safari");
    assert_eq!(keys::masked("postgres://db/safari?password=tiger"), "postgres://db/safari?***");
    assert_eq!(keys::masked("tiger"), "***");
    assert_eq!(keys::masked("sqlite:/data/state.db"), "sqlite:/data/state.db");
    let text = message(load(None, &[("SAFARI_STATE_URL", "mysql://ranger:tiger@db/safari")], &[]));
    assert!(!text.contains("tiger"), "{text}");
    let config = load(None, &[("SAFARI_STATE_URL", "postgres://ranger:tiger@db/safari")], &[]).unwrap();
    assert!(!format!("{config:?}").contains("tiger"));
    let config = load(None, &[("SAFARI_SERVER", "https://ranger:tiger@safari.example")], &[]).unwrap();
    assert_eq!(config.server.url, "https://ranger:tiger@safari.example");
    assert!(!format!("{config:?}").contains("tiger"));
}

#[test]
fn files_that_cannot_be_read_name_themselves_and_the_line() {
    let text = message(Config::load_from(Some(Path::new("/no/such.toml")), Path::new("/none"), [], &[]));
    assert_eq!(text, "cannot read the settings file /no/such.toml: no such file or directory");
    let text = message(load(Some("home = '/x'\n[detector\n"), &[], &[]));
    assert!(text.contains("safari.toml: line 2: "), "{text}");
    let text = message(load(Some("home = '/x'\nhome = '/y'\n"), &[], &[]));
    assert!(text.contains("line 2: duplicate key"), "{text}");
}

#[test]
fn the_sample_holds_every_key_and_its_defaults() {
    let sample = Config::sample();
    let active: String = sample
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = load(Some(&active), &[], &[]).unwrap();
    let defaults = load(None, &[], &[]).unwrap();
    for (written, default) in config.settings().iter().zip(defaults.settings()) {
        assert!(matches!(written.source, Source::File { .. }), "{} is missing", written.key);
        assert_eq!(written.value.replace('_', ""), default.value.replace('_', ""), "{}", written.key);
    }
    for key in keys() {
        assert!(sample.contains(&key.variable()), "{} is missing", key.name);
    }
    assert_eq!(load(Some(&sample), &[], &[]).unwrap(), load(None, &[], &[]).unwrap());
}

#[test]
fn state_and_lake_can_lie_elsewhere() {
    let flags = [("state.url", "sqlite:///data/s.db"), ("lake.url", "s3://bucket/lake")];
    let config = load(None, &[], &flags).unwrap();
    assert_eq!(config.state_address(), sqlite("/data/s.db"));
    assert_eq!(config.lake_url(), "s3://bucket/lake");
    let config = load(None, &[], &[("state.url", "sqlite:s.db")]).unwrap();
    assert_eq!(config.state_address(), sqlite("s.db"));
    let url = "postgres://safari:secret@db/state";
    let config = load(None, &[], &[("state.url", url)]).unwrap();
    assert_eq!(config.state_address(), Address::Postgres(url.to_owned()));
    assert!(!format!("{:?} {}", config.state_address(), setting(&config, "state.url").value).contains("secret"));
}

fn sqlite(path: &str) -> Address {
    Address::Sqlite(PathBuf::from(path))
}

#[test]
fn what_a_server_of_detections_may_fetch_and_serve_is_listed() {
    let flags = [
        ("serve.fetch_allow", "https://media.example.org/traps/, s3://traps/2026/"),
        ("serve.models", "net=/models/net.pt, sums=/models/sums"),
        ("serve.redis", "redis://user:hunter2@cache:6379/0"),
    ];
    let config = load(None, &[("GPU_MEMORY_FRACTION", "0.5")], &flags).unwrap();
    assert_eq!(config.serve.fetch_allow.len(), 2);
    assert_eq!(config.serve.models[1], ("sums".to_owned(), PathBuf::from("/models/sums")));
    assert_eq!(config.detector.gpu_memory_fraction, 0.5);
    assert!(!setting(&config, "serve.redis").value.contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    for (key, value) in [
        ("serve.fetch_allow", "https://media.example.org/traps"),
        ("serve.fetch_allow", "file:///etc/"),
        ("serve.models", "net"),
        ("serve.models", "=/models/net.pt"),
        ("serve.redis", "http://cache"),
        ("detector.gpu_memory_fraction", "0"),
    ] {
        assert!(load(None, &[], &[(key, value)]).is_err(), "{key}={value}");
    }
}
