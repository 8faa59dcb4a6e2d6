//! When a task goes, by how the tasks that it needs have ended.

use std::fmt;

/// How a task looks at the tasks that it needs: the value of `trigger:`. The names and meanings are Airflow's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TriggerRule {
    /// All have succeeded. The default.
    #[default]
    AllSuccess,
    /// All have ended, however.
    AllDone,
    /// All have failed, or were not tried because of a failure.
    AllFailed,
    /// One has succeeded; the others need not have ended.
    OneSuccess,
    /// One has failed; the others need not have ended.
    OneFailed,
    /// All have ended and none has failed: each has succeeded or was skipped.
    NoneFailed,
    /// As [`Self::NoneFailed`], and at least one has succeeded.
    NoneFailedMinOneSuccess,
    /// At once, whatever they do.
    Always,
}

/// How far a task that another one needs has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// It has not ended.
    Pending,
    /// It has succeeded.
    Succeeded,
    /// It was tried and has failed.
    Failed,
    /// It was not tried because a task before it failed.
    UpstreamFailed,
    /// It was left out.
    Skipped,
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It is too early to say.
    Wait,
    /// It can start.
    Go,
    /// It is left out.
    Skip,
    /// It is not tried, and counts as failed because of a task before it.
    FailWithUpstream,
}

impl TriggerRule {
    /// All rules, in the order in which they are explained.
    pub const ALL: [Self; 8] = [
        Self::AllSuccess,
        Self::AllDone,
        Self::AllFailed,
        Self::OneSuccess,
        Self::OneFailed,
        Self::NoneFailed,
        Self::NoneFailedMinOneSuccess,
        Self::Always,
    ];

    /// The name in DAG files.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllSuccess => "all_success",
            Self::AllDone => "all_done",
            Self::AllFailed => "all_failed",
            Self::OneSuccess => "one_success",
            Self::OneFailed => "one_failed",
            Self::NoneFailed => "none_failed",
            Self::NoneFailedMinOneSuccess => "none_failed_min_one_success",
            Self::Always => "always",
        }
    }

    /// The rule of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// Whether the rule asks about tasks before: without any of them it says nothing that the default does not say.
    pub(super) fn asks_about_needs(self) -> bool {
        !matches!(self, Self::AllSuccess | Self::Always)
    }

    /// Decides by the states of all tasks that are needed; without any, the task goes.
    ///
    /// It decides as early as it can, and a decision other than [`Decision::Wait`] stays right when more tasks end, but
    /// for one case: with `all_success` the first end that spoils it decides, so that a task which is skipped early is
    /// not called failed when another need fails later.
    pub fn decide(&self, states: &[Upstream]) -> Decision {
        if states.is_empty() {
            return Decision::Go;
        }
        let counts = Counts::of(states);
        let ended = counts.pending == 0;
        match self {
            Self::Always => Decision::Go,
            Self::AllSuccess if counts.failed > 0 => Decision::FailWithUpstream,
            Self::AllSuccess if counts.skipped > 0 => Decision::Skip,
            Self::AllFailed if counts.succeeded + counts.skipped > 0 => Decision::Skip,
            Self::OneSuccess if counts.succeeded > 0 => Decision::Go,
            Self::OneFailed if counts.failed > 0 => Decision::Go,
            Self::NoneFailed | Self::NoneFailedMinOneSuccess if counts.failed > 0 => Decision::FailWithUpstream,
            _ if !ended => Decision::Wait,
            Self::OneSuccess if counts.failed > 0 => Decision::FailWithUpstream,
            Self::OneSuccess | Self::OneFailed => Decision::Skip,
            Self::NoneFailedMinOneSuccess if counts.succeeded == 0 => Decision::Skip,
            _ => Decision::Go,
        }
    }
}

