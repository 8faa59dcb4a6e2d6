//! Templates in a DAG: minijinja over parameters, the run, and the outputs of tasks upstream.
//!
//! A text that is one whole expression (`"{{ tasks.ingest.output.shards }}"`) keeps the type of its value; any other
//! text with `{{ … }}` or `{% … %}` becomes a string. Names known in a template: `params.<name>`, `run.id`, `run.dag`,
//! `run.started_at`, `tasks.<id>.output`, and in a mapped task `item` and `index`. An unknown name is an error, never
//! an empty text.

mod analyse;
mod lexer;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;

pub use analyse::{Analysis, TemplateMistake, analyse};

use lexer::Piece;

/// Instructions that one template may take: bounds loops that a slip makes endless (about a second).
const FUEL: u64 = 10_000_000;

/// What the names in a template mean.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    values: BTreeMap<&'static str, minijinja::Value>,
    tasks: BTreeMap<String, minijinja::Value>,
}

impl Scope {
    /// A scope with `params` (a JSON object) and `run` (an object with `id`, `dag`, `started_at`).
    pub fn new(params: &Value, run: &Value) -> Self {
        let mut values = BTreeMap::new();
        values.insert("params", engine_value(params));
        values.insert("run", engine_value(run));
        Self { values, tasks: BTreeMap::new() }
    }

    /// Adds `tasks.<task>.output`.
    pub fn add_output(&mut self, task: &str, output: &Value) {
        let fields = minijinja::Value::from_pairs([("output", engine_value(output))]);
        self.tasks.insert(task.to_string(), fields);
    }

    /// Whether `tasks.<task>.output` is known.
    pub fn has_output(&self, task: &str) -> bool {
        self.tasks.contains_key(task)
    }

    /// The same scope with `item` and `index` of a mapped task. Cheap: the values are shared.
    pub fn with_item(&self, item: &Value, index: u32) -> Self {
        let mut scope = self.clone();
        scope.values.insert("item", engine_value(item));
        scope.values.insert("index", minijinja::Value::from(index));
        scope
    }

    fn context(&self) -> minijinja::Value {
        let tasks = minijinja::Value::from_pairs(self.tasks.clone());
        minijinja::Value::from_pairs(self.values.clone().into_iter().chain([("tasks", tasks)]))
    }
}

fn engine_value(value: &Value) -> minijinja::Value {
    minijinja::Value::from(minijinja::value::Serde(value))
}

/// Whether a text has template code.
pub fn is_template(text: &str) -> bool {
    lexer::has_code(text)
}

/// Renders every text in `value`; the error says which template failed and why.
pub fn render(value: &Value, scope: &Scope) -> Result<Value, String> {
    render_in(value, &scope.context())
}

/// Renders the texts in `value` that need only `params`; others stay as they are.
pub fn render_known(value: &Value, scope: &Scope) -> Result<Value, String> {
    let context = scope.context();
    map_texts(value, &|text| {
        let known = analyse(text).is_ok_and(|found| found.tasks.is_empty() && !found.uses_item && !found.uses_run);
        if known { render_text(text, &context) } else { Ok(Value::String(text.to_string())) }
    })
}

fn render_in(value: &Value, context: &minijinja::Value) -> Result<Value, String> {
    map_texts(value, &|text| render_text(text, context))
}

fn map_texts(value: &Value, render: &dyn Fn(&str) -> Result<Value, String>) -> Result<Value, String> {
    match value {
        Value::String(text) if is_template(text) => render(text),
        Value::Array(items) => items.iter().map(|item| map_texts(item, render)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| Ok((name.clone(), map_texts(value, render)?))).collect()
        }
        _ => Ok(value.clone()),
    }
}

fn render_text(text: &str, context: &minijinja::Value) -> Result<Value, String> {
    let fail = |why: String| format!("template `{}` failed: {why}", shorten(text));
    let pieces = lexer::pieces(text).map_err(|mistake| fail(mistake.message))?;
    let Some(expression) = whole_expression(text, &pieces) else {
        let rendered = environment().render_str(text, context).map_err(|error| fail(message(&error)))?;
        return Ok(Value::String(rendered));
    };
    let compiled = environment().compile_expression(expression).map_err(|error| fail(message(&error)))?;
    let value = compiled.eval(context.clone()).map_err(|error| fail(message(&error)))?;
    if value.is_undefined() {
        return Err(fail(missing(expression, context)));
    }
    serde_json::to_value(&value).map_err(|error| fail(format!("its value is not JSON: {error}")))
}

