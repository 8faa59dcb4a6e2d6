//! The species that can be seen: the vocabulary of a model and the names above it, and their conservation statuses.

mod status;

use std::collections::{BTreeMap, HashMap, HashSet};

use detector::taxonomy::{Rank, Taxonomy};

pub use status::Status;
pub(crate) use status::Statuses;

/// A taxon by its name in URLs, such as `panthera-onca`: small letters, digits, `-` and one `.` at most.
///
/// It is made from the scientific name, and from the English name behind a point where the vocabulary has two taxa of one
/// scientific name (`anatidae.duck`, `anatidae.goose`) or one that is also above others (`equus.zebra`).
pub type SpeciesId = String;

/// One taxon.
#[derive(Clone, Debug, PartialEq)]
pub struct Species {
    /// Its name in URLs.
    pub id: SpeciesId,
    /// English name; the scientific one where there is none.
    pub common_name: String,
    /// Scientific name at `rank`.
    pub scientific_name: String,
    /// Level of the name.
    pub rank: Rank,
    /// Ids from class down to what is right above.
    pub ancestors: Vec<SpeciesId>,
    /// One of the model's vocabulary, which a collection counts; else a name above some of these.
    pub is_leaf: bool,
}

/// Taxa of a rank above species, with how many of the vocabulary lie below.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    /// The taxon.
    pub species: &'a Species,
    /// Ids of the vocabulary at or below it.
    pub leaves: &'a [SpeciesId],
}

/// All taxa that a model can name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    species: BTreeMap<SpeciesId, Species>,
    /// By the scientific name, of which the ancestor comes first.
    by_scientific: HashMap<String, Vec<SpeciesId>>,
    leaves_below: BTreeMap<SpeciesId, Vec<SpeciesId>>,
}

impl Catalogue {
    /// The vocabulary of a model.
    pub fn new(taxonomy: &Taxonomy) -> Self {
        let mut catalogue = Self::default();
        catalogue.add_names_above(taxonomy);
        catalogue.add_leaves(taxonomy);
        catalogue
    }

    /// All taxa by id.
    pub fn all(&self) -> impl Iterator<Item = &Species> {
        self.species.values()
    }

    /// Taxa whose id comes after `id`, by id.
    pub fn after(&self, id: Option<&str>) -> impl Iterator<Item = &Species> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = id.map_or(Unbounded, Excluded);
        self.species.range::<str, _>((from, Unbounded)).map(|(_, species)| species)
    }

    /// The taxon with this id.
    pub fn get(&self, id: &str) -> Option<&Species> {
        self.species.get(id)
    }

    /// The taxon that a model names so.
    pub fn named(&self, scientific_name: &str, common_name: Option<&str>) -> Option<&Species> {
        let found = self.by_scientific.get(scientific_name)?;
        // One of the vocabulary before a name above it that is called the same in English, too.
        let exact = || found.iter().rev().filter_map(|id| self.get(id)).find(|s| Some(&*s.common_name) == common_name);
        exact().or_else(|| self.get(found.first()?))
    }

    /// How many taxa a collection can have.
    pub fn leaf_count(&self) -> usize {
        self.all().filter(|species| species.is_leaf).count()
    }

    /// All classes, orders and families, by rank and then by id.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let ranked = |rank: Rank| {
            let of_rank = self.leaves_below.iter().filter_map(|(id, leaves)| Some((self.get(id)?, leaves)));
            of_rank.filter(move |(species, _)| species.rank == rank)
        };
        let all = [Rank::Class, Rank::Order, Rank::Family].into_iter().flat_map(ranked);
        all.map(|(species, leaves)| Group { species, leaves }).collect()
    }

    /// Every name that has others below it or is that of two taxa.
    fn add_names_above(&mut self, taxonomy: &Taxonomy) {
        let mut leaves_of: HashMap<&str, usize> = HashMap::new();
        let mut above: HashSet<&str> = HashSet::new();
        for taxon in taxonomy.taxa() {
            *leaves_of.entry(&taxon.scientific_name).or_default() += 1;
            above.extend(taxon.lineage.iter().rev().skip(1).map(String::as_str));
        }
        above.extend(leaves_of.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name));
        for taxon in taxonomy.taxa() {
            for (depth, name) in taxon.lineage.iter().enumerate() {
                let id = slug(name);
                if !above.contains(name.as_str()) || self.species.contains_key(&id) {
                    continue;
                }
                self.insert(Species {
                    id,
                    common_name: taxonomy.english(name).unwrap_or(name).to_owned(),
                    scientific_name: name.clone(),
                    rank: Rank::ALL[depth],
                    ancestors: taxon.lineage[..depth].iter().map(|name| slug(name)).collect(),
                    is_leaf: false,
                });
            }
        }
    }

    fn add_leaves(&mut self, taxonomy: &Taxonomy) {
        for taxon in taxonomy.taxa() {
            let plain = slug(&taxon.scientific_name);
            let shared = self.species.get(&plain).is_some_and(|found| !found.is_leaf);
            let id = if shared { format!("{plain}.{}", slug(&taxon.common_name)) } else { plain.clone() };
            let mut ancestors: Vec<SpeciesId> = taxon.lineage.iter().map(|name| slug(name)).collect();
            if !shared {
                ancestors.pop();
            }
            for group in taxon.lineage.iter().map(|name| slug(name)) {
                self.leaves_below.entry(group).or_default().push(id.clone());
            }
            self.insert(Species {
                id,
                common_name: taxon.common_name.clone(),
                scientific_name: taxon.scientific_name.clone(),
                rank: taxon.rank,
                ancestors,
                is_leaf: true,
            });
        }
    }

    fn insert(&mut self, species: Species) {
        self.by_scientific.entry(species.scientific_name.clone()).or_default().push(species.id.clone());
        self.species.insert(species.id.clone(), species);
    }
}

