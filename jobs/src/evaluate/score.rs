//! How well sequences were named: accuracy, coverage, and precision, recall and F1 of each label.

use detector::taxonomy::Taxonomy;

use crate::labelled::Label;

/// What a model said of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing is there.
    Blank,
    /// A person.
    Person,
    /// A vehicle.
    Vehicle,
    /// An animal.
    Animal {
        /// Index of the likeliest taxon.
        likeliest: usize,
        /// Ranks of the name that was given, from class down; 0 for no more than "an animal".
        depth: usize,
    },
    /// No medium could be read.
    Nothing,
}

/// Scores of a model on labelled sequences.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scores {
    /// Sequences.
    pub(super) count: usize,
    /// Share that was named as labelled.
    pub(super) accuracy: f64,
    /// Mean of the labels' F1.
    pub(super) macro_f1: f64,
    /// Share that was named as exactly as it is labelled, right or wrong.
    pub(super) coverage: f64,
    /// By label, in their order.
    pub(super) labels: Vec<LabelScores>,
}

/// Scores of one label.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LabelScores {
    pub(super) label: Label,
    /// Sequences that have it.
    pub(super) support: usize,
    /// Share of these that was named as exactly.
    pub(super) coverage: f64,
    /// Of the sequences that were given it, the share that has it; 0 when none was.
    pub(super) precision: f64,
    /// Of the sequences that have it, the share that was given it.
    pub(super) recall: f64,
    /// Harmonic mean of both; 0 when both are.
    pub(super) f1: f64,
}

/// Scores what was said of sequences beside their labels.
pub(super) fn score(answers: &[(Label, Said)], taxonomy: &Taxonomy) -> Scores {
    let mut labels: Vec<Label> = answers.iter().map(|(label, _)| label.clone()).collect();
    labels.sort();
    labels.dedup();
    let known = Known::new(&labels, taxonomy);
    let mut counts = vec![Count::default(); labels.len()];
    for (label, said) in answers {
        let Ok(truth) = labels.binary_search(label) else { continue };
        counts[truth].support += 1;
        counts[truth].covered += usize::from(known.covers(truth, *said));
        if let Some(named) = known.named(truth, *said) {
            counts[named].named += 1;
            counts[truth].right += usize::from(named == truth);
        }
    }
    let total = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>();
    let (count, right, covered) = (answers.len(), total(|count| count.right), total(|count| count.covered));
    let labels: Vec<LabelScores> = labels.iter().zip(&counts).map(|(label, count)| count.scores(label)).collect();
    let f1: f64 = labels.iter().map(|label| label.f1).sum();
    Scores {
        count,
        accuracy: share(right, count),
        macro_f1: if labels.is_empty() { 0.0 } else { f1 / labels.len() as f64 },
        coverage: share(covered, count),
        labels,
    }
}

#[derive(Debug, Clone, Default)]
struct Count {
    support: usize,
    named: usize,
    right: usize,
    covered: usize,
}

impl Count {
    fn scores(&self, label: &Label) -> LabelScores {
        let (precision, recall) = (share(self.right, self.named), share(self.right, self.support));
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        let coverage = share(self.covered, self.support);
        LabelScores { label: label.clone(), support: self.support, coverage, precision, recall, f1 }
    }
}

fn share(part: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// The labels of a set in the vocabulary of a model.
struct Known<'a> {
    labels: &'a [Label],
    /// Taxa that agree with each label.
    taxa: Vec<Vec<usize>>,
    /// Ranks of each label that the vocabulary knows.
    depths: Vec<usize>,
}

impl<'a> Known<'a> {
    fn new(labels: &'a [Label], taxonomy: &Taxonomy) -> Self {
        let taxa = labels.iter().map(|label| taxonomy.compatible(label.lineage())).collect();
        let depths = labels.iter().map(|label| known_depth(label.lineage(), taxonomy)).collect();
        Self { labels, taxa, depths }
    }

    /// The label that an answer comes to: the true one if it agrees, else the deepest that does; none if it is none.
    fn named(&self, truth: usize, said: Said) -> Option<usize> {
        let is = |label: Label| self.labels.iter().position(|other| *other == label);
        match said {
            Said::Nothing => None,
            Said::Blank => is(Label::Blank),
            Said::Person => is(Label::Person),
            Said::Vehicle => is(Label::Vehicle),
            Said::Animal { likeliest, .. } => {
                let agrees = |label: usize| self.taxa[label].contains(&likeliest);
                if agrees(truth) {
                    return Some(truth);
                }
                (0..self.labels.len()).filter(|&label| agrees(label)).max_by_key(|&label| self.depths[label])
            }
        }
    }

