//! What a template needs, found without rendering it.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::ErrorKind;

use super::lexer::{MAX_TOKENS, Piece, Token, pieces, tokens};
use super::{environment, message};
use crate::dag::hint;

/// Names known at the top of a template.
const ROOTS: [&str; 8] = ["params", "run", "interval", "tasks", "item", "index", "batch", "secrets"];
/// Attributes of `run`.
const RUN_NAMES: [&str; 5] = ["id", "dag", "started_at", "logical_date", "trigger"];
/// Attributes of `interval`.
const INTERVAL_NAMES: [&str; 2] = ["start", "end"];
/// Attributes of `batch`.
const BATCH_NAMES: [&str; 3] = ["id", "items", "number"];
/// Functions of the engine.
const FUNCTIONS: [&str; 4] = ["range", "dict", "debug", "namespace"];
/// Statements that would read other templates; a DAG has none.
const FILE_STATEMENTS: [&str; 4] = ["include", "extends", "import", "from"];
/// Filters of the engine, for hints only.
const COMMON_FILTERS: [&str; 23] = [
    "abs", "batch", "date", "default", "first", "float", "int", "join", "last", "length", "list", "lower", "map",
    "max", "min", "replace", "reverse", "round", "select", "slice", "sort", "string", "tojson",
];

/// What a template needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// Names used as `params.<name>`.
    pub params: BTreeSet<String>,
    /// Tasks whose output is used.
    pub tasks: BTreeSet<String>,
    /// Whether `item` or `index` is used.
    pub uses_item: bool,
    /// Whether `run` is used.
    pub uses_run: bool,
    /// Whether `interval` is used.
    pub uses_interval: bool,
    /// Whether `batch` is used.
    pub uses_batch: bool,
    /// Names used as `secrets.<name>`.
    pub secrets: BTreeSet<String>,
}

