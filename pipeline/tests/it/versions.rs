//! Versions of a DAG.

use pipeline::clock::Timestamp;
use pipeline::state::Version;

use crate::common::{dag, store};

const FIRST: &str = "dag: d\ntasks: {a: {job: give}}\n";
const SECOND: &str = "dag: d\ntasks: {a: {job: give}, b: {job: give}}\n";

#[tokio::test]
async fn versions_are_listed_with_their_runs_and_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path()).await;
    let now = Timestamp::now();
    assert!(store.dag_versions("d").await.unwrap_err().to_string().contains("no dag named `d`"));
    let first = dag(FIRST);
    store.register(&first, now).await.unwrap();
    let error = store.dag_version_text("d", &Version::Previous).await.unwrap_err().to_string();
    assert!(error.contains("there is none before the current one"), "{error}");
    for _ in 0..2 {
        store.create_run(&first, &first.params(&[]).unwrap(), now).await.unwrap();
    }
    store.register(&dag(SECOND), now.plus(std::time::Duration::from_secs(1))).await.unwrap();

    let versions = store.dag_versions("d").await.unwrap();
    assert_eq!(versions.iter().map(|v| (v.runs, v.current)).collect::<Vec<_>>(), [(0, true), (2, false)]);
    assert_eq!((versions[0].last_run_at, versions[1].last_run_at), (None, Some(now)));
    assert_eq!(store.dag_version_text("d", &Version::Current).await.unwrap().1, SECOND);
    assert_eq!(store.dag_version_text("d", &Version::Previous).await.unwrap().1, FIRST);
    let named = Version::Sha256(versions[1].short().to_owned());
    assert_eq!(store.dag_version_text("d", &named).await.unwrap().1, FIRST);
    for (start, words) in [("xyz", "none begins with `xyz`"), ("", "2 begin with ``; give more of it")] {
        let error = store.dag_version_text("d", &Version::Sha256(start.to_owned())).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("`d`"), "{error}");
    }
    // Who goes back to an earlier text goes back to its version.
    store.register(&first, now).await.unwrap();
    let versions = store.dag_versions("d").await.unwrap();
    assert_eq!(versions.iter().map(|v| v.current).collect::<Vec<_>>(), [false, true]);
}
