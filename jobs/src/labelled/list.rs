//! Labels that a list has: a CSV file, or rows of a query to the tables.

use std::path::{Component, Path};

use serde::Deserialize;

use super::Kind;
use crate::{Error, Result};

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Line {
    /// Key below the source, or URI.
    #[serde(alias = "uri")]
    pub(super) file: String,
    /// What it shows; `lineage` is the name of the column in lists of photographs to train from.
    #[serde(default, alias = "lineage")]
    pub(super) label: Option<String>,
    /// `train` or `test`.
    #[serde(default)]
    pub(super) split: Option<String>,
    /// What it is used for.
    #[serde(default)]
    pub(super) kind: Option<String>,
}

/// Reads a list; `name` is for messages.
pub(super) fn read_csv(name: &str, bytes: &[u8]) -> Result<Vec<Line>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let lines = reader.deserialize().collect::<std::result::Result<Vec<Line>, _>>();
    lines.map_err(|error| Error::Labels(format!("{name}: {error}; it needs the columns `file` and `label`")))
}

impl Line {
    /// The part of the set that it says it belongs to.
    pub(super) fn split(&self) -> Result<Option<detector::train::photographs::Split>> {
        use detector::train::photographs::Split;
        match self.split.as_deref() {
            None | Some("") => Ok(None),
            Some("train") => Ok(Some(Split::Train)),
            Some("test") => Ok(Some(Split::Test)),
            Some(other) => Err(Error::Labels(format!("{}: split `{other}` must be train or test", self.file))),
        }
    }

    /// What it is used for.
    pub(super) fn kind(&self) -> Result<Kind> {
        match self.kind.as_deref() {
            None | Some("" | "photo") => Ok(Kind::Photo),
            Some("cutout") => Ok(Kind::Cutout),
            Some("background") => Ok(Kind::Background),
            Some("occluder") => Ok(Kind::Occluder),
            Some(other) => Err(Error::Labels(format!(
                "{}: kind `{other}` must be photo, cutout, background or occluder",
                self.file
            ))),
        }
    }

    /// The key below `source`, which may be the beginning of a URI.
    pub(super) fn key(&self, source: &str) -> Result<String> {
        let below = self.file.strip_prefix(source).map(|rest| rest.trim_start_matches('/'));
        let key = below.unwrap_or(&self.file);
        let inside = Path::new(key).components().all(|part| matches!(part, Component::Normal(_)));
        if key.is_empty() || !inside || key.contains("://") {
            return Err(Error::Labels(format!("`{}` does not lie under {source}; give paths below it", self.file)));
        }
        Ok(key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use detector::train::photographs::Split;

    use super::*;

    #[test]
    fn both_forms_of_a_list_are_read() {
        let lines = read_csv("l", b"file,label\na/b.jpg, jaguar \n").unwrap();
        assert_eq!((lines[0].label.as_deref(), lines[0].split().unwrap()), (Some("jaguar"), None));
        let text = "file,sha256,kind,split,lineage,licence\nx.png,00,cutout,test,Mammalia;Carnivora,CC0-1.0\n";
        let lines = read_csv("l", text.as_bytes()).unwrap();
        assert_eq!((lines[0].kind().unwrap(), lines[0].split().unwrap()), (Kind::Cutout, Some(Split::Test)));
        assert_eq!(lines[0].label.as_deref(), Some("Mammalia;Carnivora"));
    }

    #[test]
    fn mistakes_are_named() {
        let error = read_csv("l.csv", b"name,label\na,b\n").unwrap_err().to_string();
        assert!(error.contains("l.csv") && error.contains("`file`"), "{error}");
        let line = |text: &str| read_csv("l", text.as_bytes()).unwrap().remove(0);
        assert!(line("file,label,split\na,b,holdout\n").split().is_err());
        for file in ["../a.jpg", "/etc/passwd", "s3://other/a.jpg", ""] {
            assert!(line(&format!("file,label\n\"{file}\",b\n")).key("s3://bucket/set").is_err(), "{file}");
        }
        assert_eq!(line("file,label\ns3://bucket/set/a/b.jpg,c\n").key("s3://bucket/set").unwrap(), "a/b.jpg");
    }
}
