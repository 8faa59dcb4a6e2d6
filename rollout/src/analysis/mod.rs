//! What two versions did in the same time, and whether the new one is good enough.

mod drift;
mod histogram;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::Limits;

pub use drift::{Drift, drift};
pub use histogram::Histogram;
pub use window::{Counters, Window};

/// What a version did in some time, at all replicas together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Requests by how they ended. What callers did wrong, such as a file that is no picture, is in none of them.
    pub answers: u64,
    /// Those of `answers` that the version failed on, or was too slow or too busy for.
    pub failures: u64,
    /// Seconds of all answers.
    pub seconds: Histogram,
    /// Scores by what they are of, such as `box` and `name`.
    pub scores: BTreeMap<String, Histogram>,
}

/// The two versions of a rollout, in the same time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Both {
    /// The one that is to be replaced.
    pub stable: Samples,
    /// The one that is to replace it.
    pub candidate: Samples,
}

/// What is said of the candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It keeps to all limits.
    Good,
    /// There is too little to judge by; what is lacking.
    Short(String),
    /// It breaks a limit; which, with the numbers.
    Bad(String),
}

/// Judges. `with_stable` is false where the stable version gets no requests any more, so that nothing can be compared with
/// it.
pub fn judge(limits: &Limits, both: &Both, with_stable: bool) -> Verdict {
    let Both { stable, candidate } = both;
    if let Some(most) = limits.max_error_rate {
        // Few answers count as `min_answers`: what fails too often for these needs no waiting for the others.
        let of = candidate.answers.max(limits.min_answers);
        if candidate.failures as f64 > most * of as f64 {
            return Verdict::Bad(format!(
                "{} of {} answers of the candidate failed, allowed are {most} of them (max_error_rate)",
                candidate.failures, candidate.answers
            ));
        }
    }
    if candidate.answers < limits.min_answers {
        return Verdict::Short(format!("{} of {} answers of the candidate", candidate.answers, limits.min_answers));
    }
    if let Some(most) = limits.max_p99
        && let Some(found) = candidate.seconds.quantile(0.99)
        && found > most.as_secs_f64()
    {
        let found = Duration::from_secs_f64(found.min(1e9)).as_millis();
        let most = humantime::format_duration(most);
        return Verdict::Bad(format!(
            "99 of 100 answers of the candidate took up to {found}ms, allowed are {most} (max_p99)"
        ));
    }
    match limits.max_drift {
        Some(most) if with_stable => judge_drift(most, stable, candidate),
        _ => Verdict::Good,
    }
}

fn judge_drift(most: f64, stable: &Samples, candidate: &Samples) -> Verdict {
    let mut short = None;
    let nothing = Histogram::default();
    for (of, scores) in &candidate.scores {
        let before = stable.scores.get(of).unwrap_or(&nothing);
        match drift(before, scores) {
            Drift { index, noise } if noise > most => {
                let (stable, candidate) = (before.total(), scores.total());
                short = Some(format!(
                    "{candidate} scores of the candidate and {stable} of the stable version, whose chance is {noise:.2} of drift ({index:.2} found)"
                ));
            }
            Drift { index, .. } if index > most => {
                return Verdict::Bad(format!(
                    "the {of} scores of the candidate are another distribution than those of the stable version: population stability index {index:.2}, allowed is {most} (max_drift)"
                ));
            }
            _ => {}
        }
    }
    if candidate.scores.is_empty() {
        short = Some("no scores of the candidate".to_owned());
    }
    short.map_or(Verdict::Good, Verdict::Short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(answers: u64, failures: u64, scores: &[u64]) -> Samples {
        let seconds = Histogram::of(&[0.1, 0.5, 1.0], &[answers, 0, 0, 0]);
        let bounds: Vec<f64> = (0..scores.len() - 1).map(|bound| bound as f64 / 10.0).collect();
        let scores = BTreeMap::from([("box".to_owned(), Histogram::of(&bounds, scores))]);
        Samples { answers, failures, seconds, scores }
    }

    fn judged(limits: &Limits, candidate: Samples) -> Verdict {
        judge(limits, &Both { stable: samples(1000, 0, &[500, 0, 0, 500]), candidate }, true)
    }

    #[test]
    fn verdicts() {
        let limits = Limits { max_p99: Some(Duration::from_millis(200)), ..Limits::default() };
        let good = samples(400, 2, &[200, 0, 0, 200]);
        assert_eq!(judged(&limits, good.clone()), Verdict::Good);
        let bad = |candidate: Samples, word: &str| match judged(&limits, candidate) {
            Verdict::Bad(told) => assert!(told.contains(word), "{told}"),
            other => panic!("{other:?}"),
        };
        bad(samples(400, 5, &[200, 0, 0, 200]), "5 of 400 answers");
        bad(samples(400, 2, &[390, 0, 0, 10]), "population stability index");
        bad(Samples { seconds: Histogram::of(&[0.1, 0.5, 1.0], &[390, 10, 0, 0]), ..good.clone() }, "max_p99");
        // Of 50 answers none may fail at this limit: one is enough, however few have come.
        bad(samples(3, 1, &[2, 0, 0, 1]), "1 of 3 answers");
        match judged(&limits, samples(49, 0, &[25, 0, 0, 24])) {
            Verdict::Short(told) => assert!(told.contains("49 of 50"), "{told}"),
            other => panic!("{other:?}"),
        }
        match judged(&limits, samples(60, 0, &[5, 0, 0, 5])) {
            Verdict::Short(told) => assert!(told.contains("10 scores"), "{told}"),
            other => panic!("{other:?}"),
        }
        let nothing = Limits { max_error_rate: None, max_p99: None, max_drift: None, min_answers: 1 };
        assert_eq!(judged(&nothing, samples(1, 1, &[1, 0, 0, 0])), Verdict::Good);
    }

    #[test]
    fn without_answers_of_the_stable_version_drift_is_not_asked() {
        let both = Both { stable: Samples::default(), candidate: samples(400, 0, &[200, 0, 0, 200]) };
        assert_eq!(judge(&Limits::default(), &both, false), Verdict::Good);
        assert!(matches!(judge(&Limits::default(), &both, true), Verdict::Short(_)));
    }
}
