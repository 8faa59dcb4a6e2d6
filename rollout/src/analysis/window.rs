//! Counters that only grow, of replicas that come and go, made to what was counted in some time.

use std::collections::BTreeMap;

use super::{Both, Histogram, Samples};

/// What one replica has counted of one version since it was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Answers in time, as a histogram of their seconds, by outcome.
    pub answers: BTreeMap<String, Histogram>,
    /// Scores by what they are of.
    pub scores: BTreeMap<String, Histogram>,
}

/// What replicas have counted since a moment. It is kept in memory: whoever goes on with a rollout begins a new one.
#[derive(Clone, Debug, Default)]
pub struct Window {
    seen: BTreeMap<String, (Counters, Counters)>,
    both: Both,
}

/// Outcomes of which the caller is the cause.
const OF_CALLERS: &str = "media";
/// The outcome of an answer as it should be.
const GOOD: &str = "ok";

impl Window {
    /// Takes what a replica has counted until now. What a replica has counted before it is seen for the first time does not
    /// belong to the window.
    pub fn take(&mut self, replica: &str, stable: Counters, candidate: Counters) {
        if let Some((stable_before, candidate_before)) = self.seen.get(replica) {
            self.both.stable.add(&stable, stable_before);
            self.both.candidate.add(&candidate, candidate_before);
        }
        self.seen.insert(replica.to_owned(), (stable, candidate));
    }

    /// What was counted.
    pub fn both(&self) -> &Both {
        &self.both
    }
}

impl Samples {
    fn add(&mut self, now: &Counters, before: &Counters) {
        let none = Histogram::default();
        let since = |now: &Histogram, before: Option<&Histogram>| now.since(before.unwrap_or(&none));
        for (outcome, seconds) in &now.answers {
            if outcome == OF_CALLERS {
                continue;
            }
            let more = since(seconds, before.answers.get(outcome));
            self.answers += more.total();
            if outcome != GOOD {
                self.failures += more.total();
            }
            self.seconds.add(&more);
        }
        for (of, scores) in &now.scores {
            self.scores.entry(of.clone()).or_default().add(&since(scores, before.scores.get(of)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(ok: u64, failed: u64, media: u64) -> Counters {
        let histogram = |count| Histogram::of(&[1.0], &[count, 0]);
        let outcomes = [("ok", ok), ("failed", failed), ("media", media)];
        Counters {
            answers: outcomes.into_iter().map(|(outcome, count)| (outcome.to_owned(), histogram(count))).collect(),
            scores: BTreeMap::from([("box".to_owned(), histogram(ok))]),
        }
    }

    #[test]
    fn only_what_comes_while_it_is_open_counts() {
        let mut window = Window::default();
        window.take("a", counters(1000, 50, 0), counters(10, 0, 3));
        assert_eq!(window.both(), &Both::default());
        window.take("a", counters(1010, 50, 0), counters(14, 2, 9));
        // One that comes later, and one that was started anew.
        window.take("b", counters(7, 7, 0), counters(7, 7, 7));
        window.take("a", counters(5, 0, 0), counters(1, 0, 0));
        let Both { stable, candidate } = window.both();
        assert_eq!((stable.answers, stable.failures), (15, 0));
        assert_eq!((candidate.answers, candidate.failures), (4 + 2 + 1, 2));
        assert_eq!(candidate.scores["box"].total(), 5);
        assert_eq!(candidate.seconds.total(), 7);
    }
}