impl Analysis {
    /// Whether parameters are all that is needed to render the template.
    pub fn needs_only_params(&self) -> bool {
        let runs = self.uses_run || self.uses_interval || self.uses_batch || self.uses_item;
        !runs && self.tasks.is_empty() && self.secrets.is_empty()
    }
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateMistake {
    /// What, and what to do.
    pub message: String,
    /// Bytes of the template that are wrong.
    pub range: Range<usize>,
}

/// Compiles a template and finds the names it uses. Mistakes: syntax, and names, filters or tests that nobody knows.
pub fn analyse(source: &str) -> Result<Analysis, Vec<TemplateMistake>> {
    if !super::is_template(source) {
        return Ok(Analysis::default());
    }
    let pieces = pieces(source).map_err(|mistake| one(mistake.message, mistake.range))?;
    let mut mistakes = Vec::new();
    check_tokens(source, &pieces, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let names = match environment().template_from_str(source) {
        Ok(template) => template.undeclared_variables(true),
        Err(error) => {
            let range = error.range().unwrap_or(0..source.len());
            return Err(one(format!("not a readable template: {}", message(&error)), range));
        }
    };
    let mut analysis = Analysis::default();
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    for name in names {
        if let Err(message) = take_name(&name, &mut analysis) {
            mistakes.push(TemplateMistake { message, range: find_name(source, &pieces, &name) });
        }
    }
    if mistakes.is_empty() { Ok(analysis) } else { Err(mistakes) }
}

fn one(message: String, range: Range<usize>) -> Vec<TemplateMistake> {
    vec![TemplateMistake { message, range }]
}

/// Puts a dotted name where it belongs; the error says what is wrong with it.
fn take_name(name: &str, analysis: &mut Analysis) -> Result<(), String> {
    let mut parts = name.split('.');
    let root = parts.next().unwrap_or_default();
    let (second, third) = (parts.next(), parts.next());
    match (root, second) {
        ("params", Some(param)) => {
            analysis.params.insert(param.to_string());
            Ok(())
        }
        ("params", None) => Ok(()),
        ("run", attribute) => {
            analysis.uses_run = true;
            check_attribute(root, attribute, &RUN_NAMES)
        }
        ("interval", attribute) => {
            analysis.uses_interval = true;
            check_attribute(root, attribute, &INTERVAL_NAMES)
        }
        ("batch", attribute) => {
            analysis.uses_batch = true;
            check_attribute(root, attribute, &BATCH_NAMES)
        }
        ("secrets", Some(secret)) => {
            analysis.secrets.insert(secret.to_string());
            Ok(())
        }
        ("secrets", None) => Err("name the secret: `secrets.<name>`".to_string()),
        ("tasks", Some(task)) if third == Some("output") => {
            analysis.tasks.insert(task.to_string());
            Ok(())
        }
        ("tasks", Some(task)) => Err(format!("write `tasks.{task}.output`: a task gives nothing else to a template")),
        ("tasks", None) => Err("name the task: `tasks.<id>.output`".to_string()),
        ("item" | "index", _) => {
            analysis.uses_item = true;
            Ok(())
        }
        (function, None) if FUNCTIONS.contains(&function) => Ok(()),
        _ => Err(format!("unknown name `{root}` in a template{}", hint(root, ROOTS))),
    }
}

fn check_attribute(root: &str, attribute: Option<&str>, known: &[&str]) -> Result<(), String> {
    match attribute {
        Some(name) if !known.contains(&name) => {
            Err(format!("`{root}` has no `{name}`{}", hint(name, known.iter().copied())))
        }
        _ => Ok(()),
    }
}

/// Tells too many tokens, unknown filters and tests, and statements that read files.
fn check_tokens(source: &str, pieces: &[Piece], mistakes: &mut Vec<TemplateMistake>) {
    let mut count = 0;
    for piece in pieces {
        let (range, statement) = match piece {
            Piece::Text(_) => continue,
            Piece::Expression(range) => (range, false),
            Piece::Statement(range) => (range, true),
        };
        let found = tokens(source, range.clone());
        count += found.len();
        if count > MAX_TOKENS {
            let message =
                format!("the template has more than {MAX_TOKENS} words and signs; compute the value in a job");
            mistakes.push(TemplateMistake { message, range: range.clone() });
            return;
        }
        if statement
            && let Some((at, Token::Word(word))) = found.first()
            && FILE_STATEMENTS.contains(word)
        {
            let message = format!("`{word}` has no other templates to read in a DAG");
            mistakes.push(TemplateMistake { message, range: *at..*at + word.len() });
        }
        for (index, (at, token)) in found.iter().enumerate() {
            let Token::Word(word) = token else { continue };
            let before = index.checked_sub(1).and_then(|before| found.get(before)).map(|(_, token)| token);
            let before_that = index.checked_sub(2).and_then(|before| found.get(before)).map(|(_, token)| token);
            let message = match (before, before_that) {
                (Some(Token::Sign('|')), _) if !knows_filter(word) => {
                    format!("unknown filter `{word}`{}", hint(word, COMMON_FILTERS))
                }
                (Some(Token::Word("is")), _) if *word != "not" && !knows_test(word) => format!("unknown test `{word}`"),
                (Some(Token::Word("not")), Some(Token::Word("is"))) if !knows_test(word) => {
                    format!("unknown test `{word}`")
                }
                _ => continue,
            };
            mistakes.push(TemplateMistake { message, range: *at..*at + word.len() });
        }
    }
}

/// The engine has no list of its filters to ask, but says when it does not know one.
fn knows_filter(name: &str) -> bool {
    knows(&format!("none|{name}"), ErrorKind::UnknownFilter)
}

fn knows_test(name: &str) -> bool {
    knows(&format!("none is {name}"), ErrorKind::UnknownTest)
}

fn knows(probe: &str, unknown: ErrorKind) -> bool {
    let Ok(expression) = environment().compile_expression(probe) else { return true };
    !expression.eval(()).is_err_and(|error| error.kind() == unknown)
}

/// The bytes where a dotted name is used first; the first code of the template when it is not found as written.
fn find_name(source: &str, pieces: &[Piece], name: &str) -> Range<usize> {
    let mut first = None;
    for piece in pieces {
        let (Piece::Expression(range) | Piece::Statement(range)) = piece else { continue };
        first.get_or_insert(range);
        let root = name.split('.').next().unwrap_or_default();
        for wanted in [name, root] {
            if let Some(at) = source[range.clone()].find(wanted) {
                return range.start + at..range.start + at + wanted.len();
            }
        }
    }
    first.cloned().unwrap_or(0..source.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mistake(source: &str) -> String {
        let mistakes = analyse(source).unwrap_err();
        let first = &mistakes[0];
        format!("{} @ {}", first.message, &source[first.range.clone()])
    }

    #[test]
    fn finds_what_a_template_needs() {
        let found =
            analyse("{{ params.a }} {% for x in tasks.t.output.list %}{{ x.params }}{{ loop.index }}{% endfor %}")
                .unwrap();
        assert_eq!(found.params, BTreeSet::from(["a".to_string()]));
        assert_eq!(found.tasks, BTreeSet::from(["t".to_string()]));
        assert!(!found.uses_item);
        assert!(analyse("{{ item.path ~ index }}").unwrap().uses_item);
        assert!(analyse("{{ range(3) | list | length is odd }}").is_ok());
        assert!(analyse("{{ params }} {{ run.started_at }}").is_ok());
    }

    #[test]
    fn only_parameters_are_known_without_a_run() {
        let found = analyse("{{ interval.start }}{{ batch.items }}{{ secrets.token }}").unwrap();
        assert_eq!(found.secrets, BTreeSet::from(["token".to_string()]));
        assert!(found.uses_interval && found.uses_batch && !found.uses_run);
        for text in ["{{ run.trigger }}", "{{ interval }}", "{{ batch.number }}", "{{ secrets.a }}", "{{ index }}"] {
            assert!(!analyse(text).unwrap().needs_only_params(), "{text}");
        }
        for text in ["plain", "{{ params.a }}", "{{ 1 + 1 }}"] {
            assert!(analyse(text).unwrap().needs_only_params(), "{text}");
        }
    }

    #[test]
    fn tells_unknown_names_filters_and_tests_with_their_place() {
        assert_eq!(mistake("a {{ parms.x }}"), "unknown name `parms` in a template; did you mean `params`? @ parms.x");
        assert_eq!(
            mistake("{{ run.started }}"),
            "`run` has no `started`; known: id, dag, started_at, logical_date, trigger @ run.started"
        );
        assert_eq!(mistake("{{ interval.begin }}"), "`interval` has no `begin`; known: start, end @ interval.begin");
        assert_eq!(mistake("{{ batch.item }}"), "`batch` has no `item`; did you mean `items`? @ batch.item");
        assert_eq!(mistake("{{ secrets['a'] }}"), "name the secret: `secrets.<name>` @ secrets");
        assert_eq!(
            mistake("{{ tasks.a.outputs }}"),
            "write `tasks.a.output`: a task gives nothing else to a template @ tasks.a.outputs"
        );
        assert_eq!(mistake("{{ tasks['a'].output }}"), "name the task: `tasks.<id>.output` @ tasks");
        assert_eq!(mistake("{{ params.x | lenght }}"), "unknown filter `lenght`; did you mean `length`? @ lenght");
        assert_eq!(mistake("{{ params.x is not odds }}"), "unknown test `odds` @ odds");
        assert_eq!(mistake("{% include 'x' %}"), "`include` has no other templates to read in a DAG @ include");
    }

    #[test]
    fn tells_syntax() {
        assert!(mistake("{{ 1 + }}").starts_with("not a readable template: syntax error"), "{}", mistake("{{ 1 + }}"));
        assert!(mistake("{% if 1 %}").starts_with("not a readable template"));
        assert!(mistake("{{ 'a").contains("never closed"));
    }

    #[test]
    fn deep_expressions_are_refused_before_they_reach_the_compiler() {
        for (open, close) in [("(", ")"), ("[", "]"), ("not ", ""), ("-", ""), ("a.", "b"), ("1+", "1"), ("a|abs", "")]
        {
            let deep = format!("{{{{ {}1{} }}}}", open.repeat(20_000), close.repeat(20_000));
            assert!(analyse(&deep).is_err(), "{open}");
            // As deep as is allowed must be fine on a small stack.
            let allowed = format!("{{{{ {}x }}}}", open.repeat(100));
            std::thread::Builder::new()
                .stack_size(1 << 20)
                .spawn(move || drop(analyse(&allowed)))
                .unwrap()
                .join()
                .unwrap();
        }
    }
}
