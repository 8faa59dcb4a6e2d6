//! Cron expressions as values, with their text.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::oracle::offset;

/// A part of a field between commas.
#[derive(Clone, Debug)]
pub enum Part {
    Star,
    StarStep(u32),
    One(u32),
    Range(u32, u32),
    RangeStep(u32, u32, u32),
    From(u32, u32),
    Last,
}

#[derive(Clone, Debug)]
pub struct Expression {
    /// Minute, hour, day of the month, month, day of the week.
    fields: [Vec<Part>; 5],
    /// Names instead of numbers for months and days of the week.
    names: bool,
}

const LIMITS: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
const MONTHS: [&str; 12] = ["Jan", "feb", "mar", "apr", "MAY", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "Tue", "wed", "thu", "FRI", "sat"];

impl Expression {
    /// Each day at half past this hour and on the hour.
    pub fn daily(hour: u32) -> Self {
        let all = || vec![Part::Star];
        Self { fields: [vec![Part::One(0), Part::One(30)], vec![Part::One(hour)], all(), all(), all()], names: false }
    }

    /// Each hour, and every quarter from 0 to 3.
    pub fn recurring() -> Vec<Self> {
        let all = || vec![Part::Star];
        let hourly = [vec![Part::One(0)], all(), all(), all(), all()];
        let quarters = [vec![Part::StarStep(15)], vec![Part::Range(0, 3)], all(), all(), all()];
        [hourly, quarters].map(|fields| Self { fields, names: false }).to_vec()
    }

    pub fn text(&self) -> String {
        let field = |index: usize| {
            let parts: Vec<String> = self.fields[index].iter().map(|part| self.part(index, part)).collect();
            parts.join(",")
        };
        (0..5).map(field).collect::<Vec<_>>().join(" ")
    }

    /// A star, a step or every value in minute or hour.
    pub fn recurs(&self) -> bool {
        let steps = |part: &Part| !matches!(part, Part::One(_) | Part::Range(..));
        (0..2).any(|index| {
            let full = (LIMITS[index].0..=LIMITS[index].1).all(|value| self.has(index, value));
            full || self.fields[index].iter().any(steps)
        })
    }

    pub fn matches(&self, zone: Tz, instant: DateTime<Utc>) -> bool {
        self.matches_local(instant.naive_utc() + TimeDelta::seconds(offset(zone, instant)))
    }

    pub fn matches_local(&self, local: NaiveDateTime) -> bool {
        self.has(0, local.minute()) && self.has(1, local.hour()) && self.matches_date(local.date())
    }

    pub fn matches_date(&self, date: NaiveDate) -> bool {
        let tomorrow = date.succ_opt().unwrap();
        let last = tomorrow.day() == 1 && self.fields[2].iter().any(|part| matches!(part, Part::Last));
        let by_date = last || self.has(2, date.day());
        let by_weekday = self.has(4, date.weekday().num_days_from_sunday());
        let open = |index: usize| self.fields[index].iter().any(|part| matches!(part, Part::Star | Part::StarStep(_)));
        self.has(3, date.month()) && if open(2) || open(4) { by_date && by_weekday } else { by_date || by_weekday }
    }

    fn has(&self, index: usize, value: u32) -> bool {
        let (low, high) = LIMITS[index];
        self.fields[index].iter().any(|part| match *part {
            Part::Star => true,
            Part::StarStep(step) => (value - low).is_multiple_of(step),
            Part::One(one) => value == one,
            Part::Range(from, to) => from <= value && value <= to,
            Part::RangeStep(from, to, step) => from <= value && value <= to && (value - from).is_multiple_of(step),
            Part::From(from, step) => from <= value && value <= high && (value - from).is_multiple_of(step),
            Part::Last => false,
        })
    }

    fn part(&self, index: usize, part: &Part) -> String {
        let value = |value: u32| match index {
            3 if self.names => MONTHS[value as usize - 1].to_string(),
            4 if self.names => DAYS[value as usize].to_string(),
            _ => value.to_string(),
        };
        match *part {
            Part::Star => "*".to_string(),
            Part::StarStep(step) => format!("*/{step}"),
            Part::One(one) => value(one),
            Part::Range(from, to) => format!("{}-{}", value(from), value(to)),
            Part::RangeStep(from, to, step) => format!("{}-{}/{step}", value(from), value(to)),
            Part::From(from, step) => format!("{}/{step}", value(from)),
            Part::Last => "L".to_string(),
        }
    }
}

/// Mostly on any day, and often in the hours in which clocks change.
pub fn any_expression() -> impl Strategy<Value = Expression> {
    let minute = prop_oneof![3 => parts(0), 1 => Just(vec![Part::One(0)]), 1 => Just(vec![Part::One(30)])];
    let night = prop::collection::vec((0..4_u32).prop_map(Part::One), 1..3);
    let hour = prop_oneof![3 => parts(1), 2 => night, 1 => Just(vec![Part::Star]), 1 => Just(vec![Part::Range(0, 23)])];
    let day = prop_oneof![3 => Just(vec![Part::Star]), 1 => parts(2)];
    let month = prop_oneof![5 => Just(vec![Part::Star]), 1 => parts(3)];
    let weekday = prop_oneof![3 => Just(vec![Part::Star]), 1 => parts(4)];
    (minute, hour, day, month, weekday, any::<bool>()).prop_map(|(minute, hour, day, month, weekday, names)| {
        Expression { fields: [minute, hour, day, month, weekday], names }
    })
}

fn parts(index: usize) -> impl Strategy<Value = Vec<Part>> {
    prop::collection::vec(part(index), 1..4)
}

fn part(index: usize) -> impl Strategy<Value = Part> {
    let (low, high) = LIMITS[index];
    (0..14_u32, low..=high, low..=high, 1..=60_u32).prop_map(move |(kind, one, other, step)| {
        let (from, to) = (one.min(other), one.max(other));
        let step_to = |most: u32| step % most + 1;
        match kind {
            0 => Part::Star,
            1 => Part::StarStep(step_to(high - low + 1)),
            2..=4 => Part::Range(from, to),
            5 => Part::RangeStep(from, to, step_to(to - from + 1)),
            6 => Part::From(one, step_to(high - one + 1)),
            7 if index == 2 => Part::Last,
            _ => Part::One(one),
        }
    })
}
