//! Rollouts on a real control plane, through a real Envoy. Skipped, with words, where `../shared/k8s` is not there.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, Patch, PatchParams};
use rollout::{Phase, Rollout, Rollouts};
use serde_json::json;

use crate::cluster::{Cluster, start_load, to, until};

const FOLLOWS: &str = "models:/wildlife@champion";
const PINNED: &str = "models:/wildlife/1";

async fn follow(rollouts: &Rollouts, begun: &Rollout) -> Rollout {
    let mut told = Vec::new();
    let following = rollouts.follow(begun.id, |event| told.push(event.text.clone()));
    let ended = tokio::time::timeout(Duration::from_secs(180), following).await;
    ended.unwrap_or_else(|_| panic!("it has no end: {told:#?}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_goes_through_under_load_though_its_drivers_die() {
    for (name, model) in [("follows", FOLLOWS), ("pinned", PINNED)] {
        let Some(cluster) = Cluster::start(name, model).await else { return };
        let gateway = cluster.gateway().await;
        let before = cluster.pods().await;
        let load = start_load(&gateway);
        let begun = cluster.rollouts().start(&to(2)).await.unwrap();
        // Each driver ends in the middle of whatever it does, without a word.
        for millis in [300, 1500, 3000, 5000, 8000] {
            let driver = cluster.rollouts();
            let _ = tokio::time::timeout(Duration::from_millis(millis), driver.follow(begun.id, |_| ())).await;
        }
        let ended = follow(&cluster.rollouts(), &begun).await;
        assert_eq!((ended.phase, cluster.world.champion().await), (Phase::Promoted, 2), "{}", ended.note);
        assert!(ended.note.contains("version 2 answers at all 2 replicas"), "{}", ended.note);
        assert!(cluster.is_clean().await, "{:?}", cluster.weights());
        let after = cluster.pods().await;
        assert!(before.is_disjoint(&after), "its pods began anew: {before:?} {after:?}");
        let asked = load.end().unwrap();
        assert!(asked.bad.is_empty(), "{} of {} failed: {:?}", asked.bad.len(), asked.good, asked.bad.first());
        let both = BTreeSet::from([PINNED.to_owned(), "models:/wildlife/2".to_owned()]);
        assert!(asked.good > 200 && asked.sources == both, "{} {:?}", asked.good, asked.sources);

        let load = start_load(&gateway);
        cluster.rollouts().undo(begun.id, "it missed the owls").await.unwrap();
        let undone = follow(&cluster.rollouts(), &begun).await;
        assert_eq!((undone.phase, cluster.world.champion().await), (Phase::Undone, 1), "{}", undone.note);
        let asked = load.end().unwrap();
        assert!(asked.bad.is_empty(), "{} of {} failed: {:?}", asked.bad.len(), asked.good, asked.bad.first());
        let load = start_load(&gateway);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(load.end().unwrap().sources, BTreeSet::from([PINNED.to_owned()]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_taken_away_and_the_stable_pods_are_left_alone() {
    let Some(cluster) = Cluster::start("bad", FOLLOWS).await else { return };
    let gateway = cluster.gateway().await;
    let before = cluster.pods().await;
    let load = start_load(&gateway);
    let rollouts = cluster.rollouts();
    let ended = follow(&rollouts, &rollouts.start(&to(3)).await.unwrap()).await;
    assert!(ended.phase == Phase::Aborted && ended.note.contains("max_error_rate"), "{}", ended.note);
    let asked = load.end().unwrap();
    assert!(asked.bad.iter().all(|bad| bad.starts_with("500") && bad.contains("wildlife/3")), "{:?}", asked.bad);
    assert!(cluster.is_clean().await, "{:?}", cluster.weights());

    let load = start_load(&gateway);
    let mut drifts = to(5);
    drifts.plan.limits.max_error_rate = None;
    let ended = follow(&rollouts, &rollouts.start(&drifts).await.unwrap()).await;
    assert!(ended.phase == Phase::Aborted && ended.note.contains("stability index"), "{}", ended.note);
    // Its pods end as soon as they begin: nothing is ever sent to them.
    let ended = follow(&rollouts, &rollouts.start(&to(4)).await.unwrap()).await;
    assert!(ended.phase == Phase::Aborted && ended.note.contains("CrashLoopBackOff"), "{}", ended.note);
    assert!(ended.note.contains("exit status 1"), "{}", ended.note);
    let asked = load.end().unwrap();
    assert!(asked.bad.is_empty(), "{} of {} failed: {:?}", asked.bad.len(), asked.good, asked.bad.first());
    assert!(cluster.is_clean().await, "{:?}", cluster.weights());
    until("the candidate's pods are gone", async || cluster.pods().await == before).await;
    assert_eq!(cluster.world.champion().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_brought_back() {
    let Some(cluster) = Cluster::start("changed", FOLLOWS).await else { return };
    let gateway = cluster.gateway().await;
    let load = start_load(&gateway);
    let rollouts = cluster.rollouts();
    let begun = rollouts.start(&to(2)).await.unwrap();
    rollouts.pause(begun.id, "to look").await.unwrap();
    let driving = tokio::spawn({
        let (rollouts, begun) = (cluster.rollouts(), begun.clone());
        async move { follow(&rollouts, &begun).await }
    });
    let shared = [("detection".to_owned(), 80), ("detection-canary".to_owned(), 20)];
    until("it has its share", async || cluster.weights() == shared).await;

    let deployments = cluster.api::<Deployment>();
    let scaled = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch("detection-canary", &PatchParams::default(), &scaled).await.unwrap();
    until("it is scaled back", async || {
        let found = cluster.deployment("detection-canary").await.unwrap();
        found.spec.unwrap().replicas == Some(1) && found.status.unwrap().available_replicas == Some(1)
    })
    .await;
    deployments.delete("detection-canary", &DeleteParams::background()).await.unwrap();
    until("it is made again", async || {
        let found = cluster.deployment("detection-canary").await;
        found.and_then(|found| found.status?.available_replicas) == Some(1)
    })
    .await;
    let rules = json!([{"backendRefs": [{"name": "detection", "port": 8080}]}]);
    cluster.set_rules(&rules);
    until("its share is back", async || cluster.weights() == shared).await;
    // An autoscaler that finds the stable version idle.
    let scaled = Patch::Merge(json!({"spec": {"replicas": 1}}));
    deployments.patch("detection", &PatchParams::default(), &scaled).await.unwrap();

    rollouts.resume(begun.id, "").await.unwrap();
    let ended = driving.await.unwrap();
    assert_eq!((ended.phase, cluster.world.champion().await), (Phase::Promoted, 2), "{}", ended.note);
    assert_eq!(cluster.deployment("detection").await.unwrap().spec.unwrap().replicas, Some(2), "it has its pods back");
    assert!(cluster.is_clean().await, "{:?}", cluster.weights());
    // A candidate whose pods were all killed at once was missed until the route was changed; the others were not.
    let asked = load.end().unwrap();
    assert!(asked.bad.iter().all(|bad| bad.starts_with("503")), "{:?}", asked.bad.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told() {
    let Some(cluster) = Cluster::start("words", FOLLOWS).await else { return };
    let rollouts = cluster.rollouts();
    let refused = async |change: &dyn Fn(&mut rollout::fleet::Target)| {
        let mut new = to(2);
        let rollout::fleet::Place::Kubernetes(target) = &mut new.fleet else { unreachable!() };
        change(target);
        rollouts.start(&new).await.unwrap_err().to_string()
    };
    let told = refused(&|target| target.deployment = "owls".to_owned()).await;
    assert!(told.contains("deployment owls: there is none of this name in namespace rollout-words"), "{told}");
    let told = refused(&|target| target.service = Some("owls".to_owned())).await;
    assert!(told.contains("service owls: there is none"), "{told}");
    let told = refused(&|target| target.route = Some("owls".to_owned())).await;
    assert!(told.contains("route owls: there is none"), "{told}");
    let told = cluster.rollouts_without_routes().start(&to(2)).await.unwrap_err().to_string();
    assert!(told.contains("the cluster has no HTTPRoutes"), "{told}");
    let told = cluster.rollouts_without_rights().start(&to(2)).await.unwrap_err().to_string();
    assert!(told.contains("forbidden") && told.contains("k8s/rollouts"), "{told}");
    let mut birds = to(2);
    birds.alias = "challenger".to_owned();
    cluster.world.client.set_alias("wildlife", "challenger", model_registry::VersionNumber(1)).await.unwrap();
    let told = rollouts.start(&birds).await.unwrap_err().to_string();
    assert!(told.contains("its pods serve models:/wildlife@champion"), "{told}");

    // There is no gateway: requests stay where they are, and the candidate goes.
    let mut hasty = to(2);
    hasty.plan.patience = Duration::from_secs(8);
    let ended = follow(&rollouts, &rollouts.start(&hasty).await.unwrap()).await;
    assert!(ended.note.contains("no gateway has taken it"), "{}", ended.note);
    assert_eq!(ended.phase, Phase::Aborted);

    let open = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "detection"},
        "spec": {"selector": {"app": "detection"}, "ports": [{"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]},
    });
    cluster.apply(open).await;
    let told = rollouts.start(&to(2)).await.unwrap_err().to_string();
    assert!(told.contains("add `safari/track: stable` to its selector"), "{told}");
}
