//! What every object store must do. Each test gets an empty store.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use platform::Error;
use platform::object_store::{Child, Incoming, ObjectStore, Part};

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
    streams_go_up_and_down(new_store("streams").await).await;
    streams_that_break_off_write_nothing(new_store("broken").await).await;
    parts_become_an_object(new_store("parts").await).await;
    folders_have_children_and_go(new_store("children").await).await;
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

/// Bytes in pieces of an odd size.
fn pieces(content: &Bytes) -> Incoming {
    let pieces: Vec<_> = (0..content.len())
        .step_by(123_457)
        .map(|at| Ok(content.slice(at..(at + 123_457).min(content.len()))))
        .collect();
    stream::iter(pieces).boxed()
}

fn content(size: u32) -> Bytes {
    (0..size).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into()
}

async fn read(store: &Store, key: &str, range: Option<std::ops::Range<u64>>) -> Bytes {
    let body = store.get_stream(key, range).await.unwrap();
    assert_eq!(body.meta, store.head(key).await.unwrap());
    let pieces: Vec<Bytes> = body.bytes.try_collect().await.unwrap();
    pieces.concat().into()
}

/// 40 MiB are three parts on S3.
async fn streams_go_up_and_down(store: Store) {
    for size in [0, 1, 300_000, 16 * 1024 * 1024, 40 * 1024 * 1024 + 7] {
        let content = content(size);
        for announced in [None, Some(u64::from(size))] {
            assert_eq!(store.put_stream("a/b", pieces(&content), announced).await.unwrap(), u64::from(size));
            assert!(read(&store, "a/b", None).await == content, "{size}");
        }
        let (size, end) = (u64::from(size), size as usize);
        for (start, stop) in
            [(0, 1), (size / 3, size / 3 * 2), (size.saturating_sub(5), size + 9), (size, size + 1), (3, 3)]
        {
            let wanted =
                content.slice((start as usize).min(end)..(stop as usize).clamp((start as usize).min(end), end));
            assert!(read(&store, "a/b", Some(start..stop)).await == wanted, "{start}..{stop} of {size}");
        }
    }
    let missing = store.get_stream("a/c", None).await.err().unwrap();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing:?}");
    assert_eq!(keys(&store, "").await, ["a/b"]);
}

async fn streams_that_break_off_write_nothing(store: Store) {
    store.put("x", Bytes::from_static(b"before")).await.unwrap();
    for size in [10, 20 * 1024 * 1024] {
        let content = content(size);
        let broken = pieces(&content).chain(stream::iter([Err(std::io::Error::other("the line is dead"))])).boxed();
        let error = store.put_stream("x", broken, None).await.unwrap_err();
        assert!(matches!(&error, Error::BrokenOff { reason, .. } if reason == "the line is dead"), "{error:?}");
        for announced in [u64::from(size) + 1, u64::from(size) - 1] {
            let error = store.put_stream("x", pieces(&content), Some(announced)).await.unwrap_err();
            assert!(matches!(error, Error::BrokenOff { .. }), "{error:?}");
        }
    }
    assert_eq!(store.get("x").await.unwrap(), "before");
    let now = chrono::Utc::now();
    assert_eq!(store.remove_unfinished(now + chrono::TimeDelta::hours(1)).await.unwrap(), 0, "nothing is left behind");
}

async fn parts_become_an_object(store: Store) {
    let content = content(12 * 1024 * 1024);
    let middle = 6 * 1024 * 1024;
    let halves = [content.slice(..middle), content.slice(middle..)];
    let upload = store.begin_parts("big/object").await.unwrap();
    let mut parts: Vec<Part> = Vec::new();
    for number in [2, 1] {
        let other = Bytes::from(vec![0; middle]);
        store.put_part("big/object", &upload, number, pieces(&other), None).await.unwrap();
        let half = &halves[number as usize - 1];
        let part = store.put_part("big/object", &upload, number, pieces(half), Some(half.len() as u64)).await.unwrap();
        assert_eq!(part.number, number);
        parts.push(part);
    }
    assert!(keys(&store, "").await.is_empty(), "nothing appears before its time");
    let mut wrong = parts.clone();
    wrong[0].tag = "\"00000000000000000000000000000000\"".to_owned();
    let error = store.complete_parts("big/object", &upload, &wrong).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPart { .. }), "{error:?}");
    store.complete_parts("big/object", &upload, &parts).await.unwrap();
    assert!(store.get("big/object").await.unwrap() == content);

    let given_up = store.begin_parts("big/other").await.unwrap();
    let sent = store.put_part("big/other", &given_up, 1, pieces(&content), None).await.unwrap();
    store.abort_parts("big/other", &given_up).await.unwrap();
    store.abort_parts("big/other", &given_up).await.unwrap();
    let error = store.complete_parts("big/other", &given_up, &[sent]).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");

    store.begin_parts("big/forgotten").await.unwrap();
    let now = chrono::Utc::now();
    let hour = chrono::TimeDelta::hours(1);
    assert_eq!(store.remove_unfinished(now - hour).await.unwrap(), 0, "it is young");
    assert_eq!(store.remove_unfinished(now + hour).await.unwrap(), 1);
    assert_eq!(store.remove_unfinished(now + hour).await.unwrap(), 0);
    assert_eq!(keys(&store, "").await, ["big/object"]);
}

async fn folders_have_children_and_go(store: Store) {
    for key in ["a/1", "a/b/2", "a/b/c/3", "ab/4", "5"] {
        store.put(key, Bytes::from_static(b"xy")).await.unwrap();
    }
    let children = async |folder: &str| -> Vec<String> {
        let found = store.children(folder).await.unwrap();
        let shown = found.iter().map(|child| match child {
            Child::Folder(key) => format!("{key}/"),
            Child::Object(meta) => format!("{} {}", meta.key, meta.size),
        });
        shown.collect()
    };
    assert_eq!(children("").await, ["5 2", "a/", "ab/"]);
    assert_eq!(children("a").await, ["a/1 2", "a/b/"]);
    assert_eq!(children("a/").await, ["a/1 2", "a/b/"]);
    assert!(children("a/1").await.is_empty() && children("none").await.is_empty());
    store.delete_folder("a").await.unwrap();
    store.delete_folder("a").await.unwrap();
    assert_eq!(keys(&store, "").await, ["5", "ab/4"]);
    let refused = store.delete_folder("../x").await.unwrap_err();
    assert!(matches!(refused, Error::InvalidKey { .. }), "{refused:?}");
}
