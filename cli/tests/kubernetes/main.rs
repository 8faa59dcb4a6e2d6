//! The Kubernetes executor and rollouts on a real control plane: the test plays the kubelets, and every pod is a real process of the
//! real program. Skipped, with words, where `../shared/k8s` is not there.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod cluster;
mod detect;
mod effects;
mod faults;
mod jobs;
mod render;
mod rollout;
