//! Templates in a DAG: minijinja over parameters, the run, and the outputs of tasks upstream.
//!
//! A text that is one whole expression (`"{{ tasks.ingest.output.shards }}"`) keeps the type of its value; any other
//! text with `{{ … }}` or `{% … %}` becomes a string. An unknown name is an error, never an empty text. Names known in a
//! template:
//!
//! - `params.<name>`;
//! - `run.id`, `run.dag`, `run.started_at`, `run.logical_date`, `run.trigger`;
//! - `interval.start`, `interval.end`: the run's data interval;
//! - `tasks.<id>.output`, and in a mapped task `item` and `index`;
//! - `batch.id`, `batch.items`, `batch.number` in a continuous DAG;
//! - `secrets.<name>`, only in a scope that was given them: see [`Scope::with_secrets`].

mod analyse;
mod date;
mod lexer;
mod scope;

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;

pub use analyse::{Analysis, TemplateMistake, analyse};
pub use scope::Scope;

use lexer::Piece;

/// Instructions that one template may take: bounds loops that a slip makes endless (about a second).
const FUEL: u64 = 10_000_000;

/// Whether a text has template code.
pub fn is_template(text: &str) -> bool {
    lexer::has_code(text)
}

/// Whether a text is one whole expression, so that it keeps the type of its value.
pub fn is_expression(text: &str) -> bool {
    lexer::pieces(text).is_ok_and(|pieces| whole_expression(text, &pieces).is_some())
}

/// Renders every text in `value`; the error says which template failed and why. The error of a template that uses
/// secrets does not say what stood in them.
pub fn render(value: &Value, scope: &Scope) -> Result<Value, String> {
    render_in(value, &scope.context())
}

/// Renders the value of a `when`; the error says why it is neither true nor false.
pub fn render_condition(when: &Value, scope: &Scope) -> Result<bool, String> {
    let other = match render(when, scope)? {
        Value::Bool(condition) => return Ok(condition),
        other => other,
    };
    let shown = shorten(&other.to_string()).to_string();
    Err(format!("`when` gave {shown}; it must be true or false, so compare it, as in `… == 1` or `… | length > 0`"))
}

/// Renders the texts in `value` that need only `params`; others stay as they are.
pub fn render_known(value: &Value, scope: &Scope) -> Result<Value, String> {
    let context = scope.context();
    map_texts(value, &|text| {
        let known = analyse(text).is_ok_and(|found| found.needs_only_params());
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
    // Errors are kept in the state, and the engine's details may hold the value of a secret.
    let secret = text.contains("secrets");
    let why = |error: minijinja::Error| if secret { fail(error.kind().to_string()) } else { fail(message(&error)) };
    let pieces = lexer::pieces(text).map_err(|mistake| fail(mistake.message))?;
    let Some(expression) = whole_expression(text, &pieces) else {
        let rendered = environment().render_str(text, context).map_err(why)?;
        return Ok(Value::String(rendered));
    };
    let compiled = environment().compile_expression(expression).map_err(why)?;
    let value = compiled.eval(context.clone()).map_err(why)?;
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
        environment.add_filter("date", date::format);
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
    fn conditions_are_true_or_false() {
        let condition = |text: &str| render_condition(&json!(text), &scope());
        assert_eq!(condition("{{ params.fast }}"), Ok(true));
        assert_eq!(condition("{{ params.size > 200 }}"), Ok(false));
        assert_eq!(render_condition(&json!(false), &scope()), Ok(false));
        assert_eq!(
            condition("{{ params.size }}").unwrap_err(),
            "`when` gave 200; it must be true or false, so compare it, as in `… == 1` or `… | length > 0`"
        );
        assert!(condition("{{ params.nothing }}").unwrap_err().contains("has no `nothing`"));
    }

    #[test]
    fn errors_do_not_tell_secrets() {
        let names = std::collections::BTreeSet::from(["token".to_string()]);
        let scope = scope().with_secrets(&names, &|_| Some("hunter2".to_string())).unwrap();
        assert_eq!(render(&json!("Bearer {{ secrets.token }}"), &scope).unwrap(), json!("Bearer hunter2"));
        for text in ["{{ secrets.token | date('%Y') }}", "{{ secrets.token | int }}", "x{{ secrets.token | int }}"] {
            let error = render(&json!(text), &scope).unwrap_err();
            assert_eq!(error, format!("template `{text}` failed: invalid operation"));
        }
        assert!(!format!("{scope:?}").contains("hunter2"));
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
