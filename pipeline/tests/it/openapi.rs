//! The API answers as its document says, whatever it is asked: schemathesis (PyPI) reads the document and tries.
//!
//! `SCHEMATHESIS_EXAMPLES=200` asks more of each operation than the test does, `SCHEMATHESIS_SEED=7` other things.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use axum::extract::Request;
use axum::{Extension, Router};
use pipeline::clock::Timestamp;
use pipeline::schedule::DataInterval;
use pipeline::state::{NewBackfill, Rerun};
use pipeline::{History, Logs, LogsOptions, Scheduler, Store};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::common::{dag, run_in, runner};

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_failure_of_the_server_and_no_breach_of_the_document() {
    let home = tempfile::tempdir().unwrap();
    let runner = runner(home.path(), []).await;
    for yaml in [
        "dag: good\nparams:\n  n: {type: integer, default: 3}\ntasks:\n  \
         each: {job: give, map: '{{ range(params.n) | list }}'}\n  last: {job: give, needs: [each]}\n",
        "dag: bad\ntasks:\n  a: {job: fail, with: {message: it fails}}\n  b: {job: give, needs: [a]}\n",
    ] {
        run_in(&runner, yaml).await;
    }
    fill(runner.store()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v1/openapi.json", listener.local_addr().unwrap());
    let logs = Logs::new(home.path().join("logs").as_path().into(), LogsOptions::default());
    let history = History::new(runner.store().clone(), logs.clone(), home.path());
    let api = pipeline::api::router(runner.store().clone()).layer(Extension(logs)).layer(Extension(history));
    // Before the routes: nobody works on the runs that it makes, and who follows their logs would wait for ever.
    let follow_nothing: fn(Request) -> Request = follow_nothing;
    let api = Router::new().fallback_service(ServiceExt::<Request>::map_request(api, follow_nothing));
    let serving = tokio::spawn(async move { axum::serve(listener, api).await });

    let folder = home.path().to_owned();
    let output = tokio::task::spawn_blocking(move || schemathesis(&url, &folder).output()).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; run scripts/setup --test", program().display()));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // Nothing was left out but the events.
    for tried in ["Tested: 28", "✅ Coverage", "✅ Fuzzing", "✅ Stateful"] {
        assert!(said.contains(tried), "{tried}: {said}");
    }
    serving.abort();
}

fn follow_nothing(mut request: Request) -> Request {
    if let Ok(address) = request.uri().to_string().replace("follow=true", "follow=false").parse() {
        *request.uri_mut() = address;
    }
    request
}

/// Something of each kind, for those who ask.
async fn fill(store: &Store) {
    let now = Timestamp::now();
    let nightly = dag("dag: nightly\nschedule: '0 4 * * *'\ntasks:\n  a: {job: give}\n");
    store.register(&nightly, now).await.unwrap();
    let params = nightly.params(&[]).unwrap();
    for _ in 0..3 {
        store.create_run(&nightly, &params, now).await.unwrap();
    }
    let range =
        DataInterval { start: "2026-01-01T00:00:00Z".parse().unwrap(), end: "2026-01-05T00:00:00Z".parse().unwrap() };
    let new = NewBackfill { range, params, rerun: Rerun::Missing, max_active: 2 };
    store.backfill("nightly", &new, now).await.unwrap();
    store.update_asset("cameras", now).await.unwrap();
    Scheduler::new(store.clone(), Duration::from_secs(30)).pass(now).await.unwrap();
}

/// It leaves what it found in the folder where it runs.
fn schemathesis(url: &str, folder: &Path) -> Command {
    let from_environment = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let mut command = Command::new(program());
    command.current_dir(folder);
    command.arg("--config-file").arg(root().join("pipeline/tests/schemathesis.toml"));
    command.args([
        "run",
        url,
        "--checks",
        "all",
        "--no-color",
        "--generation-database",
        "none",
        "--request-timeout",
        "30",
    ]);
    command.args(["--max-examples", &from_environment("SCHEMATHESIS_EXAMPLES", "15")]);
    command.args(["--seed", &from_environment("SCHEMATHESIS_SEED", "1")]);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

fn program() -> PathBuf {
    root().join(".venv/bin/schemathesis")
}

fn root() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap()
}
