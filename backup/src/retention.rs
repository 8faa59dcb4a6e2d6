//! Which backups are kept.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use platform::config::BackupConfig;

use crate::id::BackupId;
use crate::manifest::What;

/// How long backups are kept. A backup stays if any rule keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// All of so many days.
    pub days: u32,
    /// The newest of each week (Monday to Sunday, UTC), for so many weeks.
    pub weeks: u32,
    /// The newest of each month, for so many times 31 days.
    pub months: u32,
    /// So many of the newest, however old; at least one.
    pub last: u32,
}

impl Policy {
    /// That of the settings.
    pub fn of(config: &BackupConfig) -> Self {
        Self { days: config.keep_days, weeks: config.keep_weeks, months: config.keep_months, last: config.keep_last }
    }
}

/// What a policy looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The backup.
    pub id: BackupId,
    /// What it has; none if its manifest cannot be read. Backups of different things do not take each other's place.
    pub what: Option<What>,
    /// When it was written, by the clock of its place.
    pub written_at: DateTime<Utc>,
    /// Whether it was verified.
    pub good: bool,
}

/// Why a backup is kept or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is young.
    Days,
    /// It is the newest of its week.
    Week,
    /// It is the newest of its month.
    Month,
    /// It is one of the newest that can be relied on.
    Last,
    /// Nothing keeps it.
    Removed,
}

/// Judges every backup. Ages are counted from `now`, the clock of the place, or from the newest backup if that is earlier:
/// where no backups are made, none get old.
///
/// Only good backups are the newest of a week, of a month, or of all; one that is not good is kept for its days.
pub fn judge(candidates: &[Candidate], policy: Policy, now: DateTime<Utc>) -> BTreeMap<BackupId, Verdict> {
    let mut verdicts = BTreeMap::new();
    let groups: BTreeSet<Option<What>> = candidates.iter().map(|candidate| candidate.what).collect();
    for what in groups {
        let mut group: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.what == what).collect();
        group.sort_by_key(|candidate| std::cmp::Reverse((candidate.written_at, candidate.id.clone())));
        judge_group(&group, policy, now, &mut verdicts);
    }
    verdicts
}