impl fmt::Display for TriggerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many of the needed tasks are in each state.
#[derive(Default)]
struct Counts {
    pending: usize,
    succeeded: usize,
    /// Tried or not.
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn of(states: &[Upstream]) -> Self {
        let mut counts = Self::default();
        for state in states {
            match state {
                Upstream::Pending => counts.pending += 1,
                Upstream::Succeeded => counts.succeeded += 1,
                Upstream::Failed | Upstream::UpstreamFailed => counts.failed += 1,
                Upstream::Skipped => counts.skipped += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{FailWithUpstream, Go, Skip, Wait};

    /// States by letters: `.` pending, `s` succeeded, `f` failed, `u` upstream failed, `-` skipped.
    fn states(letters: &str) -> Vec<Upstream> {
        letters
            .chars()
            .map(|letter| match letter {
                '.' => Upstream::Pending,
                's' => Upstream::Succeeded,
                'f' => Upstream::Failed,
                'u' => Upstream::UpstreamFailed,
                '-' => Upstream::Skipped,
                other => panic!("no state `{other}`"),
            })
            .collect()
    }

    #[track_caller]
    fn check(rule: TriggerRule, expected: &[(&str, Decision)]) {
        for (letters, decision) in expected {
            assert_eq!(rule.decide(&states(letters)), *decision, "{rule} of `{letters}`");
        }
    }

    /// Every row of up to four states.
    fn all_rows() -> Vec<String> {
        let mut rows = vec![String::new()];
        let mut from = 0;
        for _ in 0..4 {
            let to = rows.len();
            for row in from..to {
                for letter in ['.', 's', 'f', 'u', '-'] {
                    rows.push(format!("{}{letter}", rows[row]));
                }
            }
            from = to;
        }
        rows
    }

    #[test]
    fn names_lead_back_to_rules() {
        for rule in TriggerRule::ALL {
            assert_eq!(TriggerRule::from_name(rule.name()), Some(rule));
        }
        assert_eq!(TriggerRule::from_name("all_succeeded"), None);
        assert_eq!(TriggerRule::default().to_string(), "all_success");
    }

    #[test]
    fn all_success() {
        let early = [(".", Wait), ("s.", Wait), ("f.", FailWithUpstream), ("u.", FailWithUpstream), ("-.", Skip)];
        check(TriggerRule::AllSuccess, &early);
        check(TriggerRule::AllSuccess, &[("ss", Go), ("sf", FailWithUpstream), ("s-", Skip), ("f-", FailWithUpstream)]);
    }

    #[test]
    fn all_done() {
        check(TriggerRule::AllDone, &[("f.", Wait), ("s-.", Wait), ("sfu-", Go), ("-", Go), ("f", Go)]);
    }

    #[test]
    fn all_failed() {
        check(
            TriggerRule::AllFailed,
            &[("f.", Wait), ("s.", Skip), ("-.", Skip), ("fu", Go), ("fs", Skip), ("f-", Skip)],
        );
    }

    #[test]
    fn one_success() {
        check(TriggerRule::OneSuccess, &[("s.", Go), ("sf", Go), ("f.", Wait), ("-.", Wait), ("--", Skip)]);
        check(TriggerRule::OneSuccess, &[("f-", FailWithUpstream), ("uu", FailWithUpstream)]);
    }

    #[test]
    fn one_failed() {
        check(TriggerRule::OneFailed, &[("f.", Go), ("u.", Go), ("sf", Go), ("s.", Wait), ("ss", Skip), ("s-", Skip)]);
    }

    #[test]
    fn none_failed() {
        check(
            TriggerRule::NoneFailed,
            &[("s.", Wait), ("-.", Wait), ("f.", FailWithUpstream), ("u-", FailWithUpstream)],
        );
        check(TriggerRule::NoneFailed, &[("ss", Go), ("s-", Go), ("--", Go)]);
    }

    #[test]
    fn none_failed_min_one_success() {
        let rule = TriggerRule::NoneFailedMinOneSuccess;
        check(rule, &[("s.", Wait), ("f.", FailWithUpstream), ("s-", Go), ("ss", Go), ("--", Skip), ("-.", Wait)]);
    }

    #[test]
    fn always_goes_at_once() {
        for row in all_rows() {
            assert_eq!(TriggerRule::Always.decide(&states(&row)), Go, "{row}");
        }
    }

    #[test]
    fn without_needs_a_task_goes() {
        for rule in TriggerRule::ALL {
            assert_eq!(rule.decide(&[]), Go, "{rule}");
        }
    }

    #[test]
    fn order_does_not_matter_and_ended_needs_decide() {
        for row in all_rows() {
            for rule in TriggerRule::ALL {
                let mut turned = states(&row);
                turned.reverse();
                assert_eq!(rule.decide(&states(&row)), rule.decide(&turned), "{rule} of `{row}`");
                assert!(row.contains('.') || rule.decide(&turned) != Wait, "{rule} waits for nothing: `{row}`");
            }
        }
    }

    #[test]
    fn an_early_decision_stays_right() {
        for row in all_rows().iter().filter(|row| row.contains('.')) {
            for rule in TriggerRule::ALL {
                let early = rule.decide(&states(row));
                for end in ["s", "f", "u", "-"] {
                    let late = rule.decide(&states(&row.replace('.', end)));
                    // The one case that `decide` tells of: skipped first, failed then.
                    let spoilt = rule == TriggerRule::AllSuccess && (early, late) == (Skip, FailWithUpstream);
                    assert!(early == Wait || early == late || spoilt, "{rule} of `{row}`: {early:?}, then {late:?}");
                }
            }
        }
    }
}
