//! The API answers as its document says, whatever it is asked: schemathesis (PyPI) reads the document and tries.
//!
//! `SCHEMATHESIS_EXAMPLES=200` asks more of each operation than the test does, `SCHEMATHESIS_SEED=7` other things.

use std::path::Path;
use std::process::Command;

use crate::server::{Server, root};

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_failure_of_the_server_and_no_breach_of_the_document() {
    let server = Server::start(|_| {}).await;
    let url = server.url("/openapi.json");
    let folder = server.home.path().to_owned();
    let output = tokio::task::spawn_blocking(move || schemathesis(&url, &folder).output()).await.unwrap();
    let program = root().join(".venv/bin/schemathesis");
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; run scripts/setup --test", program.display()));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for tried in ["Tested: 28", "✅ Coverage", "✅ Fuzzing"] {
        assert!(said.contains(tried), "{tried}: {said}");
    }
}

/// It leaves what it found in the folder where it runs.
fn schemathesis(url: &str, folder: &Path) -> Command {
    let from_environment = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let mut command = Command::new(root().join(".venv/bin/schemathesis"));
    command.current_dir(folder);
    command.arg("--config-file").arg(root().join("serving/tests/schemathesis.toml"));
    command.args(["run", url, "--checks", "all", "--no-color", "--generation-database", "none"]);
    command.args(["--request-timeout", "30"]);
    command.args(["--max-examples", &from_environment("SCHEMATHESIS_EXAMPLES", "15")]);
    command.args(["--seed", &from_environment("SCHEMATHESIS_SEED", "1")]);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}