fn judge_group(group: &[&Candidate], policy: Policy, now: DateTime<Utc>, verdicts: &mut BTreeMap<BackupId, Verdict>) {
    let newest_good = group.iter().find(|candidate| candidate.good).map(|candidate| candidate.written_at);
    let now = newest_good.map_or(now, |newest| newest.min(now));
    let (mut good, mut weeks, mut months) = (0, BTreeSet::new(), BTreeSet::new());
    for candidate in group {
        let age = now - candidate.written_at;
        let within = |days: u32| age <= TimeDelta::days(i64::from(days));
        let at = candidate.written_at;
        let (mut first_of_week, mut first_of_month) = (false, false);
        if candidate.good {
            good += 1;
            first_of_week = weeks.insert((at.iso_week().year(), at.iso_week().week()));
            first_of_month = months.insert((at.year(), at.month()));
        }
        let verdict = if within(policy.days) {
            Verdict::Days
        } else if first_of_week && within(policy.weeks * 7) {
            Verdict::Week
        } else if first_of_month && within(policy.months * 31) {
            Verdict::Month
        } else if candidate.good && good <= policy.last.max(1) {
            Verdict::Last
        } else {
            Verdict::Removed
        };
        verdicts.insert(candidate.id.clone(), verdict);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy { days: 30, weeks: 12, months: 12, last: 3 };

    fn at(days: i64) -> DateTime<Utc> {
        "2026-06-30T01:00:00Z".parse::<DateTime<Utc>>().unwrap() - TimeDelta::days(days)
    }

    fn candidate(days: i64, good: bool) -> Candidate {
        Candidate { id: BackupId::new(at(days)), what: Some(What::All), written_at: at(days), good }
    }

    #[test]
    fn a_year_of_daily_backups_keeps_days_weeks_and_months() {
        let daily: Vec<Candidate> = (0..400).map(|days| candidate(days, true)).collect();
        let verdicts = judge(&daily, POLICY, at(0));
        let count = |wanted: Verdict| verdicts.values().filter(|verdict| **verdict == wanted).count();
        assert_eq!(count(Verdict::Days), 31);
        // Twelve weeks back, of which the youngest four and a half are kept by day.
        assert!((7..=8).contains(&count(Verdict::Week)), "{}", count(Verdict::Week));
        // From the end of April, no Sunday, to the end of June the year before.
        assert_eq!(count(Verdict::Month), 11);
        assert_eq!(count(Verdict::Last), 0);
    }

    #[test]
    fn what_is_old_stays_where_nothing_newer_is_good() {
        let mut some = vec![candidate(900, true), candidate(950, true), candidate(1000, false)];
        some.extend((0..40).map(|days| candidate(days, false)));
        let verdicts = judge(&some, POLICY, at(0));
        assert_eq!(verdicts[&some[0].id], Verdict::Days, "ages are counted from the newest that is good");
        assert_ne!(verdicts[&some[1].id], Verdict::Removed);
        assert_eq!(verdicts[&some[2].id], Verdict::Removed);
    }

    fn backups() -> impl Strategy<Value = (Vec<Candidate>, Policy, i64)> {
        let what = prop_oneof![Just(Some(What::All)), Just(Some(What::Db)), Just(None)];
        let one = (0_i64..2_000, any::<bool>(), what).prop_map(|(days, good, what)| {
            let good = good && what.is_some();
            Candidate { what, ..candidate(days, good) }
        });
        let policy = (1_u32..60, 0_u32..60, 0_u32..36, 1_u32..9).prop_map(|(days, weeks, months, last)| Policy {
            days,
            weeks,
            months,
            last,
        });
        (proptest::collection::vec(one, 0..60), policy, -3_000_i64..3_000)
    }

    proptest! {
        #[test]
        fn the_last_good_ones_stay_whatever_the_clock_says((some, policy, now) in backups()) {
            let verdicts = judge(&some, policy, at(now));
            prop_assert_eq!(verdicts.len(), some.iter().map(|one| &one.id).collect::<BTreeSet<_>>().len());
            for what in [Some(What::All), Some(What::Db)] {
                let mut good: Vec<&Candidate> = some.iter().filter(|one| one.good && one.what == what).collect();
                good.sort_by_key(|one| std::cmp::Reverse((one.written_at, one.id.clone())));
                for kept in good.iter().take(policy.last as usize) {
                    prop_assert_ne!(verdicts[&kept.id], Verdict::Removed);
                }
            }
        }

        #[test]
        fn a_clock_that_goes_ahead_removes_nothing_more((some, policy, ahead) in backups()) {
            let before = judge(&some, policy, at(0));
            let after = judge(&some, policy, at(0) + TimeDelta::days(ahead.abs()));
            for one in some.iter().filter(|one| one.what.is_some() && some.iter().any(|other| other.good && other.what == one.what)) {
                if before[&one.id] != Verdict::Removed {
                    prop_assert_ne!(after[&one.id], Verdict::Removed);
                }
            }
        }

        #[test]
        fn judging_again_removes_nothing_more((some, policy, now) in backups()) {
            let first = judge(&some, policy, at(now));
            let left: Vec<Candidate> = some.into_iter().filter(|one| first[&one.id] != Verdict::Removed).collect();
            for (_, verdict) in judge(&left, policy, at(now)) {
                prop_assert_ne!(verdict, Verdict::Removed);
            }
        }

        #[test]
        fn within_the_days_all_stay((some, policy, now) in backups()) {
            let verdicts = judge(&some, policy, at(now));
            for one in &some {
                if at(now) - one.written_at <= TimeDelta::days(i64::from(policy.days)) {
                    prop_assert_ne!(verdicts[&one.id], Verdict::Removed);
                }
            }
        }
    }
}
