//! Conservation statuses: the categories of the IUCN Red List of the species that the shipped model can name.
//!
//! A category is a fact that the IUCN's assessors publish; `iucn.csv` names, for each species, the category and the year of
//! the assessment (<https://www.iucnredlist.org>). Species above which the model's vocabulary ends, such as both gorillas,
//! are listed too, so that what may be one of them is handled with care.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::collections::{Error, Result};

/// Where the categories are from.
pub const SOURCE: &str = "IUCN Red List of Threatened Species";

const TABLE: &str = include_str!("iucn.csv");

/// A category of the IUCN Red List (version 3.1 of its categories and criteria).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum Status {
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
}

/// A species of the Red List.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The species.
    pub scientific_name: String,
    /// The narrowest name above it that the vocabulary has.
    pub within: String,
    /// Its category.
    pub status: Status,
    /// The year of the assessment.
    pub year: u16,
}

impl Status {
    /// Whether the IUCN calls it threatened: vulnerable, endangered, critically endangered.
    pub fn is_threatened(self) -> bool {
        matches!(self, Self::Vulnerable | Self::Endangered | Self::CriticallyEndangered)
    }

    fn read(code: &str) -> Option<Self> {
        Some(match code {
            "DD" => Self::DataDeficient,
            "LC" => Self::LeastConcern,
            "NT" => Self::NearThreatened,
            "VU" => Self::Vulnerable,
            "EN" => Self::Endangered,
            "CR" => Self::CriticallyEndangered,
            _ => return None,
        })
    }
}

/// All rows of the table.
pub(super) fn table() -> Result<Vec<Listed>> {
    let rows = TABLE.lines().enumerate().skip(1).filter(|(_, row)| !row.is_empty());
    rows.map(|(index, row)| read(row).map_err(|reason| Error::Statuses { line: index + 1, reason })).collect()
}

fn read(row: &str) -> std::result::Result<Listed, String> {
    let cells: Vec<&str> = row.split(',').collect();
    let [scientific_name, within, status, year] = cells[..] else {
        return Err(format!("it has {} cells in the place of 4", cells.len()));
    };
    let status = Status::read(status).ok_or_else(|| format!("`{status}` is no category"))?;
    let year = year.parse().map_err(|_| format!("`{year}` is no year"))?;
    Ok(Listed { scientific_name: scientific_name.to_owned(), within: within.to_owned(), status, year })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_names_each_species_once_and_within_the_vocabulary() {
        let taxonomy = detector::model::taxonomy(&detector::model::locate(None).unwrap()).unwrap();
        let table = table().unwrap();
        let mut seen = HashSet::new();
        for listed in &table {
            assert!(seen.insert(&listed.scientific_name), "{} is there twice", listed.scientific_name);
            let lineage = taxonomy.lineage_of(&listed.within);
            assert!(lineage.is_some(), "{} lies within an unknown name", listed.scientific_name);
            assert!((1996..=2026).contains(&listed.year), "{listed:?}");
            if let Some(own) = taxonomy.lineage_of(&listed.scientific_name) {
                assert!(own.contains(&listed.within), "{listed:?}");
            }
        }
    }

    #[test]
    fn broken_rows_are_told() {
        for bad in ["a,b,LC", "a,b,XX,2020", "a,b,LC,soon", "a,b,LC,2020,x"] {
            read(bad).unwrap_err();
        }
    }
}
