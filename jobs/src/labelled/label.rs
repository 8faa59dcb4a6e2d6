//! What a medium shows, as a person has said.

use detector::taxonomy::Taxonomy;

/// Words for media without an animal, and what they mean.
const WORDS: [(&str, Label); 5] = [
    ("blank", Label::Blank),
    ("empty", Label::Blank),
    ("person", Label::Person),
    ("human", Label::Person),
    ("vehicle", Label::Vehicle),
];

/// What a sequence shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Label {
    /// Nothing.
    Blank,
    /// A person.
    Person,
    /// A vehicle.
    Vehicle,
    /// An animal: names from class down to what it surely is.
    Animal(Vec<String>),
}

impl Label {
    /// Reads `blank`, `person`, `vehicle`, a name that the model knows, or names from class down with semicolons.
    ///
    /// The last kind may go on below what the model knows, but its beginning must be known.
    pub(crate) fn read(text: &str, taxonomy: &Taxonomy) -> Option<Self> {
        let text = text.trim();
        if let Some((_, label)) = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Some(label.clone());
        }
        if !text.contains(';') {
            return taxonomy.lineage_of(text).map(Self::Animal);
        }
        let names: Vec<String> =
            text.split(';').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        (!taxonomy.compatible(&names).is_empty()).then_some(Self::Animal(names))
    }

    /// The name in tables: a scientific name, or a word.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Blank => "blank",
            Self::Person => "person",
            Self::Vehicle => "vehicle",
            Self::Animal(names) => names.last().map_or("animal", String::as_str),
        }
    }

    /// Names from class down; none without an animal.
    pub(crate) fn lineage(&self) -> &[String] {
        match self {
            Self::Animal(names) => names,
            _ => &[],
        }
    }
}
