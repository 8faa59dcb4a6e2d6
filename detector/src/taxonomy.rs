//! The names a model knows: taxa and their lineage, fusing what both networks say, and rolling a split answer up.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::nms::{ANIMAL_COCO, Category};
use crate::{Error, Result};

/// Number of classes the crop embedder tells apart (ImageNet-1k).
pub const IMAGENET_CLASSES: usize = 1000;

/// Added to a probability before its logarithm, so that no single frame can rule a taxon out.
const EPSILON: f32 = 1e-4;

/// Levels of the taxonomy, widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rank {
    /// Such as Mammalia.
    Class,
    /// Such as Carnivora.
    Order,
    /// Such as Felidae.
    Family,
    /// Such as Panthera.
    Genus,
    /// Such as Panthera onca.
    Species,
}

impl Rank {
    /// All ranks, widest first.
    pub const ALL: [Self; 5] = [Self::Class, Self::Order, Self::Family, Self::Genus, Self::Species];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Order => "order",
            Self::Family => "family",
            Self::Genus => "genus",
            Self::Species => "species",
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A leaf of the vocabulary: what the networks can tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taxon {
    /// English name.
    pub common_name: String,
    /// Scientific name at `rank`.
    pub scientific_name: String,
    /// Level of the name; wider than species where the networks know no better.
    pub rank: Rank,
    /// Names from class down to `rank`; the last is `scientific_name`.
    pub lineage: Vec<String>,
    /// The embedder's classes that mean this taxon.
    pub imagenet: Vec<usize>,
    /// The detector's class that means exactly this taxon.
    pub coco: Option<usize>,
}

/// What a COCO class means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CocoGroup {
    /// The name in the COCO data set.
    pub name: String,
    /// How camera-trap people sort it; none for things that are not counted.
    pub category: Option<Category>,
    /// For animals: the clade that a detection may mean when it is not the exact species.
    pub clade: Option<String>,
}

/// How the detector's class changes the embedder's opinion.
///
/// A taxon's probability is multiplied by `1 + sum over animal classes of score * gain`. The detector has never seen
/// most species and names the nearest it knows, so its word on the clade counts a little, and counts much only for
/// what it alone knows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionOptions {
    /// Probability that stands in for the embedder's where it has no class for a taxon.
    pub unknown_probability: f32,
    /// Gain of every taxon in the class's clade.
    pub clade_gain: f32,
    /// Gain of the taxon that the class names exactly.
    pub exact_gain: f32,
    /// Gain of the taxon that the class names exactly and the embedder lacks.
    pub detector_only_gain: f32,
}

impl Default for FusionOptions {
    fn default() -> Self {
        Self { unknown_probability: 0.05, clade_gain: 4.0, exact_gain: 6.0, detector_only_gain: 30.0 }
    }
}

/// What one crop says about the species.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Logarithms of the fused probabilities over all taxa; they sum to one.
    pub log_probabilities: Vec<f32>,
    /// The embedder's probability that the crop shows any animal, 0 to 1.
    pub animal_mass: f32,
}

/// One of the likely taxa.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// English name.
    pub common_name: String,
    /// Scientific name.
    pub scientific_name: String,
    /// Probability, 0 to 1.
    pub confidence: f32,
}

/// The answer: the narrowest name that the evidence carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identification {
    /// English name; none if the evidence carries no more than "an animal".
    pub common_name: Option<String>,
    /// Scientific name at `rank`.
    pub scientific_name: Option<String>,
    /// Level of the answer.
    pub rank: Option<Rank>,
    /// Names from class down to the answer, separated by semicolons.
    pub lineage: String,
    /// Probability of the answer, 0 to 1.
    pub confidence: f32,
    /// The five likeliest taxa.
    pub top: Vec<Candidate>,
}

/// A model's vocabulary with its tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Taxonomy {
    taxa: Vec<Taxon>,
    groups: HashMap<usize, CocoGroup>,
    clade_names: HashMap<String, String>,
    fusion: FusionOptions,
    /// For each animal COCO class from 16 on: the taxa it speaks for and their gains.
    gains: Vec<Vec<(usize, f32)>>,
    /// For each taxon, the numbers of its lineage's names; names of one rank are numbered from 0.
    numbers: Vec<[Option<u32>; Rank::ALL.len()]>,
}

