//! Whole rollouts.

use std::time::{Duration, Instant};

use model_registry::VersionNumber;
use rollout::{Error, NewRollout, Phase, Rollout, Rollouts};

use crate::replica::{Behaviour, Replica};
use crate::world::{CANDIDATE, STABLE, World, to};

async fn follow(rollouts: &Rollouts, begun: &Rollout) -> Rollout {
    let mut told = Vec::new();
    let following = rollouts.follow(begun.id, |event| told.push(event.text.clone()));
    let ended = tokio::time::timeout(Duration::from_secs(60), following).await;
    ended.unwrap_or_else(|_| panic!("it has no end: {told:#?}")).unwrap()
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_goes_through_and_is_undone() {
    for world in World::both().await {
        let replicas = world.replicas(2, Behaviour::default()).await;
        let rollouts = world.rollouts();
        let begun = rollouts.start(&to(&replicas)).await.unwrap();
        assert!(matches!(rollouts.start(&to(&replicas)).await, Err(Error::Busy { .. })));
        let ended = follow(&rollouts, &begun).await;
        assert_eq!(ended.phase, Phase::Promoted, "{}", ended.note);
        assert_eq!(world.champion().await, 2);
        for replica in &replicas {
            assert_eq!((replica.current().as_str(), replica.candidate(), replica.greatest()), (CANDIDATE, None, 100));
        }
        let moved = world.client.promotions("wildlife", Some("champion"), 1).await.unwrap().remove(0);
        assert!(moved.reason.contains(&begun.id.to_string()) && moved.actor == "ada", "{moved:?}");
        assert!(matches!(rollouts.start(&to(&replicas)).await, Err(Error::SameVersion { .. })));
        assert!(matches!(rollouts.abort(begun.id, "too late").await, Err(Error::Phase { .. })));

        rollouts.undo(begun.id, "it missed the owls").await.unwrap();
        let undone = follow(&rollouts, &begun).await;
        assert_eq!((undone.phase, world.champion().await), (Phase::Undone, 1));
        assert!(replicas.iter().all(|replica| replica.current() == STABLE));
        let moved = world.client.promotions("wildlife", Some("champion"), 1).await.unwrap().remove(0);
        assert!(moved.reason.contains("it missed the owls"), "{moved:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_versions_are_aborted_by_what_they_do() {
    let world = World::sqlite().await;
    let cases = [
        (Behaviour { failures: 50, ..Behaviour::default() }, "failed"),
        (Behaviour { drifts: true, ..Behaviour::default() }, "population stability index"),
        (Behaviour { refuses: true, ..Behaviour::default() }, "its confidences lie outside"),
        (Behaviour { answers: 0, ..Behaviour::default() }, "too little to judge by: 0 of 50 answers"),
    ];
    for (behaviour, word) in cases {
        let replicas = world.replicas(2, behaviour).await;
        let rollouts = world.rollouts();
        let ended = follow(&rollouts, &rollouts.start(&to(&replicas)).await.unwrap()).await;
        assert_eq!(ended.phase, Phase::Aborted, "{}", ended.note);
        assert!(ended.note.contains(word), "{}", ended.note);
        assert_eq!(world.champion().await, 1);
        for replica in &replicas {
            assert_eq!((replica.current().as_str(), replica.candidate()), (STABLE, None));
            assert!(replica.greatest() <= 20, "the whole share never came: {}", replica.greatest());
        }
    }
    assert_eq!(
        world.client.promotions("wildlife", Some("champion"), 10).await.unwrap().len(),
        1,
        "the alias never moved"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_and_an_abort_by_hand_takes_everything_back() {
    let world = World::sqlite().await;
    let replicas = world.replicas(1, Behaviour::default()).await;
    let rollouts = world.rollouts();
    let begun = rollouts.start(&to(&replicas)).await.unwrap();
    rollouts.pause(begun.id, "lunch").await.unwrap();
    let driving = tokio::spawn({
        let (rollouts, begun) = (world.rollouts(), begun.clone());
        async move { follow(&rollouts, &begun).await }
    });
    until("it has its share", async || replicas[0].candidate() == Some((CANDIDATE.to_owned(), 20))).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(replicas[0].candidate(), Some((CANDIDATE.to_owned(), 20)), "longer than the pause of its step");
    rollouts.resume(begun.id, "").await.unwrap();
    until("the next step", async || replicas[0].greatest() == 100).await;
    rollouts.abort(begun.id, "a storm is coming").await.unwrap();
    let ended = driving.await.unwrap();
    assert_eq!(ended.phase, Phase::Aborted);
    assert!(ended.note.contains("a storm is coming"), "{}", ended.note);
    assert_eq!((replicas[0].candidate(), world.champion().await), (None, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_dies_is_replaced_wherever_it_was() {
    for world in World::both().await {
        let replicas = world.replicas(2, Behaviour::default()).await;
        let new = NewRollout { key: Some("run/task".to_owned()), ..to(&replicas) };
        let begun = world.rollouts().start(&new).await.unwrap();
        // Each driver ends in the middle of whatever it does, without a word.
        for patience in [50, 300, 700, 1100, 1500, 2100] {
            let driver = world.rollouts();
            let _ = tokio::time::timeout(Duration::from_millis(patience), driver.follow(begun.id, |_| ())).await;
        }
        // Whoever is to start it again finds it.
        let rollouts = world.rollouts();
        assert_eq!(rollouts.start(&new).await.unwrap().id, begun.id);
        let ended = follow(&rollouts, &begun).await;
        assert_eq!((ended.phase, world.champion().await), (Phase::Promoted, 2), "{}", ended.note);
        assert!(replicas.iter().all(|replica| replica.current() == CANDIDATE && replica.candidate().is_none()));
        let moves = world.client.promotions("wildlife", Some("champion"), 10).await.unwrap();
        assert_eq!(moves.len(), 2, "the alias was set up once and moved once: {moves:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_moves_the_alias_ends_the_rollout() {
    let world = World::sqlite().await;
    let replicas = world.replicas(1, Behaviour::default()).await;
    let rollouts = world.rollouts();
    let begun = rollouts.start(&to(&replicas)).await.unwrap();
    world.client.clone().acting_as("bob", &[]).set_alias("wildlife", "champion", VersionNumber(3)).await.unwrap();
    let ended = follow(&rollouts, &begun).await;
    assert_eq!(ended.phase, Phase::Aborted, "{}", ended.note);
    assert!(ended.note.contains("moved to version 3 by bob"), "{}", ended.note);
    assert_eq!(world.champion().await, 3, "it is left where bob wanted it");
    assert_eq!((replicas[0].current().as_str(), replicas[0].candidate()), ("models:/wildlife/3", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_back_is_brought_in_agreement() {
    let world = World::sqlite().await;
    let mut replicas = world.replicas(2, Behaviour::default()).await;
    let rollouts = world.rollouts();
    let mut new = to(&replicas);
    new.plan.patience = Duration::from_secs(20);
    let begun = rollouts.start(&new).await.unwrap();
    let gone = replicas.remove(1);
    let address = gone.url.socket_addrs(|| None).unwrap()[0].to_string();
    drop(gone);
    let driving = tokio::spawn({
        let (rollouts, begun) = (world.rollouts(), begun.clone());
        async move { follow(&rollouts, &begun).await }
    });
    until("the alias moves without it", async || world.champion().await == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rollouts.store().get(begun.id).await.unwrap().phase, Phase::Promoting, "it is waited for");
    let back = Replica::start_at(&address, &world.client, STABLE, Behaviour::default()).await;
    let ended = driving.await.unwrap();
    assert_eq!(ended.phase, Phase::Promoted, "{}", ended.note);
    assert_eq!((back.current().as_str(), back.candidate()), (CANDIDATE, None));
    assert!(ended.note.contains("all 2 replicas"), "{}", ended.note);
}
