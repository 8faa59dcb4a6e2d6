use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use platform::Error;
use platform::object_store::{Location, ObjectStore, open};

use crate::suite;

async fn open_folder(folder: &Path) -> Arc<dyn ObjectStore> {
    open(&Location::from(folder)).await.unwrap()
}

async fn listed(store: &Arc<dyn ObjectStore>) -> (Vec<String>, Vec<Error>) {
    let mut keys = Vec::new();
    let mut errors = Vec::new();
    let mut items = store.list("");
    while let Some(item) = items.next().await {
        match item {
            Ok(object) => keys.push(object.key),
            Err(error) => errors.push(error),
        }
    }
    (keys, errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    suite::all(suite::Order::Bytes, async |name: &str| {
        let root = folder.path().join(name);
        fs::create_dir(&root).unwrap();
        open_folder(&root).await
    })
    .await;
}

#[tokio::test]
async fn a_missing_folder_is_said_so_when_listed_and_made_when_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("typo/in/path");
    let store = open_folder(&root).await;
    let (keys, errors) = listed(&store).await;
    assert!(keys.is_empty());
    assert!(matches!(&errors[..], [Error::NotFound { uri }] if *uri == root.display().to_string()), "{errors:?}");
    store.put("a/b", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(listed(&store).await.0, ["a/b"]);
    assert_eq!(store.local_path("a/b"), Some(root.join("a/b")));
}

#[tokio::test]
async fn a_file_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("photo.jpg");
    fs::write(&file, "x").unwrap();
    let error = open(&Location::from(&*file)).await.unwrap_err();
    assert!(error.to_string().contains("it is a file, give the folder that holds it"), "{error}");
    let store = open_folder(folder.path()).await;
    let error = store.put("photo.jpg/x", Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("a part of its path is a file"), "{error}");
}

#[tokio::test]
async fn unfinished_writes_are_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".safari-tmp-abc"), "half").unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/.safari-tmp-def"), "half").unwrap();
    fs::write(folder.path().join("sub/whole"), "x").unwrap();
    assert_eq!(listed(&open_folder(folder.path()).await).await.0, ["sub/whole"]);
}

#[tokio::test]
async fn written_files_have_the_usual_mode() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plain"), "x").unwrap();
    open_folder(folder.path()).await.put("ours", Bytes::new()).await.unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("ours"), mode("plain"));
}

#[tokio::test]
async fn links_are_followed_but_not_in_circles() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("card.jpg"), "x").unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b/x.jpg"), "x").unwrap();
    symlink("../..", folder.path().join("a/b/up")).unwrap();
    symlink(".", folder.path().join("self")).unwrap();
    symlink(outside.path(), folder.path().join("card")).unwrap();
    symlink("a/b/x.jpg", folder.path().join("link.jpg")).unwrap();
    symlink("nowhere", folder.path().join("broken.jpg")).unwrap();
    let (keys, errors) = listed(&open_folder(folder.path()).await).await;
    assert_eq!(keys, ["a/b/x.jpg", "card/card.jpg", "link.jpg"]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].to_string().contains("broken.jpg: its link leads nowhere"), "{}", errors[0]);
    assert!(errors[0].is_about_one_object());
}

/// The administrator may read everything, so as root the folder is readable and must be listed instead.
#[tokio::test]
async fn unreadable_folders_and_files_are_errors_beside_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "closed", "z"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("x.jpg"), "x").unwrap();
    }
    let closed = folder.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let may_read_all = fs::read_dir(&closed).is_ok();
    let (keys, errors) = listed(&open_folder(folder.path()).await).await;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    if may_read_all {
        assert_eq!(keys, ["a/x.jpg", "closed/x.jpg", "z/x.jpg"]);
        return;
    }
    assert_eq!(keys, ["a/x.jpg", "z/x.jpg"]);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().ends_with("closed: permission denied"), "{}", errors[0]);
}

#[tokio::test]
async fn names_that_are_not_utf8_are_errors_beside_the_others() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.jpg")), "x").unwrap();
    fs::write(folder.path().join("good.jpg"), "x").unwrap();
    let (keys, errors) = listed(&open_folder(folder.path()).await).await;
    assert_eq!(keys, ["good.jpg"]);
    assert!(errors[0].to_string().contains("its name is not UTF-8, rename it"), "{}", errors[0]);
}

#[tokio::test]
async fn pipes_are_neither_listed_nor_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.jpg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let store = open_folder(folder.path()).await;
    assert!(listed(&store).await.0.is_empty());
    let error = store.get("pipe.jpg").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_deep_and_wide_tree_is_listed_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = BTreeSet::new();
    for station in 0..12 {
        for day in 0..5 {
            let sub = format!("station{station}/2024-01-{day:02}/dcim");
            fs::create_dir_all(folder.path().join(&sub)).unwrap();
            for picture in 0..20 {
                let key = format!("{sub}/IMG_{picture}.JPG");
                fs::write(folder.path().join(&key), "x").unwrap();
                wanted.insert(key);
            }
        }
    }
    let store = open_folder(folder.path()).await;
    assert_eq!(listed(&store).await.0, wanted.into_iter().collect::<Vec<_>>());
    let first: Vec<_> = store.list("station3").take(2).collect().await;
    assert_eq!(first[0].as_ref().unwrap().key, "station3/2024-01-00/dcim/IMG_0.JPG");
}
