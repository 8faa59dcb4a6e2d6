//! The keys of `with` for `command`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::with::{Keys, Templates};

use super::codes::Codes;
use super::environment;

const KEYS: [&str; 11] = [
    "command",
    "shell",
    "env",
    "env_pass",
    "cwd",
    "stdin",
    "success_codes",
    "skip_codes",
    "retry_codes",
    "output",
    "grace",
];

/// Time between the request to stop and the kill, unless the task says otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// The shell, which stops at the first program that fails.
const SHELL: [&str; 3] = ["/bin/sh", "-e", "-c"];

/// What to run and what its end means.
#[derive(Debug)]
pub(super) struct Settings {
    /// The program and its arguments.
    pub(super) program: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) env_pass: Vec<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) codes: Codes,
    /// `None`: the last line if it is JSON.
    pub(super) output: Option<Output>,
    pub(super) grace: Duration,
    is_shell: bool,
}

/// What the task's output is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The last line, which must be JSON.
    JsonLastLine,
    /// All of standard output.
    Text,
    /// Nothing.
    Nothing,
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let keys = Keys::new(with, &KEYS, templates)?;
        let is_shell = keys.has("shell");
        Ok(Self {
            program: read_program(&keys)?,
            env: read_env(&keys)?,
            env_pass: read_env_pass(&keys)?,
            cwd: keys.filled_text("cwd")?.map(PathBuf::from),
            stdin: keys.value("stdin").map(read_stdin),
            codes: Codes::read(&keys)?,
            output: read_output(&keys)?,
            grace: keys.duration("grace", GRACE)?,
            is_shell,
        })
    }

    /// What messages call the program: arguments may be long and secret.
    pub(super) fn name(&self) -> String {
        match self.program.first() {
            Some(program) if !self.is_shell => format!("`{program}`"),
            _ => "the shell".to_owned(),
        }
    }
}

fn read_program(keys: &Keys) -> Result<Vec<String>, String> {
    match (keys.has("command"), keys.has("shell")) {
        (true, true) => return Err("`command` and `shell` exclude each other: give one of them".to_owned()),
        (false, false) => return Err("`with` lacks `command: [program, argument, …]` or `shell: \"text\"`".to_owned()),
        (false, true) => {
            let text = keys.filled_text("shell")?.unwrap_or_default();
            return Ok(SHELL.into_iter().chain([text]).map(str::to_owned).collect());
        }
        (true, false) => {}
    }
    if let Some(Value::String(_)) = keys.value("command") {
        return Err("`command` must be a list such as [program, argument]; for shell text use `shell`".to_owned());
    }
    let is_empty = keys.value("command").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let is_nameless = keys.value("command").and_then(|command| command.get(0)).is_some_and(|name| name == "");
    if is_empty || is_nameless {
        return Err("`command` has no program: give a program and its arguments".to_owned());
    }
    Ok(keys.texts("command")?.unwrap_or_default())
}

fn read_env(keys: &Keys) -> Result<Vec<(String, String)>, String> {
    let mut env = Vec::new();
    for (name, value) in keys.mapping("env")? {
        check_name("env", name)?;
        if environment::OURS.contains(&name) {
            return Err(format!("`env` sets {name}, which Safari sets itself: use another name"));
        }
        env.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(env)
}

fn read_env_pass(keys: &Keys) -> Result<Vec<String>, String> {
    let names = keys.texts("env_pass")?.unwrap_or_default();
    names.iter().try_for_each(|name| check_name("env_pass", name))?;
    Ok(names)
}

fn check_name(key: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("`{key}` names the variable `{name}`: a name is not empty and has no `=`"));
    }
    Ok(())
}

fn read_stdin(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

fn read_output(keys: &Keys) -> Result<Option<Output>, String> {
    let name = keys.choice("output", &["json_last_line", "text", "none"])?;
    Ok(name.map(|name| match name {
        "json_last_line" => Output::JsonLastLine,
        "text" => Output::Text,
        _ => Output::Nothing,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(with: Value) -> Result<(), String> {
        Settings::read(&with, Templates::Unrendered).map(drop)
    }

    #[test]
    fn right_settings_are_accepted() {
        for with in [
            json!({"command": ["ls", "-l", 5]}),
            json!({"shell": "exit 3", "success_codes": [0, 3], "grace": "500ms", "output": "none"}),
            json!({"command": "{{ params.command }}", "env": {"A": "{{ item }}", "B": 1, "C": true}, "stdin": {"a": 1}}),
            json!({"command": ["{{ params.program }}"], "success_codes": "{{ params.codes }}", "grace": "{{ params.g }}"}),
            json!({"shell": "{{ params.text }}", "env": "{{ params.env }}", "cwd": "{{ params.cwd }}", "stdin": null}),
        ] {
            assert_eq!(check(with.clone()), Ok(()), "{with}");
        }
    }

    #[test]
    fn wrong_settings_are_told() {
        for (with, part) in [
            (json!({}), "lacks `command:"),
            (json!([]), "`with` must be a mapping, but is a list"),
            (json!({"command": ["a"], "shell": "b"}), "exclude each other"),
            (json!({"comand": ["a"]}), "unknown key `comand` in `with`, did you mean `command`?"),
            (json!({"command": ["a"], "zebra": 1}), "known: command, shell"),
            (json!({"command": "ls -l"}), "for shell text use `shell`"),
            (json!({"command": []}), "has no program"),
            (json!({"command": [""]}), "has no program"),
            (json!({"command": ["a", {"b": 1}]}), "`command[1]` must be a text, but is a mapping"),
            (json!({"shell": ""}), "`shell` must not be empty"),
            (json!({"shell": "a", "env": {"SAFARI_TASK": "x"}}), "Safari sets itself"),
            (json!({"shell": "a", "env": {"A=B": "x"}}), "has no `=`"),
            (json!({"shell": "a", "env": {"A": null}}), "`env.A` must be a text, but is nothing"),
            (json!({"shell": "a", "grace": 10}), "a length of time such as `30s`, but is a number"),
            (json!({"shell": "a", "grace": "10"}), "`grace`: `10` is not a length of time"),
            (json!({"shell": "a", "success_codes": [256]}), "exit codes from 0 to 255"),
            (json!({"shell": "a", "success_codes": []}), "`success_codes` is empty"),
            (json!({"shell": "a", "skip_codes": [3], "retry_codes": [3]}), "3 is in `skip_codes` and in `retry_codes`"),
            (json!({"shell": "a", "output": "jsonlastline"}), "did you mean `json_last_line`?"),
        ] {
            let message = check(with.clone()).err();
            assert!(message.as_deref().is_some_and(|message| message.contains(part)), "{with}: {message:?}");
        }
    }

    #[test]
    fn rendered_texts_are_no_templates() {
        let with = json!({"command": ["docker", "ps", "--format", "{{.Names}}"]});
        let settings = Settings::read(&with, Templates::Rendered);
        assert_eq!(settings.map(|settings| settings.program.len()), Ok(4));
    }
}
