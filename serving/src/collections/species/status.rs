//! Conservation statuses, as an operator's table says them. None are shipped: the IUCN's terms do not let others hand out
//! its list.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Species;
use crate::{Error, Result};

/// The first line of a table.
const HEADER: &str = "scientific_name,status,source";

/// Characters of a source.
const LONGEST_SOURCE: usize = 500;

/// A category of the IUCN Red List (version 3.1 of its categories and criteria), which many national lists use, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Status {
    /// Not evaluated.
    #[serde(rename = "NE")]
    NotEvaluated,
    /// Data deficient: not enough is known.
    #[serde(rename = "DD")]
    DataDeficient,
    /// Least concern.
    #[serde(rename = "LC")]
    LeastConcern,
    /// Near threatened.
    #[serde(rename = "NT")]
    NearThreatened,
    /// Vulnerable.
    #[serde(rename = "VU")]
    Vulnerable,
    /// Endangered.
    #[serde(rename = "EN")]
    Endangered,
    /// Critically endangered.
    #[serde(rename = "CR")]
    CriticallyEndangered,
    /// Extinct in the wild.
    #[serde(rename = "EW")]
    ExtinctInTheWild,
    /// Extinct.
    #[serde(rename = "EX")]
    Extinct,
}

/// What a table says of a species.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its category.
    pub(crate) status: Status,
    /// Who says so, in the table's words.
    pub(crate) source: String,
}

/// A table of statuses by scientific name; empty where the operator gives none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statuses {
    listed: HashMap<String, Listed>,
}

impl Status {
    /// Every category.
    const ALL: [(&'static str, Self); 9] = [
        ("NE", Self::NotEvaluated),
        ("DD", Self::DataDeficient),
        ("LC", Self::LeastConcern),
        ("NT", Self::NearThreatened),
        ("VU", Self::Vulnerable),
        ("EN", Self::Endangered),
        ("CR", Self::CriticallyEndangered),
        ("EW", Self::ExtinctInTheWild),
        ("EX", Self::Extinct),
    ];

    /// Whether it says that a species is not threatened. What nobody knows may be.
    fn is_safe(self) -> bool {
        matches!(self, Self::LeastConcern | Self::NearThreatened)
    }

    fn read(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == code).map(|(_, status)| status)
    }
}

impl Statuses {
    /// The table in a file.
    ///
    /// # Errors
    /// [`Error::Setup`]: what is wrong with which line, and what to do.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let refused = |reason: String| Error::Setup(format!("collections.statuses: {}: {reason}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        Self::parse(&text).map_err(refused)
    }

    /// What is known of a taxon.
    pub(crate) fn of(&self, species: &Species) -> Option<&Listed> {
        self.listed.get(&species.scientific_name)
    }

    /// Whether places and times are blurred for other people: all but those that the table calls safe.
    pub(crate) fn blurs(&self, species: &Species) -> bool {
        !self.of(species).is_some_and(|listed| listed.status.is_safe())
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end()));
        match lines.next() {
            Some((_, HEADER)) => {}
            _ => return Err(format!("line 1: it must be `{HEADER}`")),
        }
        let mut listed = HashMap::new();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let (name, found) = read(line).map_err(|reason| format!("line {number}: {reason}"))?;
            if listed.insert(name.clone(), found).is_some() {
                return Err(format!("line {number}: {name} is there twice; keep one of both lines"));
            }
        }
        Ok(Self { listed })
    }
}

/// The source is all that is behind the second comma.
fn read(line: &str) -> std::result::Result<(String, Listed), String> {
    let mut cells = line.splitn(3, ',').map(str::trim);
    let (Some(name), Some(code), Some(source)) = (cells.next(), cells.next(), cells.next()) else {
        return Err(format!("it has fewer than three cells; write it as `{HEADER}`"));
    };
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|one| one.is_alphabetic() || " .-×'".contains(one));
    if !is_name(name) {
        return Err(format!("`{name}` is no scientific name"));
    }
    let status = Status::read(code).ok_or_else(|| {
        let codes: Vec<&str> = Status::ALL.iter().map(|(code, _)| *code).collect();
        format!("`{code}` is no category; give one of {}", codes.join(", "))
    })?;
    // A quoted cell is what spreadsheets write when there is a comma in it.
    let source =
        source.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(source).replace("\"\"", "\"");
    if source.is_empty() || source.chars().count() > LONGEST_SOURCE || source.chars().any(char::is_control) {
        return Err(format!("say in 1 to {LONGEST_SOURCE} characters who says so, with the year"));
    }
    Ok((name.to_owned(), Listed { status, source }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(rows: &str) -> std::result::Result<Statuses, String> {
        Statuses::parse(&format!("{HEADER}\n{rows}"))
    }

    #[test]
    fn a_table_is_read() {
        let statuses = table("Vulpes vulpes,LC,\"A list, 2020\"\r\n\nPanthera tigris, EN ,Another").unwrap();
        assert_eq!(statuses.listed["Vulpes vulpes"].source, "A list, 2020");
        assert_eq!(statuses.listed["Panthera tigris"].status, Status::Endangered);
        assert!(table("").unwrap().listed.is_empty());
    }

    #[test]
    fn a_broken_line_is_named() {
        for (rows, words) in [
            ("Vulpes vulpes,LC", "line 2: it has fewer than three cells"),
            ("Vulpes vulpes,LC,a\nVulpes vulpes,VU,a", "line 3: Vulpes vulpes is there twice"),
            ("Vulpes vulpes,lc,a", "line 2: `lc` is no category; give one of NE, DD, LC"),
            (",LC,a", "line 2: `` is no scientific name"),
            ("Vulpes vulpes,LC,", "line 2: say in 1 to 500 characters who says so"),
        ] {
            let said = table(rows).unwrap_err();
            assert!(said.starts_with(words), "{said}");
        }
        assert!(Statuses::parse("name,status\n").unwrap_err().starts_with("line 1"));
    }

    #[test]
    fn only_what_is_called_safe_is_not_blurred() {
        let safe: Vec<Status> = Status::ALL.into_iter().map(|(_, status)| status).filter(|one| one.is_safe()).collect();
        assert_eq!(safe, [Status::LeastConcern, Status::NearThreatened]);
    }
}