impl Taxonomy {
    /// Reads `labels.csv`, `coco_groups.csv` and, where it is there, `clades.csv` from a model folder.
    pub fn load(folder: &Path, fusion: FusionOptions) -> Result<Self> {
        let taxa = read_taxa(&folder.join("labels.csv"))?;
        let groups = read_groups(&folder.join("coco_groups.csv"))?;
        let clades = folder.join("clades.csv");
        let clade_names = if clades.exists() { read_clades(&clades)? } else { HashMap::new() };
        Ok(Self::new(taxa, groups, clade_names, fusion))
    }

    /// From its parts; `clade_names` gives English names for names above the taxa.
    pub fn new(
        taxa: Vec<Taxon>,
        groups: HashMap<usize, CocoGroup>,
        clade_names: HashMap<String, String>,
        fusion: FusionOptions,
    ) -> Self {
        let gains = ANIMAL_COCO.map(|coco| class_gains(&taxa, groups.get(&coco), coco, &fusion)).collect();
        let numbers = number_names(&taxa);
        Self { taxa, groups, clade_names, fusion, gains, numbers }
    }

    /// All taxa; a taxon's place is its index in probabilities.
    pub fn taxa(&self) -> &[Taxon] {
        &self.taxa
    }

    /// What a COCO class means.
    pub fn group(&self, coco: usize) -> Option<&CocoGroup> {
        self.groups.get(&coco)
    }

    /// Indices of the taxa at or below the name `clade`, and those it lies below.
    ///
    /// The second matters for labels that are narrower than the vocabulary: a striped hyena is known as a hyena.
    pub fn compatible(&self, lineage: &[String]) -> Vec<usize> {
        (1..=lineage.len())
            .rev()
            .map(|depth| {
                let name = &lineage[depth - 1];
                (0..self.taxa.len()).filter(|&t| self.taxa[t].lineage.contains(name)).collect::<Vec<_>>()
            })
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    /// Names from class down to `name`, which is the scientific or English name of a taxon or of something above taxa; upper
    /// and lower case are the same.
    pub fn lineage_of(&self, name: &str) -> Option<Vec<String>> {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        let up_to = |scientific: &str| {
            self.taxa.iter().find_map(|taxon| {
                let depth = taxon.lineage.iter().position(|above| above.eq_ignore_ascii_case(scientific))?;
                Some(taxon.lineage[..=depth].to_vec())
            })
        };
        let of_taxon = || self.taxa.iter().find(|taxon| is(&taxon.common_name)).map(|taxon| taxon.lineage.clone());
        let of_clade = || self.clade_names.iter().find(|(_, english)| is(english)).and_then(|(clade, _)| up_to(clade));
        up_to(name).or_else(of_taxon).or_else(of_clade)
    }

    /// The English name of a taxon or of something above taxa.
    pub fn english(&self, scientific_name: &str) -> Option<&str> {
        // A taxon may have the name of an ancestor of others, and then its own English name is too narrow.
        let above = self.clade_names.get(scientific_name).map(String::as_str);
        let taxon = || self.taxa.iter().find(|taxon| taxon.scientific_name == scientific_name);
        above.or_else(|| taxon().map(|taxon| taxon.common_name.as_str()))
    }

    /// All names that [`Taxonomy::lineage_of`] knows.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let taxa = self.taxa.iter();
        let of_taxa = taxa.flat_map(|taxon| {
            let above = taxon.lineage.iter().map(String::as_str);
            above.chain([taxon.common_name.as_str()])
        });
        of_taxa.chain(self.clade_names.values().map(String::as_str))
    }

    /// Joins the embedder's probabilities (ImageNet-1k) with the detector's animal scores (COCO 16 to 25).
    pub fn fuse(&self, embedder: &[f32], animal_scores: &[f32; 10]) -> Evidence {
        let mut animal_mass = 0.0;
        let mut fused: Vec<f32> = self
            .taxa
            .iter()
            .map(|taxon| {
                if taxon.imagenet.is_empty() {
                    return self.fusion.unknown_probability;
                }
                let probability: f32 = taxon.imagenet.iter().map(|&class| embedder[class]).sum();
                animal_mass += probability;
                probability
            })
            .collect();
        let mut gain = vec![1.0_f32; self.taxa.len()];
        for (gains, score) in self.gains.iter().zip(animal_scores) {
            for &(taxon, value) in gains {
                gain[taxon] += score * value;
            }
        }
        for (probability, gain) in fused.iter_mut().zip(gain) {
            *probability = *probability * gain + EPSILON;
        }
        let total: f32 = fused.iter().sum();
        let log_probabilities = fused.into_iter().map(|p| (p / total).ln()).collect();
        Evidence { log_probabilities, animal_mass: animal_mass.clamp(0.0, 1.0) }
    }

