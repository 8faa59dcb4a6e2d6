//! What is damaged is noticed before anything is replaced.

use std::path::Path;

use backup::restore::Choice;
use backup::{Error, Progress, What};

use crate::house::{House, stored};

/// What is done to a stored object.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Bit,
    Cut,
    Emptied,
    Gone,
}

impl Harm {
    fn to(self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        match self {
            Self::Bit => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
            }
            Self::Cut => bytes.truncate(bytes.len() * 2 / 3),
            Self::Emptied => bytes.clear(),
            Self::Gone => return std::fs::remove_file(path).unwrap(),
        }
        std::fs::write(path, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_object_is_noticed_before_anything_is_replaced() {
    let house = House::new().await;
    let repository = house.plain().await;
    let created = house.back_up(&repository, What::All).await.manifest;
    house.add_runs(500..510).await;
    let before = house.look().await;
    let mut objects = stored(&house, "blobs");
    objects.extend(stored(&house, "backups"));
    objects.retain(|path| !path.ends_with("verified.json"));
    assert!(objects.len() > 20);
    let harms = [Harm::Bit, Harm::Cut, Harm::Emptied, Harm::Gone];
    for (number, object) in objects.iter().enumerate() {
        let harm = harms[number % harms.len()];
        let whole = std::fs::read(object).unwrap();
        harm.to(object);
        // Lists of pieces are for who verifies and tidies up: a restoration goes by the lists of files.
        if !object.to_string_lossy().contains("/blobs-") {
            let noticed = house.restore(&repository, What::All, Choice::Id(created.id.clone())).await;
            let error = noticed.expect_err(&format!("{harm:?} {}", object.display()));
            assert!(matches!(error, Error::Damaged { .. } | Error::NoBackup { .. }), "{harm:?}: {error}");
            assert_eq!(house.look().await, before, "{harm:?} {}", object.display());
        }
        let verified = backup::verify(&repository, &created.id, &Progress::silent()).await;
        verified.expect_err(&format!("{harm:?} {}", object.display()));
        std::fs::write(object, whole).unwrap();
    }
    backup::verify(&repository, &created.id, &Progress::silent()).await.unwrap();
    house.restore(&repository, What::All, Choice::Newest).await.unwrap();
    assert!(house.look().await["state"].starts_with("500 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_found_damaged_is_not_chosen_and_the_next_backup_makes_it_good() {
    let house = House::new().await;
    let repository = house.plain().await;
    let first = house.back_up(&repository, What::All).await.manifest;
    let blobs = stored(&house, "blobs");
    Harm::Bit.to(&blobs[0]);
    backup::verify(&repository, &first.id, &Progress::silent()).await.unwrap_err();
    assert!(repository.list().await.unwrap()[0].verified.is_none());
    let error = house.restore(&repository, What::All, Choice::Newest).await.unwrap_err();
    assert!(matches!(error, Error::NoBackup { .. }), "{error}");
    // The damaged piece is there under its name: the next backup notices and has one of its own.
    let before = house.look().await;
    let second = house.back_up(&repository, What::All).await.manifest;
    backup::verify(&repository, &second.id, &Progress::silent()).await.unwrap();
    std::fs::remove_dir_all(house.home()).unwrap();
    house.restore(&repository, What::All, Choice::Newest).await.unwrap();
    assert_eq!(house.look().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_listed_and_nothing_that_it_may_need_is_removed() {
    let house = House::new().await;
    let repository = house.plain().await;
    house.back_up(&repository, What::All).await;
    let manifest = stored(&house, "backups").into_iter().find(|path| path.ends_with("manifest.jsonl")).unwrap();
    Harm::Bit.to(&manifest);
    let listed = repository.list().await.unwrap();
    assert!(!listed[0].is_good() && listed[0].manifest.is_err());
    let policy = backup::retention::Policy { days: 1, weeks: 0, months: 0, last: 1 };
    let pruned = backup::prune(&repository, policy, false).await.unwrap();
    assert_eq!((pruned.removed.len(), pruned.blobs), (0, 0));
}