    fn covers(&self, truth: usize, said: Said) -> bool {
        match (said, &self.labels[truth]) {
            (Said::Nothing, _) | (Said::Blank, Label::Animal(_)) => false,
            (Said::Animal { depth, .. }, Label::Animal(_)) => depth >= self.depths[truth],
            _ => true,
        }
    }
}

fn known_depth(lineage: &[String], taxonomy: &Taxonomy) -> usize {
    let is_known = |depth: &usize| taxonomy.taxa().iter().any(|taxon| taxon.lineage.contains(&lineage[depth - 1]));
    (1..=lineage.len()).rev().find(is_known).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use detector::taxonomy::{FusionOptions, Rank, Taxon};

    use super::*;

    fn animal(names: &[&str]) -> Label {
        Label::Animal(names.iter().map(|&name| name.to_owned()).collect())
    }

    fn taxonomy() -> Taxonomy {
        let taxon = |lineage: &[&str]| Taxon {
            common_name: lineage.join(" "),
            scientific_name: lineage.last().map(|&name| name.to_owned()).unwrap_or_default(),
            rank: Rank::ALL[lineage.len() - 1],
            lineage: lineage.iter().map(|&name| name.to_owned()).collect(),
            imagenet: vec![0],
            coco: None,
        };
        let taxa = vec![taxon(&["M", "C", "cat"]), taxon(&["M", "C", "dog"]), taxon(&["M", "A", "cow"])];
        Taxonomy::new(taxa, HashMap::new(), HashMap::new(), FusionOptions::default())
    }

    fn said(likeliest: usize) -> Said {
        Said::Animal { likeliest, depth: 3 }
    }

    fn near(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() < 1e-12
    }

    /// The numbers are those of scikit-learn's `classification_report` with `labels=[blank, cat, dog]`, zero_division=0, for
    /// y_true = cat cat cat dog dog blank and y_pred = cat dog blank dog cow blank.
    #[test]
    fn the_scores_are_the_usual_ones() {
        let (cat, dog) = (animal(&["M", "C", "cat"]), animal(&["M", "C", "dog"]));
        let answers = [
            (cat.clone(), said(0)),
            (cat.clone(), said(1)),
            (cat.clone(), Said::Blank),
            (dog.clone(), said(1)),
            (dog.clone(), said(2)),
            (Label::Blank, Said::Blank),
        ];
        let scores = score(&answers, &taxonomy());
        let of = |label: &Label| scores.labels.iter().find(|scores| scores.label == *label).cloned();
        let numbers = |label: &Label| of(label).map(|s| [s.precision, s.recall, s.f1]).unwrap_or_default();
        for (label, wanted) in
            [(&Label::Blank, [0.5, 1.0, 2.0 / 3.0]), (&cat, [1.0, 1.0 / 3.0, 0.5]), (&dog, [0.5, 0.5, 0.5])]
        {
            let found = numbers(label);
            assert!(found.iter().zip(wanted).all(|(found, wanted)| near(*found, wanted)), "{label:?}: {found:?}");
        }
        assert!(near(scores.accuracy, 0.5), "{scores:?}");
        assert!(near(scores.macro_f1, (2.0 / 3.0 + 0.5 + 0.5) / 3.0), "{scores:?}");
        assert!(near(scores.coverage, 5.0 / 6.0), "a cat was taken for nothing: {scores:?}");
    }

    #[test]
    fn a_label_above_species_is_met_by_all_below_it() {
        let (carnivore, cat) = (animal(&["M", "C"]), animal(&["M", "C", "cat"]));
        let scores = score(&[(carnivore.clone(), said(0)), (cat, said(0)), (carnivore, said(1))], &taxonomy());
        assert!(near(scores.accuracy, 1.0), "{scores:?}");
    }

    #[test]
    fn a_wider_name_than_the_label_is_not_covered() {
        let cat = animal(&["M", "C", "cat"]);
        let wide = Said::Animal { likeliest: 0, depth: 2 };
        let scores = score(&[(cat.clone(), wide), (cat, said(0))], &taxonomy());
        assert!(near(scores.coverage, 0.5) && near(scores.accuracy, 1.0), "{scores:?}");
        // Below what the model knows, its deepest name is exact enough.
        let tabby = animal(&["M", "C", "cat", "tabby"]);
        assert!(near(score(&[(tabby, said(0))], &taxonomy()).coverage, 1.0));
    }

    #[test]
    fn what_cannot_be_read_is_wrong() {
        let scores = score(&[(animal(&["M"]), Said::Nothing)], &taxonomy());
        assert_eq!((scores.accuracy, scores.coverage, scores.macro_f1), (0.0, 0.0, 0.0));
        assert_eq!(score(&[], &taxonomy()).macro_f1, 0.0);
    }
}
