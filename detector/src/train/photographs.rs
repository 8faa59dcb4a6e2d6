//! The photographs that bursts are made from, as `labels.csv` lists them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The list that lies beside the photographs.
pub const LABELS_FILE: &str = "labels.csv";

/// What a picture is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An animal in its surroundings.
    Photo,
    /// A photographed animal with transparent surroundings.
    Cutout,
    /// A place without animals.
    Background,
    /// A plant with transparent surroundings, to stand before an animal.
    Occluder,
}

/// The part of the work that may see a photograph; no photograph is in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Weights are fitted to its bursts, in folds.
    Train,
    /// Its bursts are only judged once, for the reported numbers.
    Test,
}

/// One line of `labels.csv`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Photograph {
    /// Path below the folder of photographs.
    pub file: PathBuf,
    /// Digits of the file's sha256; the seed of its bursts.
    pub sha256: String,
    /// What it is used for.
    pub kind: Kind,
    /// Who may see it.
    pub split: Split,
    /// Names from class down to what the picture surely shows, separated by semicolons; empty without an animal.
    pub lineage: String,
    /// Licence, by its SPDX name where it has one.
    pub licence: String,
    /// Who took it.
    pub author: String,
    /// Where it was published.
    pub origin: String,
    /// Debian package and version it comes in.
    pub package: String,
    /// Path within the package; a colon leads into a Qt resource file.
    pub member: String,
}

impl Photograph {
    /// A picture that no list describes.
    pub fn unlisted(file: PathBuf, sha256: String, kind: Kind, split: Split, lineage: &[String]) -> Self {
        let nothing = String::new;
        Self {
            file,
            sha256,
            kind,
            split,
            lineage: lineage.join(";"),
            licence: nothing(),
            author: nothing(),
            origin: nothing(),
            package: nothing(),
            member: nothing(),
        }
    }

    /// Names from class down.
    pub fn names(&self) -> Vec<String> {
        self.lineage.split(';').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// True for what a burst can be made of.
    pub fn shows_animal(&self) -> bool {
        matches!(self.kind, Kind::Photo | Kind::Cutout)
    }
}

/// Reads `folder/labels.csv` and checks that every file is there, unchanged, and usable.
pub fn read(folder: &Path) -> Result<Vec<Photograph>> {
    let list = folder.join(LABELS_FILE);
    let unusable = |reason: String| Error::Training(format!("{}: {reason}", list.display()));
    if !list.exists() {
        return Err(unusable("the list of photographs is missing; run scripts/fetch-training-photos".to_owned()));
    }
    let mut reader = csv::Reader::from_path(&list).map_err(|error| unusable(error.to_string()))?;
    let photographs: Vec<Photograph> =
        reader.deserialize().collect::<std::result::Result<_, _>>().map_err(|error| unusable(error.to_string()))?;
    for photograph in &photographs {
        check(folder, photograph)?;
    }
    for kind in [Kind::Background, Kind::Occluder] {
        for test in [false, true] {
            let there = |p: &&Photograph| p.kind == kind && (p.split == Split::Test) == test;
            if !photographs.iter().any(|p| there(&p)) {
                let side = if test { "test" } else { "training" };
                return Err(unusable(format!("no {kind:?} for {side}; every split needs its own").to_lowercase()));
            }
        }
    }
    for split in [Split::Train, Split::Test] {
        if !photographs.iter().any(|p| p.split == split && p.shows_animal()) {
            return Err(unusable(format!("no animal in the {split:?} split").to_lowercase()));
        }
    }
    Ok(photographs)
}

fn check(folder: &Path, photograph: &Photograph) -> Result<()> {
    let path = folder.join(&photograph.file);
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    if hex::encode(Sha256::digest(&bytes)) != photograph.sha256 {
        return Err(Error::Training(format!(
            "{} is not the file that {LABELS_FILE} names; fetch it again or correct its sha256",
            path.display()
        )));
    }
    if photograph.shows_animal() && photograph.names().is_empty() {
        return Err(Error::Training(format!("{} has no lineage in {LABELS_FILE}", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(change: impl Fn(&str) -> String) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let sha256 = hex::encode(Sha256::digest(b"x"));
        let mut list = "file,sha256,kind,split,lineage,licence,author,origin,package,member\n".to_owned();
        for (kind, split) in [
            ("photo", "train"),
            ("cutout", "train"),
            ("photo", "test"),
            ("background", "train"),
            ("background", "test"),
            ("occluder", "train"),
            ("occluder", "test"),
        ] {
            let file = format!("{kind}-{split}");
            std::fs::write(folder.path().join(&file), b"x").unwrap();
            list += &format!("{file},{sha256},{kind},{split},Mammalia;Carnivora,CC0-1.0,someone,,,\n");
        }
        std::fs::write(folder.path().join(LABELS_FILE), change(&list)).unwrap();
        folder
    }

    #[test]
    fn a_good_list_is_read() {
        let folder = folder(str::to_owned);
        let photographs = read(folder.path()).unwrap();
        assert_eq!(photographs.len(), 7);
        assert_eq!(photographs[0].names(), ["Mammalia", "Carnivora"]);
    }

    #[test]
    fn a_changed_file_is_named() {
        let folder = folder(str::to_owned);
        std::fs::write(folder.path().join("photo-test"), b"y").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("photo-test"));
    }

    #[test]
    fn a_split_without_background_is_refused() {
        let folder = folder(|list| list.replace("background,test", "photo,test"));
        assert!(read(folder.path()).unwrap_err().to_string().contains("background for test"));
    }

    #[test]
    fn a_missing_list_says_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("fetch-training-photos"));
    }
}
