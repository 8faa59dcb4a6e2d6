//! The program `age` reads what is encrypted here, and the other way round: its format is not ours to change.

use std::path::Path;
use std::process::Command;

use backup::{Keys, What};

use crate::house::House;

/// A key of `age-keygen`; none where Debian's package age is not installed.
pub fn key(folder: &Path) -> Option<(String, std::path::PathBuf)> {
    let file = folder.join("key.txt");
    let made = Command::new("age-keygen").arg("-o").arg(&file).output();
    if made.is_err() {
        eprintln!("SKIPPED: age is not installed; run scripts/setup --test");
        return None;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    Some((public, file))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_read_by_age_itself() {
    let house = House::new().await;
    let Some((public, file)) = key(house.folder.path()) else { return };
    let other = house.folder.path().join("other.txt");
    assert!(Command::new("age-keygen").arg("-o").arg(&other).output().unwrap().status.success());
    let repository = house.repository(Keys::new(&[public], Some(&file)).unwrap()).await;
    house.back_up(&repository, What::All).await;
    let blobs = crate::house::stored(&house, "blobs");
    assert!(blobs.len() > 10, "{}", blobs.len());
    let largest = blobs.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    assert!(std::fs::metadata(largest).unwrap().len() > 200_000, "more than one chunk");
    for blob in &blobs {
        let opened = Command::new("age").arg("-d").arg("-i").arg(&file).arg(blob).output().unwrap();
        assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
        assert!(matches!(opened.stdout[0], 0 | 1), "the byte that says how the rest is packed");
    }
    let refused = Command::new("age").arg("-d").arg("-i").arg(&other).arg(&blobs[0]).output().unwrap();
    assert!(!refused.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_age_encrypts_is_read_here() {
    let house = House::new().await;
    let Some((public, file)) = key(house.folder.path()) else { return };
    let repository = house.repository(Keys::new(std::slice::from_ref(&public), Some(&file)).unwrap()).await;
    let created = house.back_up(&repository, What::All).await;
    // Every blob is encrypted anew by age; names and content stay, and what is stored has other checksums.
    for blob in crate::house::stored(&house, "blobs") {
        let plain = house.folder.path().join("plain");
        let run = |command: &mut Command| assert!(command.output().unwrap().status.success(), "{command:?}");
        run(Command::new("age").arg("-d").arg("-i").arg(&file).arg("-o").arg(&plain).arg(&blob));
        run(Command::new("age").arg("-e").arg("-r").arg(&public).arg("-o").arg(&blob).arg(&plain));
    }
    let before = house.look().await;
    std::fs::remove_dir_all(house.home()).unwrap();
    house.restore(&repository, What::All, backup::restore::Choice::Id(created.manifest.id)).await.unwrap();
    assert_eq!(house.look().await, before);
}