/// The expression that the text consists of, blanks around it allowed.
fn whole_expression<'a>(text: &'a str, pieces: &[Piece]) -> Option<&'a str> {
    let mut found = None;
    for piece in pieces {
        match piece {
            Piece::Text(range) if text[range.clone()].trim().is_empty() => {}
            Piece::Expression(range) if found.is_none() => found = Some(&text[range.clone()]),
            _ => return None,
        }
    }
    found
}

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(100);
        environment.set_debug(true);
        environment
    });
    &ENVIRONMENT
}

/// The engine's message without its name of the template.
fn message(error: &minijinja::Error) -> String {
    let kind = error.kind();
    match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind.to_string(),
    }
}

/// Says which part of a dotted path has no value and what stands there instead.
fn missing(expression: &str, context: &minijinja::Value) -> String {
    let mut value = context.clone();
    let mut known = String::new();
    for name in expression.split('.') {
        let next = value.get_attr(name.trim()).unwrap_or_default();
        if !next.is_undefined() {
            value = next;
            known = if known.is_empty() { name.to_string() } else { format!("{known}.{name}") };
            continue;
        }
        let names: Vec<String> =
            value.try_iter().map(|keys| keys.map(|key| key.to_string()).collect()).unwrap_or_default();
        if known.is_empty() || names.is_empty() {
            break;
        }
        let hint = crate::dag::hint(name, names.iter().map(String::as_str));
        return format!("`{known}` has no `{name}`{hint}");
    }
    "it has no value".to_string()
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn scope() -> Scope {
        let mut scope = Scope::new(
            &json!({"source": "s3://b/p", "size": 200, "fast": true}),
            &json!({"id": "r1", "dag": "detect", "started_at": "2026-01-01T00:00:00.000Z"}),
        );
        scope.add_output("ingest", &json!({"shards": [{"n": 1}, {"n": 2}], "count": 2, "ratio": 0.5}));
        scope
    }

    fn one(text: &str) -> Result<Value, String> {
        render(&json!(text), &scope())
    }

    #[test]
    fn whole_expressions_keep_their_type() {
        assert_eq!(one("{{ tasks.ingest.output.shards }}").unwrap(), json!([{"n": 1}, {"n": 2}]));
        assert_eq!(one(" {{ params.size }} ").unwrap(), json!(200));
        assert_eq!(one("{{ params.size * 2 + 1 }}").unwrap(), json!(401));
        assert_eq!(one("{{ tasks.ingest.output.ratio }}").unwrap(), json!(0.5));
        assert_eq!(one("{{ params.fast }}").unwrap(), json!(true));
        assert_eq!(one("{{ none }}").unwrap(), json!(null));
        assert_eq!(one("{{ {'a': [1, 'b']} }}").unwrap(), json!({"a": [1, "b"]}));
    }

    #[test]
    fn other_texts_become_strings() {
        assert_eq!(one("{{ params.source }}/x").unwrap(), json!("s3://b/p/x"));
        assert_eq!(one("{{ params.size }}{{ params.size }}").unwrap(), json!("200200"));
        assert_eq!(one("{% for s in tasks.ingest.output.shards %}{{ s.n }},{% endfor %}\n").unwrap(), json!("1,2,\n"));
        assert_eq!(one("<b>{{ '<i>' }}").unwrap(), json!("<b><i>"));
        assert_eq!(one("no code { here }").unwrap(), json!("no code { here }"));
    }

    #[test]
    fn items_and_nested_values() {
        let scope = scope().with_item(&json!({"path": "a.jpg"}), 3);
        let value = json!({"list": ["{{ item.path }}", {"i": "{{ index }}"}], "n": 1});
        assert_eq!(render(&value, &scope).unwrap(), json!({"list": ["a.jpg", {"i": 3}], "n": 1}));
    }

    #[test]
    fn missing_values_are_errors_that_name_them() {
        let error = one("{{ tasks.ingest.output.shard }}").unwrap_err();
        assert_eq!(
            error,
            "template `{{ tasks.ingest.output.shard }}` failed: `tasks.ingest.output` has no `shard`; did you mean `shards`?"
        );
        assert!(
            one("x {{ params.nothing }}").unwrap_err().contains("undefined"),
            "{:?}",
            one("x {{ params.nothing }}")
        );
        assert!(one("{{ params.size.x.y }}").is_err());
    }

    #[test]
    fn endless_loops_end() {
        let text = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        assert!(one(text).unwrap_err().contains("fuel"), "{:?}", one(text));
    }

    #[test]
    fn only_what_is_known_is_rendered() {
        let value = json!({"a": "{{ params.size }}", "b": "{{ tasks.ingest.output.count }}", "c": "{{ item }}"});
        let known = render_known(&value, &scope()).unwrap();
        assert_eq!(known, json!({"a": 200, "b": "{{ tasks.ingest.output.count }}", "c": "{{ item }}"}));
    }
}
