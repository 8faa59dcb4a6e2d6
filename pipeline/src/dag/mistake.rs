//! Mistakes in a DAG file, each with its place.

use std::fmt;

/// A place in a DAG file: line and column, both from 1, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1; 0 when the place is unknown.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One thing that is wrong in a DAG file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong in one DAG file, in the order of the file. Shown as one `file:line:column: message` a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    /// The file, as given.
    pub file: String,
    /// At least one.
    pub list: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Place { line, column } = mistake.place;
            if line == 0 {
                write!(f, "{}: {}", self.file, mistake.message)?;
            } else {
                write!(f, "{}:{line}:{column}: {}", self.file, mistake.message)?;
            }
        }
        Ok(())
    }
}

/// Collects mistakes while a file is read, so that all are told at once.
#[derive(Default)]
pub(crate) struct Collector {
    list: Vec<Mistake>,
}

/// More mistakes than this help nobody.
const MOST_MISTAKES: usize = 100;

impl Collector {
    /// Adds a mistake.
    pub(crate) fn add(&mut self, place: Place, message: impl Into<String>) {
        self.add_with(place, || message.into());
    }

    /// Adds a mistake whose message takes time to make, as the search for the nearest name does.
    pub(crate) fn add_with(&mut self, place: Place, message: impl FnOnce() -> String) {
        if self.list.len() < MOST_MISTAKES {
            self.list.push(Mistake { place, message: message() });
        }
    }

    /// All mistakes in the order of the file, or nothing.
    pub(crate) fn into_mistakes(mut self, file: &str) -> Option<Mistakes> {
        if self.list.is_empty() {
            return None;
        }
        self.list.sort();
        self.list.dedup();
        Some(Mistakes { file: file.to_string(), list: self.list })
    }
}
