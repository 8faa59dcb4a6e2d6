//! What every object store must do. Each test gets an empty store.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use platform::Error;
use platform::object_store::ObjectStore;

pub type Store = Arc<dyn ObjectStore>;

/// How a server sorts its listings.
#[derive(Clone, Copy, PartialEq)]
pub enum Order {
    /// By key as bytes.
    Bytes,
    /// By the first part of the key, then by the second, and so on.
    Folders,
}

pub async fn all(order: Order, new_store: impl AsyncFn(&str) -> Store) {
    writes_reads_and_deletes(new_store("basics").await).await;
    missing_objects_are_said_so(new_store("missing").await).await;
    ranges_are_clipped(new_store("ranges").await).await;
    lists_in_order(order, new_store("lists").await).await;
    prefixes_are_folders(new_store("prefixes").await).await;
    keys_that_leave_the_root_are_refused(new_store("keys").await).await;
    of_many_conditional_writers_one_wins(new_store("race").await).await;
    large_files_go_up_and_down(new_store("large").await).await;
    readers_see_whole_objects(new_store("atomic").await).await;
}

pub async fn keys(store: &Store, prefix: &str) -> Vec<String> {
    store.list(prefix).map_ok(|object| object.key).try_collect().await.unwrap()
}

async fn writes_reads_and_deletes(store: Store) {
    for key in ["a.jpg", "folder/with space/ä+%20&=.jpg", "empty"] {
        let content = if key == "empty" { Bytes::new() } else { Bytes::from(format!("content of {key}")) };
        store.put(key, content.clone()).await.unwrap();
        assert_eq!(store.get(key).await.unwrap(), content);
        let head = store.head(key).await.unwrap();
        assert_eq!((head.key.as_str(), head.size), (key, content.len() as u64));
        let age = chrono::Utc::now() - head.modified;
        assert!(age.num_seconds().abs() < 120, "{head:?}");
        let listed: Vec<_> = store.list("").try_collect().await.unwrap();
        let listed = listed.iter().find(|object| object.key == key).unwrap();
        assert_eq!((listed.size, &listed.version), (head.size, &head.version), "listing and head agree on {key}");
        assert!(store.uri(key).ends_with(key) && store.uri(key).starts_with(&store.location().to_string()));
    }
    let before = store.head("a.jpg").await.unwrap();
    store.put("a.jpg", Bytes::from_static(b"other")).await.unwrap();
    assert_ne!(store.head("a.jpg").await.unwrap().version, before.version);
    assert_eq!(store.get("a.jpg").await.unwrap(), "other");
    store.delete("a.jpg").await.unwrap();
    store.delete("a.jpg").await.unwrap();
    assert_eq!(keys(&store, "").await, ["empty", "folder/with space/ä+%20&=.jpg"]);
}

async fn missing_objects_are_said_so(store: Store) {
    store.put("there/x", Bytes::from_static(b"x")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    for key in ["nothing", "no/folder/x", "there"] {
        let errors = [
            store.get(key).await.unwrap_err(),
            store.head(key).await.unwrap_err(),
            store.get_range(key, 0..1).await.unwrap_err(),
            store.download(key, &target).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, Error::NotFound { uri } if *uri == store.uri(key)), "{key}: {error:?}");
        }
        assert!(!target.exists());
        store.delete("nothing").await.unwrap();
    }
    assert!(keys(&store, "no/such/folder").await.is_empty());
}

async fn ranges_are_clipped(store: Store) {
    store.put("x", Bytes::from_static(b"0123456789")).await.unwrap();
    for (range, expected) in
        [(0..10, "0123456789"), (3..7, "3456"), (8..100, "89"), (10..12, ""), (50..60, ""), (4..4, "")]
    {
        assert_eq!(store.get_range("x", range.clone()).await.unwrap(), expected, "{range:?}");
    }
}

