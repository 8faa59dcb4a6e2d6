//! One field of a cron expression: text to a set of values.

use super::Error;

/// What a field may hold.
pub(super) struct Field {
    pub(super) name: &'static str,
    low: u32,
    high: u32,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
    /// Where a range may end beyond `high`: 7 is a second number for Sunday.
    range_high: u32,
    last_day: bool,
    allowed: &'static str,
}

/// The values that a field takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// Bit n is set for value n.
    pub(super) bits: u64,
    /// It is written with a `*`.
    pub(super) star: bool,
    /// It is written with a step.
    pub(super) step: bool,
    /// It has the last day of the month.
    pub(super) last_day: bool,
}

pub(super) const MINUTE: Field = Field {
    name: "minute",
    low: 0,
    high: 59,
    names: &[],
    range_high: 59,
    last_day: false,
    allowed: "0-59: a number, `*`, a range `0-30`, a step `*/15`, or several with commas",
};

pub(super) const HOUR: Field = Field {
    name: "hour",
    low: 0,
    high: 23,
    names: &[],
    range_high: 23,
    last_day: false,
    allowed: "0-23: a number, `*`, a range `9-17`, a step `*/6`, or several with commas",
};

pub(super) const DAY_OF_MONTH: Field = Field {
    name: "day-of-month",
    low: 1,
    high: 31,
    names: &[],
    range_high: 31,
    last_day: true,
    allowed: "1-31: a number, `*`, `L` for the last day, a range `1-7`, a step `*/2`, or several with commas",
};

pub(super) const MONTH: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    range_high: 12,
    last_day: false,
    allowed: "1-12 or jan-dec: one, `*`, a range `apr-sep`, a step `*/3`, or several with commas",
};

pub(super) const DAY_OF_WEEK: Field = Field {
    name: "day-of-week",
    low: 0,
    high: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    range_high: 7,
    last_day: false,
    allowed: "0-7 (0 and 7 are Sunday) or sun-sat: one, `*`, a range `mon-fri`, or several with commas",
};

impl Field {
    /// Reads the field's text, which stands at `column` of the expression.
    pub(super) fn parse(&self, text: &str, column: usize) -> Result<Set, Error> {
        let mut set = Set::default();
        let mut at = column;
        for item in text.split(',') {
            self.item(item, at, &mut set)?;
            at += item.chars().count() + 1;
        }
        // Sunday's second number.
        if self.range_high > self.high && set.bits >> self.range_high & 1 == 1 {
            set.bits = set.bits & !(1 << self.range_high) | 1 << self.low;
        }
        Ok(set)
    }

    /// The set of all values.
    pub(super) fn all(&self) -> u64 {
        span(self.low, self.high, 1)
    }

    fn item(&self, item: &str, column: usize, set: &mut Set) -> Result<(), Error> {
        let wrong = |problem: &str| self.error(item, column, problem, self.allowed.to_string());
        if item.is_empty() {
            return Err(wrong("has an empty part"));
        }
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(step)),
            None => (item, None),
        };
        if base.eq_ignore_ascii_case("l") && self.last_day {
            set.last_day = true;
            return if step.is_some() { Err(wrong("has a step after `L`")) } else { Ok(()) };
        }
        let (low, high) = match base.split_once('-') {
            _ if base == "*" => (self.low, self.high),
            Some((low, high)) => self.range(low, high, item, column)?,
            None => {
                let low = self.value(base, item, column)?;
                // `5/15` means from 5 on, as in most cron libraries.
                (low, if step.is_some() { self.high.max(low) } else { low })
            }
        };
        let step = step.map_or(Ok(1), |step| self.step(step, high - low + 1, item, column))?;
        set.star |= base == "*";
        set.step |= item.contains('/');
        set.bits |= span(low, high, step);
        Ok(())
    }

    fn range(&self, low: &str, high: &str, item: &str, column: usize) -> Result<(u32, u32), Error> {
        let first = self.value(low, item, column)?;
        let mut last = self.value(high, item, column)?;
        // A week may end with Sunday: `fri-sun`, `5-0`.
        if last < first && last == self.low && self.range_high > self.high {
            last = self.range_high;
        }
        if last < first {
            let allowed = format!("`{low}-{},{}-{high}` to go around", self.show(self.high), self.show(self.low));
            return Err(self.error(item, column, "ends before it begins", allowed));
        }
        Ok((first, last))
    }

    fn step(&self, text: &str, most: u32, item: &str, column: usize) -> Result<u32, Error> {
        match number(text) {
            Some(step) if (1..=most).contains(&step) => Ok(step),
            Some(step) if step > most => {
                let allowed = format!("1-{most}, or use `every:` instead of cron for longer distances");
                Err(self.error(item, column, &format!("has a step of {step}"), allowed))
            }
            _ => Err(self.error(item, column, "has a step that is not a number", format!("1-{most} after the `/`"))),
        }
    }

    fn value(&self, text: &str, item: &str, column: usize) -> Result<u32, Error> {
        let wrong = |problem: &str| Err(self.error(item, column, problem, self.allowed.to_string()));
        if let Some(index) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.low + u32::try_from(index).unwrap_or_default());
        }
        match number(text) {
            Some(value) if (self.low..=self.range_high).contains(&value) => Ok(value),
            Some(_) => wrong("is out of range"),
            None if text == "?" => wrong("is not cron's word for any value, which is `*`"),
            None => wrong("cannot be read"),
        }
    }

    fn error(&self, item: &str, column: usize, problem: &str, allowed: String) -> Error {
        Error::Field { field: self.name, text: clip(item), column, problem: problem.to_string(), allowed }
    }

    /// A value as it would be written.
    fn show(&self, value: u32) -> String {
        let name = self.names.get((value - self.low) as usize);
        name.map_or_else(|| value.to_string(), |name| (*name).to_string())
    }
}

/// The values from `low` to `high`, each `step`-th.
fn span(low: u32, high: u32, step: u32) -> u64 {
    (low..=high).step_by(step as usize).fold(0, |bits, value| bits | 1 << value)
}

/// A plain number; a sign or a very long one is none.
fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Text short enough for a message.
pub(super) fn clip(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