    /// The narrowest name whose taxa together have at least `threshold` of the probability.
    ///
    /// Two species of one genus that share the probability give the genus, two families of one order the order, and
    /// so on up; below the threshold even for a class, the answer is no more than "an animal".
    pub fn roll_up(&self, probabilities: &[f32], threshold: f32) -> Identification {
        let mut answer: Option<(usize, usize, f32)> = None;
        for depth in 0..Rank::ALL.len() {
            let above = answer.map(|(index, depth, _)| (index, depth));
            let Some((index, mass)) = self.heaviest_at(depth, probabilities, above) else { break };
            if mass < threshold {
                break;
            }
            answer = Some((index, depth, mass));
        }
        let top = self.top(probabilities, 5);
        let answer = answer.map(|(index, depth, mass)| (&self.taxa[index], depth, mass));
        let Some((taxon, depth, confidence)) = answer else {
            return Identification {
                common_name: None,
                scientific_name: None,
                rank: None,
                lineage: String::new(),
                confidence: probabilities.iter().sum::<f32>().min(1.0),
                top,
            };
        };
        let scientific_name = taxon.lineage[depth].clone();
        Identification {
            common_name: Some(self.common_name(taxon, depth, probabilities, confidence)),
            rank: Some(Rank::ALL[depth]),
            lineage: taxon.lineage[..=depth].join(";"),
            scientific_name: Some(scientific_name),
            confidence: confidence.min(1.0),
            top,
        }
    }

    /// The `count` likeliest taxa, likeliest first.
    pub fn top(&self, probabilities: &[f32], count: usize) -> Vec<Candidate> {
        let mut order: Vec<usize> = (0..self.taxa.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]).then(a.cmp(&b)));
        order
            .into_iter()
            .take(count)
            .map(|taxon| Candidate {
                common_name: self.taxa[taxon].common_name.clone(),
                scientific_name: self.taxa[taxon].scientific_name.clone(),
                confidence: probabilities[taxon],
            })
            .collect()
    }

    /// The heaviest name at `depth` below the answer so far, which is a taxon's name at a depth. As the first taxon that has
    /// the name, and its probability.
    fn heaviest_at(&self, depth: usize, probabilities: &[f32], above: Option<(usize, usize)>) -> Option<(usize, f32)> {
        let above = above.map(|(taxon, depth)| (depth, self.numbers[taxon][depth]));
        // No rank has more names than there are taxa.
        let mut masses: Vec<Option<(usize, f32)>> = vec![None; self.taxa.len()];
        for (index, numbers) in self.numbers.iter().enumerate() {
            let Some(number) = numbers[depth] else { continue };
            if above.is_none_or(|(depth, parent)| numbers[depth] == parent) {
                masses[number as usize].get_or_insert((index, 0.0)).1 += probabilities[index];
            }
        }
        masses.into_iter().flatten().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }

    /// The English name of the answer `taxon.lineage[depth]`.
    ///
    /// A taxon may be named by an ancestor of others ("zebra" by Equus); its own English name is right only if it holds
    /// most of the answer's probability.
    fn common_name(&self, taxon: &Taxon, depth: usize, probabilities: &[f32], mass: f32) -> String {
        let name = &taxon.lineage[depth];
        let exact = (0..self.taxa.len())
            .filter(|&index| &self.taxa[index].scientific_name == name)
            .max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
        if let Some(index) = exact
            && probabilities[index] >= mass / 2.0
        {
            return self.taxa[index].common_name.clone();
        }
        self.clade_names.get(name).cloned().unwrap_or_else(|| name.clone())
    }
}

fn number_names(taxa: &[Taxon]) -> Vec<[Option<u32>; Rank::ALL.len()]> {
    let mut known: [HashMap<&str, u32>; Rank::ALL.len()] = Default::default();
    let mut all = Vec::with_capacity(taxa.len());
    for taxon in taxa {
        let mut numbers = [None; Rank::ALL.len()];
        for ((name, number), known) in taxon.lineage.iter().zip(&mut numbers).zip(&mut known) {
            let next = known.len() as u32;
            *number = Some(*known.entry(name).or_insert(next));
        }
        all.push(numbers);
    }
    all
}