async fn lists_in_order(order: Order, store: Store) {
    let mut wanted = ["B", "a b", "a-b/x", "a.jpg", "a/b.jpg", "a/b/c.jpg", "a0", "b/ä.jpg", "b/ö.jpg", "z"];
    for key in wanted.iter().rev() {
        store.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    match order {
        Order::Bytes => wanted.sort(),
        Order::Folders => wanted.sort_by(|one, other| one.split('/').cmp(other.split('/'))),
    }
    assert_eq!(keys(&store, "").await, wanted);
    assert_eq!(keys(&store, "").await, wanted);
}

async fn prefixes_are_folders(store: Store) {
    for key in ["cam/1.jpg", "cam/2/3.jpg", "cam2/4.jpg", "camera.jpg"] {
        store.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    assert_eq!(keys(&store, "cam").await, ["cam/1.jpg", "cam/2/3.jpg"]);
    assert_eq!(keys(&store, "cam/").await, ["cam/1.jpg", "cam/2/3.jpg"]);
    assert_eq!(keys(&store, "cam/2").await, ["cam/2/3.jpg"]);
    assert!(keys(&store, "ca").await.is_empty());
}

async fn keys_that_leave_the_root_are_refused(store: Store) {
    let content = Bytes::from_static(b"x");
    for key in ["", "/etc/passwd", "../x", "a/../../x", "a/./x", "a/", "nul\0", ".safari-tmp-x", "a/.safari-tmp-x/b"] {
        let errors = [
            store.put(key, content.clone()).await.unwrap_err(),
            store.put_if_absent(key, content.clone()).await.unwrap_err(),
            store.get(key).await.unwrap_err(),
            store.head(key).await.unwrap_err(),
            store.delete(key).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::InvalidKey { .. }), "{key:?}: {error:?}");
        }
    }
    let listed: Vec<_> = store.list("../other").collect().await;
    assert!(matches!(listed[..], [Err(Error::InvalidKey { .. })]), "{listed:?}");
    assert!(keys(&store, "").await.is_empty());
}

async fn of_many_conditional_writers_one_wins(store: Store) {
    let tries = (0..16).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store.put_if_absent("log/1.json", Bytes::from(format!("writer {writer}"))).await.unwrap()
        })
    });
    let won: Vec<bool> = futures::future::try_join_all(tries).await.unwrap();
    let winners: Vec<usize> = (0..won.len()).filter(|writer| won[*writer]).collect();
    assert_eq!(winners.len(), 1, "{won:?}");
    assert_eq!(store.get("log/1.json").await.unwrap(), format!("writer {}", winners[0]));
    assert!(!store.put_if_absent("log/1.json", Bytes::from_static(b"late")).await.unwrap());
    assert_eq!(keys(&store, "").await, ["log/1.json"]);
}

/// 40 MiB in three parts, from a file and from memory.
async fn large_files_go_up_and_down(store: Store) {
    let content: Vec<u8> =
        (0..40 * 1024 * 1024u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let content = Bytes::from(content);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::write(&source, &content).unwrap();

    store.put_file("big/file", &source).await.unwrap();
    store.put("big/bytes", content.clone()).await.unwrap();
    assert_eq!(store.head("big/file").await.unwrap().size, content.len() as u64);
    let edge = 16 * 1024 * 1024;
    let around = edge - 3..edge + 3;
    assert_eq!(
        store.get_range("big/file", around.start as u64..around.end as u64).await.unwrap(),
        content.slice(around)
    );
    assert!(store.get("big/bytes").await.unwrap() == content);

    let target = folder.path().join("new/target");
    store.download("big/file", &target).await.unwrap();
    assert!(std::fs::read(&target).unwrap() == content);
    assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "no temporary file stays");

    let missing = store.put_file("big/none", &folder.path().join("none")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing:?}");
    let small = folder.path().join("small");
    std::fs::write(&small, b"small").unwrap();
    store.put_file("big/small", &small).await.unwrap();
    assert_eq!(store.get("big/small").await.unwrap(), "small");
}

async fn readers_see_whole_objects(store: Store) {
    let contents: Vec<Bytes> = (0..4u8).map(|digit| Bytes::from(vec![digit; 300_000])).collect();
    store.put("x", contents[0].clone()).await.unwrap();
    let writes = stream::iter(contents.iter().cycle().take(24)).for_each_concurrent(2, |content| async {
        store.put("x", content.clone()).await.unwrap();
    });
    let reads = stream::iter(0..40).for_each_concurrent(4, |_| async {
        let bytes = store.get("x").await.unwrap();
        assert!(contents.contains(&bytes), "{} bytes, half of one and half of another", bytes.len());
        assert!(store.list("").all(|object| async move { object.unwrap().key == "x" }).await);
    });
    futures::future::join(writes, reads).await;
}