/// Small letters and digits, with `-` between words.
fn slug(name: &str) -> SpeciesId {
    let words = name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shipped() -> Catalogue {
        Catalogue::new(&detector::model::taxonomy(&detector::model::locate(None).unwrap()).unwrap())
    }

    #[test]
    fn every_taxon_of_the_model_has_a_name_of_its_own() {
        let taxonomy = detector::model::taxonomy(&detector::model::locate(None).unwrap()).unwrap();
        let catalogue = shipped();
        assert_eq!(catalogue.leaf_count(), taxonomy.taxa().len());
        for taxon in taxonomy.taxa() {
            let species = catalogue.named(&taxon.scientific_name, Some(&taxon.common_name)).unwrap();
            assert!(species.is_leaf && species.common_name == taxon.common_name, "{taxon:?}: {species:?}");
            // What a roll-up may answer is there as well.
            for name in &taxon.lineage {
                assert_eq!(&catalogue.named(name, None).unwrap().scientific_name, name);
            }
        }
        let url_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        assert!(catalogue.all().all(|species| !species.id.is_empty() && species.id.bytes().all(url_safe)));
        assert!(catalogue.all().flat_map(|species| &species.ancestors).all(|id| catalogue.get(id).is_some()));
    }

    #[test]
    fn names_that_two_taxa_share_are_told_apart() {
        let catalogue = shipped();
        let id = |scientific, common| catalogue.named(scientific, common).map(|species| species.id.as_str());
        assert_eq!(id("Panthera onca", Some("jaguar")), Some("panthera-onca"));
        assert_eq!(id("Anatidae", Some("goose")), Some("anatidae.goose"));
        assert_eq!(id("Anatidae", Some("duck, goose or swan")), Some("anatidae"));
        assert_eq!(id("Equus", Some("zebra")), Some("equus.zebra"));
        assert_eq!(id("Equus", Some("horse, ass or zebra")), Some("equus"));
        assert_eq!(id("Unicornis", None), None);
        assert_eq!(catalogue.get("equus.zebra").unwrap().ancestors, ["mammalia", "perissodactyla", "equidae", "equus"]);
        assert_eq!(catalogue.get("panthera-onca").unwrap().ancestors.last().unwrap(), "panthera");
    }

    #[test]
    fn groups_count_the_vocabulary_once() {
        let catalogue = shipped();
        let groups = catalogue.groups();
        let classes: usize =
            groups.iter().filter(|group| group.species.rank == Rank::Class).map(|group| group.leaves.len()).sum();
        assert_eq!(classes, catalogue.leaf_count());
        let felidae = groups.iter().find(|group| group.species.id == "felidae").unwrap();
        assert_eq!(felidae.leaves.len(), 9);
        let anatidae = groups.iter().find(|group| group.species.id == "anatidae").unwrap();
        assert_eq!(anatidae.leaves.len(), 4);
    }
}
