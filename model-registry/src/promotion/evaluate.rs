//! Evaluates the gates that the server cannot: those on SQL and on a smoke inference.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::gates::{Check, Gate, Gates};
use super::request::{GateKind, GateResult, Measure, Required};
use super::{BoundSql, Compare};
use crate::VersionNumber;

/// What is to be promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The registered model.
    pub model: String,
    /// The alias that is to be moved.
    pub alias: String,
    /// The version that it is to name.
    pub challenger: VersionNumber,
    /// The version that it names now.
    pub champion: Option<VersionNumber>,
}

/// What can ask the tables and run the model.
#[async_trait]
pub trait GateRunner: Send + Sync {
    /// Asks the tables.
    ///
    /// # Errors
    /// Why there is no row of the columns that a gate reads, in words.
    async fn query(&self, sql: &BoundSql) -> Result<GateRow, String>;

    /// Runs the challenger on its input example.
    ///
    /// # Errors
    /// What went wrong, in words.
    async fn smoke(&self, candidate: &Candidate) -> Result<(), String>;
}

/// The row that the SQL of a gate gives: columns `found` and `wanted`, or `passed`. NULL is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GateRow {
    /// What the challenger has.
    pub found: Option<f64>,
    /// What it must have.
    pub wanted: Option<f64>,
    /// The verdict, in the place of a comparison.
    pub passed: Option<bool>,
}

/// What the caller found, and what the server must look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// Of the gates on SQL and smoke inferences, in the order of the file.
    pub results: Vec<GateResult>,
    /// The others, in that order too.
    pub required: Vec<Required>,
}

impl Evaluated {
    /// Whether all gates that were evaluated let the version pass.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|result| result.passed)
    }
}

impl Gates {
    /// Evaluates the gates one after the other. One that cannot be evaluated refuses, and says why.
    pub async fn evaluate(&self, candidate: &Candidate, runner: &dyn GateRunner) -> Evaluated {
        let mut evaluated = Evaluated::default();
        for gate in &self.list {
            match &gate.check {
                Check::Sql { query, compare } => {
                    let result = match query.bind(candidate) {
                        Some(sql) => judge(gate, *compare, runner.query(&sql).await),
                        None => GateResult { passed: true, ..note(gate, GateKind::Sql, "there is no champion yet") },
                    };
                    evaluated.results.push(result);
                }
                Check::Smoke => {
                    let result = match runner.smoke(candidate).await {
                        Ok(()) => GateResult { passed: true, note: None, ..note(gate, GateKind::Smoke, "") },
                        Err(reason) => note(gate, GateKind::Smoke, &reason),
                    };
                    evaluated.results.push(result);
                }
                Check::Tags(tags) => {
                    let (name, approvals) = (gate.name.clone(), BTreeMap::new());
                    evaluated.required.push(Required { name, tags: tags.clone(), approvals });
                }
                Check::Approvals(approvals) => {
                    let (name, tags) = (gate.name.clone(), BTreeMap::new());
                    evaluated.required.push(Required { name, tags, approvals: approvals.clone() });
                }
            }
        }
        evaluated
    }
}

fn judge(gate: &Gate, compare: Compare, row: Result<GateRow, String>) -> GateResult {
    let row = match row {
        Ok(row) => row,
        Err(reason) => return note(gate, GateKind::Sql, &reason),
    };
    let (found, wanted) = (row.found.map(Measure::Number), row.wanted.map(Measure::Number));
    let result = |passed, note| GateResult {
        name: gate.name.clone(),
        kind: GateKind::Sql,
        wanted: wanted.clone(),
        found: found.clone(),
        passed,
        note,
    };
    match (row.passed, row.found, row.wanted) {
        (Some(passed), _, _) => result(passed, None),
        (None, Some(found), Some(wanted)) => result(compare.holds(found, wanted), None),
        _ => {
            result(false, Some("the row has no numbers to compare; are there evaluations of both versions".to_owned()))
        }
    }
}

/// A gate that refuses, with a word.
fn note(gate: &Gate, kind: GateKind, note: &str) -> GateResult {
    let note = Some(note.to_owned());
    GateResult { name: gate.name.clone(), kind, wanted: None, found: None, passed: false, note }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Tables(Result<GateRow, String>);

    #[async_trait]
    impl GateRunner for Tables {
        async fn query(&self, _: &BoundSql) -> Result<GateRow, String> {
            self.0.clone()
        }

        async fn smoke(&self, _: &Candidate) -> Result<(), String> {
            Err("no input example".to_owned())
        }
    }

    const FILE: &str = "
gates:
  - {name: macro F1, sql: 'SELECT {{ challenger }} AS found, {{ champion }} AS wanted'}
  - {name: runs, smoke: true}
  - {name: card, tags: {reviewed: 'true'}}
  - {name: people, approvals: {scientist: 2}}
";

    fn candidate(champion: Option<i64>) -> Candidate {
        Candidate {
            model: "owl".to_owned(),
            alias: "champion".to_owned(),
            challenger: VersionNumber(2),
            champion: champion.map(VersionNumber),
        }
    }

    #[tokio::test]
    async fn refusals_have_their_numbers_and_the_server_gets_the_rest() {
        let gates = Gates::parse("gates.yaml", FILE).unwrap();
        let tables = Tables(Ok(GateRow { found: Some(0.81), wanted: Some(0.84), passed: None }));
        let evaluated = gates.evaluate(&candidate(Some(1)), &tables).await;
        assert_eq!(evaluated.results[0].to_string(), "gate `macro F1` found 0.81, wanted 0.84");
        assert_eq!(evaluated.results[1].to_string(), "gate `runs` refused (no input example)");
        assert!(!evaluated.passed());
        let [card, people] = evaluated.required.as_slice() else { panic!("{:?}", evaluated.required) };
        assert_eq!((card.name.as_str(), card.tags["reviewed"].as_str()), ("card", "true"));
        assert_eq!((people.name.as_str(), people.approvals["scientist"]), ("people", 2));
    }

    #[tokio::test]
    async fn a_first_version_needs_no_champion_and_a_row_without_numbers_refuses() {
        let gates = Gates::parse("gates.yaml", FILE).unwrap();
        let nothing = Tables(Ok(GateRow::default()));
        assert!(gates.evaluate(&candidate(None), &nothing).await.results[0].passed);
        assert!(!gates.evaluate(&candidate(Some(1)), &nothing).await.results[0].passed);
        let nan = Tables(Ok(GateRow { found: Some(f64::NAN), wanted: Some(0.1), passed: None }));
        assert!(!gates.evaluate(&candidate(Some(1)), &nan).await.results[0].passed);
        let broken = Tables(Err("no table `evaluation`".to_owned()));
        assert!(!gates.evaluate(&candidate(Some(1)), &broken).await.results[0].passed);
    }
}
