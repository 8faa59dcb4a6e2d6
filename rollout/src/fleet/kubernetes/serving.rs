//! Which model the pods of a Deployment serve: where its template says so, and the same template with another.

use model_registry::VersionNumber;
use model_registry::client::Source;
use serde_json::{Value, json};

/// The variables that name the model, the stronger first.
const VARIABLES: [&str; 2] = ["SAFARI_MODEL", "MODEL_PATH"];
const FLAG: &str = "--model";
/// The container that serves, where a pod has several.
const CONTAINER: &str = "safari";
/// Written into the template, so that pods begin anew though the text of their model stays: `models:/NAME@ALIAS`.
const SERVES: &str = "safari/serves";

/// The place of a template that names the model.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The argument with this index, after a flag of its own.
    Argument(usize),
    /// The argument with this index, behind `--model=`.
    Joined(usize),
    Variable(&'static str),
}

/// What the pods of a template serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Serving {
    container: String,
    place: Place,
    /// Such as `models:/wildlife@champion`.
    pub(super) model: String,
}

/// How a Deployment comes to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// Its pods look at the alias.
    Alias,
    /// Its template names the version.
    Version(VersionNumber),
}

impl Serving {
    /// What pods of this template serve.
    ///
    /// # Errors
    /// The template does not say it; in words.
    pub(super) fn of(template: &Value) -> Result<Self, String> {
        let none = Vec::new();
        let containers = template["spec"]["containers"].as_array().unwrap_or(&none);
        let named = containers.iter().find(|container| container["name"] == CONTAINER);
        let container = match (named, containers.as_slice()) {
            (Some(container), _) | (None, [container]) => container,
            _ => return Err(format!("no container is called `{CONTAINER}`, so it is not known which one serves")),
        };
        let name = container["name"].as_str().unwrap_or_default();
        let found = |place: Place, model: &str| Ok(Self { container: name.to_owned(), place, model: model.to_owned() });
        let arguments: Vec<&str> = texts(&container["args"]);
        for (index, argument) in arguments.iter().enumerate() {
            if *argument == FLAG
                && let Some(model) = arguments.get(index + 1)
            {
                return found(Place::Argument(index + 1), model);
            }
            if let Some(model) = argument.strip_prefix("--model=") {
                return found(Place::Joined(index), model);
            }
        }
        for variable in VARIABLES {
            let mut given = container["env"].as_array().unwrap_or(&none).iter();
            let Some(given) = given.find(|one| one["name"] == variable) else { continue };
            return match given["value"].as_str() {
                Some(model) => found(Place::Variable(variable), model),
                None => Err(format!("container {name} takes {variable} from another object; write its value there")),
            };
        }
        Err(format!("container {name} does not say which model it serves; give it the variable MODEL_PATH or {FLAG}"))
    }

    /// How pods come to a version of `model`.
    ///
    /// # Errors
    /// They serve something else; in words.
    pub(super) fn follows(&self, model: &str, alias: &str) -> Result<Follows, String> {
        match self.model.parse::<Source>() {
            Ok(Source::Alias(name, named)) if name == model && named == alias => Ok(Follows::Alias),
            Ok(Source::Version(name, version)) if name == model => Ok(Follows::Version(version)),
            _ => Err(format!(
                "its pods serve {}; a rollout of {model} wants models:/{model}@{alias} or a version of it",
                self.model
            )),
        }
    }

    /// Lets pods of this template serve `source`.
    pub(super) fn pin(&self, template: &mut Value, source: &str) {
        let Some(containers) = template["spec"]["containers"].as_array_mut() else { return };
        let Some(container) = containers.iter_mut().find(|one| one["name"] == self.container.as_str()) else { return };
        match &self.place {
            Place::Argument(index) => container["args"][*index] = json!(source),
            Place::Joined(index) => container["args"][*index] = json!(format!("{FLAG}={source}")),
            Place::Variable(name) => {
                let given = container["env"].as_array_mut();
                if let Some(given) = given.and_then(|given| given.iter_mut().find(|one| one["name"] == *name)) {
                    given["value"] = json!(source);
                }
            }
        }
    }