fn class_gains(taxa: &[Taxon], group: Option<&CocoGroup>, coco: usize, fusion: &FusionOptions) -> Vec<(usize, f32)> {
    let clade = group.and_then(|group| group.clade.as_ref());
    taxa.iter()
        .enumerate()
        .filter_map(|(index, taxon)| {
            if taxon.coco == Some(coco) {
                let gain = if taxon.imagenet.is_empty() { fusion.detector_only_gain } else { fusion.exact_gain };
                return Some((index, gain));
            }
            clade.is_some_and(|clade| taxon.lineage.contains(clade)).then_some((index, fusion.clade_gain))
        })
        .collect()
}

#[derive(Deserialize)]
struct LabelRow {
    taxon: usize,
    common_name: String,
    scientific_name: String,
    rank: Rank,
    class: String,
    order: String,
    family: String,
    genus: String,
    imagenet: String,
    coco: String,
}

#[derive(Deserialize)]
struct GroupRow {
    coco: usize,
    name: String,
    category: String,
    clade: String,
}

#[derive(Deserialize)]
struct CladeRow {
    scientific_name: String,
    common_name: String,
}

fn read_taxa(path: &Path) -> Result<Vec<Taxon>> {
    let rows: Vec<LabelRow> = read_csv(path)?;
    rows.into_iter()
        .enumerate()
        .map(|(index, row)| {
            let bad = |reason: String| Error::ModelFolder { path: path.to_owned(), reason };
            if row.taxon != index {
                return Err(bad(format!(
                    "taxon {} stands in row {index}; the rows must be numbered from 0",
                    row.taxon
                )));
            }
            let numbers = |text: &str, limit: usize| {
                text.split_whitespace()
                    .map(|number| match number.parse::<usize>() {
                        Ok(class) if class < limit => Ok(class),
                        _ => Err(bad(format!("taxon {index}: {number} is no class index below {limit}"))),
                    })
                    .collect::<Result<Vec<usize>>>()
            };
            let imagenet = numbers(&row.imagenet, IMAGENET_CLASSES)?;
            let coco = numbers(&row.coco, crate::nms::COCO_CLASSES)?.first().copied();
            let mut lineage = vec![row.class, row.order, row.family, row.genus];
            if row.rank == Rank::Species {
                lineage.push(row.scientific_name.clone());
            }
            lineage.truncate(row.rank as usize + 1);
            if lineage.last() != Some(&row.scientific_name) || lineage.iter().any(String::is_empty) {
                return Err(bad(format!("taxon {index} ({}) lacks a name in its lineage", row.scientific_name)));
            }
            Ok(Taxon {
                common_name: row.common_name,
                scientific_name: row.scientific_name,
                rank: row.rank,
                lineage,
                imagenet,
                coco,
            })
        })
        .collect()
}

fn read_groups(path: &Path) -> Result<HashMap<usize, CocoGroup>> {
    let rows: Vec<GroupRow> = read_csv(path)?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let category = match row.category.as_str() {
                "animal" => Some(Category::Animal),
                "person" => Some(Category::Person),
                "vehicle" => Some(Category::Vehicle),
                _ => None,
            };
            let clade = (!row.clade.is_empty()).then_some(row.clade);
            (row.coco, CocoGroup { name: row.name, category, clade })
        })
        .collect())
}

fn read_clades(path: &Path) -> Result<HashMap<String, String>> {
    let rows: Vec<CladeRow> = read_csv(path)?;
    Ok(rows.into_iter().map(|row| (row.scientific_name, row.common_name)).collect())
}

