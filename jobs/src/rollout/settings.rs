//! The keys of `with` for `rollout`.

use std::path::Path;

use model_registry::VersionNumber;
use rollout::Plan;
use rollout::fleet::{Place, Target};
use rollout::plan::Changes;
use serde_json::Value;
use url::Url;

use crate::with::{Keys, Templates, wrong};

const KEYS: [&str; 19] = [
    "name",
    "version",
    "alias",
    "replicas",
    "deployment",
    "namespace",
    "service",
    "route",
    "plan",
    "steps",
    "pause",
    "patience",
    "max_error_rate",
    "max_p99",
    "max_drift",
    "min_answers",
    "prometheus",
    "prometheus_match",
    "actor",
];

/// The alias that replicas follow unless the task says otherwise.
const ALIAS: &str = "champion";

/// Which version to bring to which replicas, and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// The registered model.
    pub(super) name: String,
    pub(super) version: VersionNumber,
    pub(super) alias: String,
    pub(super) replicas: Vec<Url>,
    /// A Deployment of Kubernetes in the place of replicas.
    pub(super) target: Option<Target>,
    /// A file of this machine.
    pub(super) plan: Option<String>,
    pub(super) changes: Changes,
    pub(super) actor: Option<String>,
}

impl Settings {
    /// Reads `with`; values that are templates still are left out.
    pub(super) fn read(with: &Value, templates: Templates) -> Result<Self, String> {
        let keys = Keys::new(with, &KEYS, templates)?;
        for key in ["name", "version"] {
            keys.require(key)?;
        }
        let settings = Self {
            name: keys.filled_text("name")?.unwrap_or_default().to_owned(),
            version: version(&keys)?,
            alias: keys.filled_text("alias")?.unwrap_or(ALIAS).to_owned(),
            replicas: replicas(&keys)?,
            target: target(&keys)?,
            plan: keys.some_text("plan")?,
            changes: changes(&keys)?,
            actor: keys.some_text("actor")?,
        };
        if with.get("replicas").is_some() && with.get("deployment").is_some() {
            return Err("give `replicas` or `deployment`, not both".to_owned());
        }
        // The file may be there only where the task runs.
        let is_there = settings.plan.as_ref().is_none_or(|path| Path::new(path).exists());
        if templates == Templates::Rendered || is_there {
            let plan = settings.plan()?;
            let is_said = with.get("replicas").is_some() || with.get("deployment").is_some();
            if templates == Templates::Rendered || !is_said {
                settings.place(&plan)?;
            }
        }
        Ok(settings)
    }

    /// Where the keys say, else where the plan's file says.
    pub(super) fn place(&self, plan: &Plan) -> Result<Place, String> {
        if let Some(target) = self.target.as_ref().or(plan.kubernetes.as_ref().filter(|_| self.replicas.is_empty())) {
            return Ok(Place::Kubernetes(target.clone()));
        }
        match self.replicas.is_empty() {
            true => Err("`replicas` or `deployment` is missing: name where the model is served".to_owned()),
            false => Ok(Place::Replicas(self.replicas.clone())),
        }
    }

    /// The plan; a file is read now.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        let plan = match &self.plan {
            None => Plan::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("the plan {path} cannot be read: {error}"))?;
                Plan::parse(path, &text).map_err(|error| error.to_string())?
            }
        };
        plan.with(&self.changes).map_err(|error| error.to_string())
    }
}

/// A number, also as a text.
fn version(keys: &Keys<'_>) -> Result<VersionNumber, String> {
    let Some(value) = keys.value("version") else { return Ok(VersionNumber(1)) };
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok()).filter(|number| *number > 0);
    number.map(VersionNumber).ok_or_else(|| wrong("version", "the number of a version", value))
}

fn replicas(keys: &Keys<'_>) -> Result<Vec<Url>, String> {
    let read =
        |text: String| text.parse().map_err(|_| format!("`replicas`: `{text}` is no URL; write http://HOST:PORT"));
    keys.texts("replicas")?.unwrap_or_default().into_iter().map(read).collect()
}

