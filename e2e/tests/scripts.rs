//! The scripts that lay out a fresh machine: their own tests, run with the rest.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn downloads_go_on_where_they_broke_off() {
    let root = Path::new(env!("WORKSPACE_ROOT"));
    let mut tests = Command::new(root.join(".venv/bin/python"));
    tests.current_dir(root).args(["-B", "-m", "unittest", "discover", "-s", "scripts/tests"]);
    let ended = tests.output().expect("run scripts/setup --test first");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("Ran 9 tests"), "{said}");
}