fn read_csv<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let bad = |error: csv::Error| Error::ModelFolder { path: path.to_owned(), reason: error.to_string() };
    let mut reader = csv::Reader::from_path(path).map_err(bad)?;
    reader.deserialize().map(|row| row.map_err(bad)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taxon(name: &str, lineage: &[&str], imagenet: &[usize], coco: Option<usize>) -> Taxon {
        Taxon {
            common_name: name.to_owned(),
            scientific_name: (*lineage.last().unwrap_or(&"")).to_owned(),
            rank: Rank::ALL[lineage.len() - 1],
            lineage: lineage.iter().map(|&n| n.to_owned()).collect(),
            imagenet: imagenet.to_vec(),
            coco,
        }
    }

    fn small() -> Taxonomy {
        let taxa = vec![
            taxon("jaguar", &["Mammalia", "Carnivora", "Felidae", "Panthera", "Panthera onca"], &[0], None),
            taxon("leopard", &["Mammalia", "Carnivora", "Felidae", "Panthera", "Panthera pardus"], &[1], None),
            taxon("grey wolf", &["Mammalia", "Carnivora", "Canidae", "Canis", "Canis lupus"], &[2], None),
            taxon("giraffe", &["Mammalia", "Artiodactyla", "Giraffidae", "Giraffa"], &[], Some(25)),
            taxon(
                "ostrich",
                &["Aves", "Struthioniformes", "Struthionidae", "Struthio", "Struthio camelus"],
                &[3],
                None,
            ),
        ];
        let group = |name: &str, clade: &str| CocoGroup {
            name: name.to_owned(),
            category: Some(Category::Animal),
            clade: Some(clade.to_owned()),
        };
        let groups = HashMap::from([(16, group("bird", "Aves")), (25, group("giraffe", "Giraffidae"))]);
        let names = HashMap::from([("Panthera".to_owned(), "big cat".to_owned())]);
        Taxonomy::new(taxa, groups, names, FusionOptions::default())
    }

    #[test]
    fn labels_are_found_by_any_of_their_names() {
        let taxonomy = small();
        for name in ["jaguar", "Jaguar", "panthera onca"] {
            assert_eq!(taxonomy.lineage_of(name).map(|names| names.len()), Some(5), "{name}");
        }
        assert_eq!(
            taxonomy.lineage_of("big cat").map(|names| names.join(";")),
            taxonomy.lineage_of("Panthera").map(|names| names.join(";"))
        );
        assert_eq!(taxonomy.lineage_of("Mammalia"), Some(vec!["Mammalia".to_owned()]));
        assert_eq!(taxonomy.lineage_of("unicorn"), None);
        assert_eq!(
            (taxonomy.english("Panthera"), taxonomy.english("Canis lupus")),
            (Some("big cat"), Some("grey wolf"))
        );
    }

    #[test]
    fn two_species_of_a_genus_give_the_genus() {
        let answer = small().roll_up(&[0.5, 0.45, 0.03, 0.01, 0.01], 0.7);
        assert_eq!(answer.scientific_name.as_deref(), Some("Panthera"));
        assert_eq!(answer.common_name.as_deref(), Some("big cat"));
        assert_eq!(answer.rank, Some(Rank::Genus));
        assert_eq!(answer.lineage, "Mammalia;Carnivora;Felidae;Panthera");
    }

    #[test]
    fn a_clear_species_stays_a_species() {
        let answer = small().roll_up(&[0.9, 0.05, 0.03, 0.01, 0.01], 0.7);
        assert_eq!(answer.scientific_name.as_deref(), Some("Panthera onca"));
        assert_eq!(answer.rank, Some(Rank::Species));
    }

    #[test]
    fn two_families_of_an_order_give_the_order() {
        let answer = small().roll_up(&[0.3, 0.15, 0.5, 0.03, 0.02], 0.7);
        assert_eq!((answer.scientific_name.as_deref(), answer.rank), (Some("Carnivora"), Some(Rank::Order)));
    }

    #[test]
    fn evidence_split_among_classes_is_only_an_animal() {
        let answer = small().roll_up(&[0.3, 0.1, 0.1, 0.0, 0.5], 0.7);
        assert_eq!((answer.common_name, answer.rank), (None, None));
    }

    #[test]
    fn the_giraffe_is_known_to_the_detector_alone() {
        let taxonomy = small();
        let mut embedder = vec![0.0; IMAGENET_CLASSES];
        embedder[..4].copy_from_slice(&[0.03, 0.16, 0.02, 0.02]);
        let mut scores = [0.0; 10];
        scores[25 - 16] = 0.98;
        let evidence = taxonomy.fuse(&embedder, &scores);
        let probabilities: Vec<f32> = evidence.log_probabilities.iter().map(|l| l.exp()).collect();
        assert_eq!(taxonomy.roll_up(&probabilities, 0.7).common_name.as_deref(), Some("giraffe"));
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_bird_called_by_the_detector_does_not_hide_a_clear_jaguar() {
        let taxonomy = small();
        let mut embedder = vec![0.0; IMAGENET_CLASSES];
        embedder[..4].copy_from_slice(&[0.8, 0.1, 0.001, 0.001]);
        let mut scores = [0.0; 10];
        scores[0] = 0.88;
        let evidence = taxonomy.fuse(&embedder, &scores);
        let probabilities: Vec<f32> = evidence.log_probabilities.iter().map(|l| l.exp()).collect();
        assert_eq!(taxonomy.roll_up(&probabilities, 0.7).common_name.as_deref(), Some("jaguar"));
    }
}
