//! What is in `k8s/`, held against the real program and real tools by `scripts/check-manifests`.
#![allow(clippy::unwrap_used)]

use std::process::Command;

mod common;

use common::root;

#[test]
fn every_object_fits_its_schema() {
    check("schemas", "objects fit Kubernetes 1.37");
}

#[test]
fn pods_are_restricted_and_references_lead_somewhere() {
    check("house", "pods are restricted");
}

#[test]
fn rules_and_dashboards_parse_and_every_alert_fires() {
    check("rules", "each alert fires in a unit test");
}

#[test]
fn terraform_and_images_fit_the_manifests() {
    check("infra", "lead somewhere");
}

#[test]
fn the_program_knows_its_flags_and_variables() {
    check("program", "safari knows the arguments and variables");
}

#[test]
fn real_processes_answer_count_and_are_scraped() {
    let said = check("live", "a real Prometheus scraped");
    for part in ["are answered by real processes", "are counted by real processes", "fit the mapping"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_real_control_plane_takes_everything() {
    let said = check("cluster", "cluster: ");
    if said.contains("skipped") {
        eprintln!("{said}");
        return;
    }
    assert!(said.contains("objects applied on Kubernetes 1.20"), "{said}");
}

/// What a part of the check says; it must succeed and say this.
fn check(part: &str, wanted: &str) -> String {
    let mut command = Command::new(root().join("scripts/check-manifests"));
    command.args(["--safari", env!("CARGO_BIN_EXE_safari"), part]);
    let ended = command.output().expect("run scripts/setup --test first");
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains(wanted), "{said}");
    said.into_owned()
}
