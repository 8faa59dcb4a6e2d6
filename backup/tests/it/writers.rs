//! Two at once.

use backup::{Error, Progress, What};

use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_backups_at_once_one_is_refused_and_the_other_is_whole() {
    let house = House::new().await;
    let (one, two) = (house.plain().await, house.plain().await);
    let progress = Progress::silent();
    let (first, second) = tokio::join!(
        backup::create(&one, &house.places, What::All, &progress),
        backup::create(&two, &house.places, What::All, &progress),
    );
    let (made, refused) = match (first, second) {
        (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made, refused),
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    backup::verify(&one, &made.manifest.id, &progress).await.unwrap();
    house.back_up(&two, What::All).await;
    assert_eq!(one.list().await.unwrap().len(), 2);
}
