//! The tables: who is first wins, on both databases.

use std::time::Duration;

use model_registry::VersionNumber;
use rollout::store::{Change, Draft, Stored};
use rollout::{Error, Phase, fleet::Place};

use crate::world::{World, plan};

const LEASE: Duration = Duration::from_millis(400);

fn draft(key: Option<&str>) -> Draft {
    Draft {
        model: "wildlife".to_owned(),
        alias: "champion".to_owned(),
        stable: VersionNumber(1),
        candidate: VersionNumber(2),
        plan: Stored { plan: plan(), fleet: Place::Replicas(vec!["http://127.0.0.1:1".parse().unwrap()]) },
        actor: "ada".to_owned(),
        key: key.map(str::to_owned),
    }
}

fn change(phase: Phase, note: &str) -> Change {
    Change { phase, step: 0, note: note.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_has_one_rollout_and_a_key_one_for_ever() {
    for world in World::both().await {
        let store = &world.store;
        let makers = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.create(&draft(Some("run/task"))).await })
        });
        let mut ids = Vec::new();
        for made in futures::future::join_all(makers).await {
            ids.push(made.unwrap().unwrap().id);
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let error = store.create(&draft(Some("another"))).await.unwrap_err();
        assert!(matches!(error, Error::Busy { id, .. } if id == ids[0]), "{error}");
        assert!(error.to_string().contains("is advancing"), "{error}");

        let begun = store.get(ids[0]).await.unwrap();
        let ended = store.change(&begun, None, &change(Phase::Aborted, "enough")).await.unwrap().unwrap();
        assert!(ended.ended_at.is_some());
        let next = store.create(&draft(Some("another"))).await.unwrap();
        assert_eq!(store.create(&draft(Some("run/task"))).await.unwrap().id, ids[0], "its end is its answer");
        // The one that has ended cannot go on while another is under way.
        let error = store.change(&ended, None, &change(Phase::Undoing, "")).await.unwrap_err();
        assert!(matches!(error, Error::Busy { id, .. } if id == next.id), "{error}");
        let texts: Vec<String> = store.events(ids[0], 0).await.unwrap().into_iter().map(|event| event.text).collect();
        assert_eq!(texts, ["ada begins it: version 2 after 1", "enough"]);
        assert_eq!(store.list(10).await.unwrap().len(), 2);
        assert_eq!(store.under_way().await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_drivers_one_wins_and_who_was_stopped_changes_nothing() {
    for world in World::both().await {
        let store = &world.store;
        let begun = store.create(&draft(None)).await.unwrap();
        let claims = (0..8).map(|number| {
            let (store, holder) = (store.clone(), format!("driver {number}"));
            tokio::spawn(async move { store.claim(begun.id, &holder, LEASE).await.unwrap() })
        });
        let claims = futures::future::join_all(claims).await.into_iter().map(Result::unwrap);
        let won: Vec<_> = claims.flatten().collect();
        assert_eq!(won.len(), 1);
        let first = store.renew(&won[0], LEASE).await.unwrap().unwrap();
        assert!(store.claim(begun.id, "another", LEASE).await.unwrap().is_none());

        // It stands still for longer than its lease, and another takes over.
        tokio::time::sleep(LEASE + Duration::from_millis(100)).await;
        let second = store.claim(begun.id, "another", LEASE).await.unwrap().unwrap();
        assert!(second.fence > first.fence);
        assert!(store.renew(&first, LEASE).await.unwrap().is_none());
        assert!(store.change(&begun, Some(&first), &change(Phase::Promoting, "late")).await.unwrap().is_none());
        store.release(&first).await.unwrap();
        assert!(
            store.claim(begun.id, "third", LEASE).await.unwrap().is_none(),
            "the lease of another is not given back"
        );

        // A person is faster than the driver, who decided on what it saw before.
        store.change(&begun, None, &change(Phase::Aborting, "by hand")).await.unwrap().unwrap();
        assert!(store.change(&begun, Some(&second), &change(Phase::Promoting, "late")).await.unwrap().is_none());
        assert_eq!(store.get(begun.id).await.unwrap().phase, Phase::Aborting);
        store.release(&second).await.unwrap();
        assert!(store.claim(begun.id, "third", LEASE).await.unwrap().is_some());
    }
}
