//! What comes next in a rollout. Nothing here has a clock, a database or a network.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::analysis::Verdict;
use crate::plan::Plan;

/// How a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The candidate has the share of its step and is watched.
    Advancing,
    /// It keeps its share until somebody says more. It is watched still.
    Paused,
    /// The alias moves to the candidate, then replicas follow.
    Promoting,
    /// Replicas give up the candidate.
    Aborting,
    /// The alias moves back to the stable version, then replicas follow.
    Undoing,
    /// The end: the candidate is what the alias names.
    Promoted,
    /// The end: the candidate is gone, the alias was left alone.
    Aborted,
    /// The end: the alias names the stable version again.
    Undone,
}

/// What is known at a moment of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// How the rollout stands.
    pub phase: Phase,
    /// The step, from 0.
    pub step: usize,
    /// How long this step has been tried.
    pub tried: Duration,
    /// How long all replicas that can be reached have given the candidate its share; none while they have not.
    pub applied: Option<Duration>,
    /// What the answers since then say.
    pub verdict: Verdict,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing yet.
    Stay,
    /// This step.
    Step(usize),
    /// The alias moves.
    Promote,
    /// The candidate goes, for this reason.
    Abort(String),
}

/// Decides. A bad verdict ends a rollout at once; a good one counts only after the whole pause of its step.
pub fn next(plan: &Plan, seen: &Seen) -> Next {
    if !matches!(seen.phase, Phase::Advancing | Phase::Paused) {
        return Next::Stay;
    }
    if let Verdict::Bad(reason) = &seen.verdict {
        return Next::Abort(reason.clone());
    }
    let Some(step) = plan.steps.get(seen.step) else { return Next::Promote };
    if seen.phase == Phase::Paused {
        return Next::Stay;
    }
    let Some(applied) = seen.applied else {
        let waited = humantime::format_duration(plan.patience);
        return match seen.tried > plan.patience {
            true => Next::Abort(format!("the replicas did not take the candidate within {waited}")),
            false => Next::Stay,
        };
    };
    if applied < step.pause {
        return Next::Stay;
    }
    match &seen.verdict {
        Verdict::Good if seen.step + 1 == plan.steps.len() => Next::Promote,
        Verdict::Good => Next::Step(seen.step + 1),
        Verdict::Short(lacking) if applied > step.pause + plan.patience => {
            Next::Abort(format!("at {} percent there was too little to judge by: {lacking}", step.percent))
        }
        Verdict::Short(_) | Verdict::Bad(_) => Next::Stay,
    }
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Advancing,
        Self::Paused,
        Self::Promoting,
        Self::Aborting,
        Self::Undoing,
        Self::Promoted,
        Self::Aborted,
        Self::Undone,
    ];

    /// Whether nothing comes after it by itself.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Promoted | Self::Aborted | Self::Undone)
    }

    /// The word in tables and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Advancing => "advancing",
            Self::Paused => "paused",
            Self::Promoting => "promoting",
            Self::Aborting => "aborting",
            Self::Undoing => "undoing",
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
            Self::Undone => "undone",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|phase| phase.as_str() == text);
        found.ok_or_else(|| Error::Unreadable { what: "a phase", found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    fn seen(step: usize, applied: Option<u64>, verdict: Verdict) -> Seen {
        let applied = applied.map(Duration::from_secs);
        Seen { phase: Phase::Advancing, step, tried: applied.unwrap_or_default(), applied, verdict }
    }

    #[test]
    fn what_comes_next() {
        let plan = Plan::default();
        let short = || Verdict::Short("3 of 50 answers".to_owned());
        let bad = || Verdict::Bad("all failed".to_owned());
        let cases = [
            (seen(0, None, short()), Next::Stay),
            (seen(0, Some(59), Verdict::Good), Next::Stay),
            (seen(0, Some(60), Verdict::Good), Next::Step(1)),
            (seen(0, Some(60), short()), Next::Stay),
            (seen(0, Some(1), bad()), Next::Abort("all failed".to_owned())),
            (seen(0, None, bad()), Next::Abort("all failed".to_owned())),
            (seen(3, Some(60), Verdict::Good), Next::Promote),
        ];
        for (seen, expected) in cases {
            assert_eq!(next(&plan, &seen), expected, "{seen:?}");
        }
        let Next::Abort(told) = next(&plan, &seen(0, Some(661), short())) else { panic!("it waits for ever") };
        assert!(told.contains("at 5 percent") && told.contains("3 of 50"), "{told}");
        let late = Seen { tried: Duration::from_secs(601), ..seen(0, None, short()) };
        let Next::Abort(told) = next(&plan, &late) else { panic!("it waits for ever") };
        assert!(told.contains("did not take the candidate within 10m"), "{told}");
    }

    #[test]
    fn a_paused_one_waits_and_is_watched() {
        let plan = Plan::default();
        let paused = |verdict| Seen { phase: Phase::Paused, ..seen(1, Some(100_000), verdict) };
        assert_eq!(next(&plan, &paused(Verdict::Good)), Next::Stay);
        assert_eq!(next(&plan, &paused(Verdict::Short(String::new()))), Next::Stay);
        assert_eq!(next(&plan, &paused(Verdict::Bad("slow".to_owned()))), Next::Abort("slow".to_owned()));
        for phase in Phase::ALL.into_iter().filter(|phase| !matches!(phase, Phase::Advancing | Phase::Paused)) {
            let elsewhere = Seen { phase, ..seen(1, Some(100_000), Verdict::Bad("slow".to_owned())) };
            assert_eq!(next(&plan, &elsewhere), Next::Stay, "{phase}");
            assert_eq!(phase.as_str().parse::<Phase>().unwrap(), phase);
        }
    }

    fn verdicts() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            6 => Just(Verdict::Good),
            3 => Just(Verdict::Short("few".to_owned())),
            1 => Just(Verdict::Bad("bad".to_owned())),
        ]
    }

    proptest! {
        /// Whatever is seen: steps come one after the other, none is left out, each has had its whole pause and a good verdict,
        /// and after a bad verdict the candidate goes.
        #[test]
        fn no_step_is_skipped(history in proptest::collection::vec((0_u64..90, verdicts(), 0_u8..4), 1..60)) {
            let plan = Plan::default();
            let (mut step, mut applied, mut good) = (0, None, Vec::new());
            for (seconds, verdict, luck) in history {
                applied = match (applied, luck) {
                    (None, 0) => None,
                    (None, _) => Some(Duration::ZERO),
                    (Some(before), _) => Some(before + Duration::from_secs(seconds)),
                };
                let tried = applied.unwrap_or_default();
                let now = Seen { phase: Phase::Advancing, step, tried, applied, verdict: verdict.clone() };
                match next(&plan, &now) {
                    Next::Stay => prop_assert!(!matches!(verdict, Verdict::Bad(_))),
                    Next::Step(to) => {
                        prop_assert_eq!(to, step + 1);
                        prop_assert!(applied.is_some_and(|applied| applied >= PAUSE));
                        prop_assert_eq!(&verdict, &Verdict::Good);
                        good.push(step);
                        (step, applied) = (to, None);
                    }
                    Next::Promote => {
                        prop_assert_eq!(&verdict, &Verdict::Good);
                        prop_assert_eq!(good, (0..plan.steps.len() - 1).collect::<Vec<_>>());
                        return Ok(());
                    }
                    Next::Abort(_) => {
                        prop_assert!(!matches!(verdict, Verdict::Good));
                        return Ok(());
                    }
                }
            }
        }
    }
}