fn target(keys: &Keys<'_>) -> Result<Option<Target>, String> {
    let of = |key: &str| keys.some_text(key);
    let (namespace, service, route) = (of("namespace")?, of("service")?, of("route")?);
    match of("deployment")? {
        Some(deployment) => Ok(Some(Target { namespace, deployment, service, route })),
        None if namespace.is_some() || service.is_some() || route.is_some() => {
            Err("`namespace`, `service` and `route` belong to a `deployment`".to_owned())
        }
        None => Ok(None),
    }
}

fn changes(keys: &Keys<'_>) -> Result<Changes, String> {
    let time = |key: &str| {
        let Some(text) = keys.text(key)? else { return Ok(None) };
        rollout::plan::parse_time(text).map(Some).map_err(|error| format!("`{key}`: {error}"))
    };
    let number = |key: &str| match keys.value(key) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(key, "a number", value)),
    };
    let percent = |text: String| text.parse().map_err(|_| format!("`steps`: `{text}` is no percent from 1 to 100"));
    let steps = keys.texts("steps")?.map(|steps| steps.into_iter().map(percent).collect::<Result<Vec<u8>, String>>());
    let min_answers = match keys.value("min_answers") {
        None => None,
        Some(value) => Some(value.as_u64().ok_or_else(|| wrong("min_answers", "a whole number", value))?),
    };
    Ok(Changes {
        steps: steps.transpose()?,
        pause: time("pause")?,
        patience: time("patience")?,
        max_error_rate: number("max_error_rate")?,
        max_p99: time("max_p99")?,
        max_drift: number("max_drift")?,
        min_answers,
        prometheus: keys.some_text("prometheus")?,
        prometheus_match: keys.some_text("prometheus_match")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn read(more: Value) -> Result<Settings, String> {
        let mut with = json!({"name": "wildlife", "version": 8, "replicas": ["http://127.0.0.1:8080"]});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Settings::read(&with, Templates::Unrendered)
    }

    #[test]
    fn keys_make_a_plan() {
        let settings = read(json!({"steps": [10, 100], "pause": "5m", "max_p99": "500ms"})).unwrap();
        assert_eq!((settings.alias.as_str(), settings.version), ("champion", VersionNumber(8)));
        let plan = settings.plan().unwrap();
        assert_eq!(plan.steps.len(), 2);
        assert_eq!(
            (plan.steps[0].pause, plan.limits.max_p99),
            (Duration::from_secs(300), Some(Duration::from_millis(500)))
        );
        assert!(read(json!({"version": "{{ tasks.register.output.version }}"})).is_ok());
    }

    #[test]
    fn a_deployment_stands_in_the_place_of_replicas() {
        let with = json!({"name": "wildlife", "version": 8, "deployment": "detection", "prometheus": "http://p:9090"});
        let settings = Settings::read(&with, Templates::Rendered).unwrap();
        let plan = settings.plan().unwrap();
        let Place::Kubernetes(target) = settings.place(&plan).unwrap() else { panic!("no Deployment") };
        assert_eq!((target.deployment.as_str(), target.route), ("detection", None));
        assert_eq!(plan.prometheus.unwrap().url.as_str(), "http://p:9090/");
        assert!(read(json!({"deployment": "detection"})).unwrap_err().contains("not both"));
        assert!(read(json!({"route": "detection"})).unwrap_err().contains("belong to a `deployment`"));
        let nowhere = json!({"name": "wildlife", "version": 8});
        assert!(Settings::read(&nowhere, Templates::Unrendered).unwrap_err().contains("is missing"));
    }

    #[test]
    fn mistakes_are_told_when_the_dag_is_checked() {
        assert!(read(json!({"steps": [10]})).unwrap_err().contains("the last step is 100"));
        assert!(read(json!({"pause": "soon"})).unwrap_err().contains("`pause`"));
        assert!(read(json!({"replicas": ["no url"]})).unwrap_err().contains("`replicas`"));
        assert!(read(json!({"percent": 5})).unwrap_err().contains("unknown key `percent`"));
        assert!(read(json!({"max_drift": "much"})).unwrap_err().contains("`max_drift`"));
    }
}
