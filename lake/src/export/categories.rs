//! The categories of the MegaDetector format: three for boxes, and one for every name that a box was given.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::images::Detected;
use super::megadetector::rounded;

/// Ids and names of `detection_categories`, as all tools expect them.
pub(super) fn detection_categories() -> Value {
    json!({ "1": "animal", "2": "person", "3": "vehicle" })
}

/// The id of a category of the tables.
pub(super) fn detection_category(category: &str) -> Option<&'static str> {
    match category {
        "animal" => Some("1"),
        "person" => Some("2"),
        "vehicle" => Some("3"),
        _ => None,
    }
}

/// Collects names in the order in which they are met; the first is `"1"`.
#[derive(Default)]
pub(super) struct Classifications {
    ids: HashMap<String, usize>,
    taxa: Vec<Taxon>,
}

struct Taxon {
    scientific_name: String,
    common_name: Option<String>,
    /// `Mammalia;Carnivora;…`, known for names that some box was given and not for those that were only candidates.
    taxonomy: Option<String>,
}

impl Classifications {
    /// The box's own name and its candidates, likeliest first, each name once.
    ///
    /// The own name may be a genus or a family, which candidates are not; it leads when it is as likely as they are.
    pub(super) fn of(&mut self, found: &Detected) -> Vec<(String, f64)> {
        let own = found.scientific_name.as_deref().or(found.species.as_deref());
        let mut named: Vec<(String, f32)> = Vec::new();
        if let (Some(name), Some(confidence)) = (own, found.species_confidence) {
            let id = self.id(name, found.species.as_deref(), found.taxonomy.as_deref());
            named.push((id, confidence));
        }
        for candidate in &found.top5 {
            let id = self.id(&candidate.scientific_name, candidate.species.as_deref(), None);
            if !named.iter().any(|(other, _)| *other == id) {
                named.push((id, candidate.confidence));
            }
        }
        named.sort_by(|a, b| b.1.total_cmp(&a.1));
        named.into_iter().map(|(id, confidence)| (id, rounded(confidence, 4))).collect()
    }

    /// `classification_categories`: common names, scientific ones where there is no common one.
    pub(super) fn names(&self) -> Value {
        self.map(|taxon| taxon.common_name.as_ref().unwrap_or(&taxon.scientific_name).to_lowercase())
    }

    /// `classification_category_descriptions`: `<id>;class;order;family;genus;species;common name`, in lower case.
    pub(super) fn descriptions(&self) -> Value {
        self.map(description)
    }

    fn map(&self, text: impl Fn(&Taxon) -> String) -> Value {
        let entries = self.taxa.iter().enumerate().map(|(index, taxon)| ((index + 1).to_string(), text(taxon).into()));
        Value::Object(entries.collect::<Map<String, Value>>())
    }

    fn id(&mut self, name: &str, common_name: Option<&str>, taxonomy: Option<&str>) -> String {
        let index = match self.ids.get(name) {
            Some(index) => *index,
            None => {
                let index = self.taxa.len();
                self.ids.insert(name.to_owned(), index);
                let (common_name, taxonomy) = (common_name.map(str::to_owned), taxonomy.map(str::to_owned));
                self.taxa.push(Taxon { scientific_name: name.to_owned(), common_name, taxonomy });
                index
            }
        };
        let taxon = &mut self.taxa[index];
        if taxon.taxonomy.is_none() {
            taxon.taxonomy = taxonomy.map(str::to_owned);
        }
        (index + 1).to_string()
    }
}

fn description(taxon: &Taxon) -> String {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, taxon.scientific_name.as_bytes());
    let mut levels: [String; 5] = Default::default();
    match &taxon.taxonomy {
        Some(taxonomy) => {
            for (level, name) in levels.iter_mut().zip(taxonomy.split(';')) {
                *level = name.trim().to_lowercase();
            }
        }
        // Of a candidate only the name is known; two words are a species and its genus.
        None => {
            if let Some((genus, epithet)) = taxon.scientific_name.split_once(' ') {
                levels[3] = genus.to_lowercase();
                levels[4] = epithet.to_lowercase();
            }
        }
    }
    // The format writes the epithet alone.
    let genus = levels[3].clone();
    if let Some(epithet) = levels[4].strip_prefix(&genus).and_then(|rest| rest.strip_prefix(' ')) {
        levels[4] = epithet.to_owned();
    }
    let common = taxon.common_name.as_ref().unwrap_or(&taxon.scientific_name).to_lowercase();
    // A separator inside a name would shift the fields behind it.
    format!("{id};{};{}", levels.join(";"), common.replace(';', ","))
}