    /// The fields of a Deployment that bring its pods to `source`, for server-side apply. One that follows the alias is
    /// let begin anew.
    pub(super) fn change(&self, template: &Value, follows: Follows, source: &str) -> Value {
        let mut change = json!({"metadata": {"annotations": {SERVES: source}}});
        if follows == Follows::Alias {
            return change;
        }
        let container = match &self.place {
            Place::Variable(variable) => json!({
                "name": self.container, "env": [{"name": variable, "value": source}]
            }),
            Place::Argument(_) | Place::Joined(_) => {
                let mut pinned = template.clone();
                self.pin(&mut pinned, source);
                let containers = pinned["spec"]["containers"].as_array().cloned().unwrap_or_default();
                let own = containers.into_iter().find(|one| one["name"] == self.container.as_str());
                json!({"name": self.container, "args": own.map(|mut own| own["args"].take())})
            }
        };
        change["spec"] = json!({"containers": [container]});
        change
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn template(container: Value) -> Value {
        json!({"spec": {"containers": [{"name": "proxy"}, container]}})
    }

    #[test]
    fn the_model_is_found_where_the_program_would_look_for_it() {
        let by_variable =
            json!({"name": "safari", "env": [{"name": "MODEL_PATH", "value": "models:/wildlife@champion"}]});
        let by_flag = json!({"name": "safari", "args": ["serve", "--model", "models:/wildlife/3"],
                             "env": [{"name": "MODEL_PATH", "value": "shipped"}]});
        let joined = json!({"name": "safari", "args": ["--model=models:/wildlife/3", "serve"]});
        let found = |container: &Value| Serving::of(&template(container.clone())).unwrap();
        let follows = |container: &Value| found(container).follows("wildlife", "champion");
        assert_eq!(follows(&by_variable), Ok(Follows::Alias));
        assert_eq!(follows(&by_flag), Ok(Follows::Version(VersionNumber(3))));
        assert_eq!(follows(&joined), Ok(Follows::Version(VersionNumber(3))));
        assert!(found(&by_flag).follows("birds", "champion").unwrap_err().contains("serve models:/wildlife/3"));
        assert!(found(&by_variable).follows("wildlife", "challenger").is_err());

        for container in [by_variable, by_flag, joined] {
            let mut pinned = template(container);
            Serving::of(&pinned).unwrap().pin(&mut pinned, "models:/wildlife/4");
            assert_eq!(Serving::of(&pinned).unwrap().model, "models:/wildlife/4");
        }
    }

    #[test]
    fn what_is_not_said_is_told() {
        let refused = |container: Value| Serving::of(&template(container)).unwrap_err();
        assert!(refused(json!({"name": "other"})).contains("no container is called `safari`"));
        assert!(refused(json!({"name": "safari", "args": ["serve", "--model"]})).contains("does not say"));
        let elsewhere = json!({"name": "safari", "env": [{"name": "SAFARI_MODEL", "valueFrom": {}}]});
        assert!(refused(elsewhere).contains("takes SAFARI_MODEL from another object"));
    }

    #[test]
    fn a_change_names_no_more_than_it_changes() {
        let given = template(json!({"name": "safari", "env": [{"name": "MODEL_PATH", "value": "models:/wildlife/1"}]}));
        let serving = Serving::of(&given).unwrap();
        let changed = serving.change(&given, Follows::Version(VersionNumber(1)), "models:/wildlife/2");
        let env = json!([{"name": "MODEL_PATH", "value": "models:/wildlife/2"}]);
        assert_eq!(changed["spec"]["containers"], json!([{"name": "safari", "env": env}]));
        let anew = serving.change(&given, Follows::Alias, "models:/wildlife/2");
        assert_eq!(anew, json!({"metadata": {"annotations": {"safari/serves": "models:/wildlife/2"}}}));
        let given =
            template(json!({"name": "safari", "args": ["serve", "--model", "models:/wildlife/1", "--listen", "a"]}));
        let serving = Serving::of(&given).unwrap();
        let changed = serving.change(&given, Follows::Version(VersionNumber(1)), "models:/wildlife/2");
        let args = json!(["serve", "--model", "models:/wildlife/2", "--listen", "a"]);
        assert_eq!(changed["spec"]["containers"][0]["args"], args);
    }
}
