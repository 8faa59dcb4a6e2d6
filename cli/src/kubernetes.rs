//! Settings of the Kubernetes executor, as the pipeline takes them.

use std::time::Duration;

use pipeline::dag::{Dag, ExecutorKind};
use pipeline::kubernetes::Template;
use pipeline::{KubernetesOptions, RunnerOptions};
use platform::config::{Config, DefaultExecutor};

use crate::error::{Error, Result};
use crate::registry::known_secrets;

/// What the executor is to do.
pub(crate) fn options(config: &Config) -> Result<KubernetesOptions> {
    let settings = &config.kubernetes;
    let usual = RunnerOptions::new(&config.home);
    Ok(KubernetesOptions {
        namespace: given(&settings.namespace),
        kubeconfig: settings.kubeconfig.clone(),
        parallelism: settings.parallelism,
        template: template(config)?,
        owner: given(&settings.owner),
        pending: Duration::from_secs(settings.pending_seconds),
        keep: keep(config),
        is_default: default_executor(config) == ExecutorKind::Kubernetes,
        lease: Duration::from_secs(config.run.lease_seconds),
        grace: usual.grace,
        max_lost: usual.max_lost,
        known_secrets: known_secrets(config),
    })
}

/// Who does tasks that do not say where they run.
pub(crate) fn default_executor(config: &Config) -> ExecutorKind {
    match config.run.executor {
        DefaultExecutor::Worker => ExecutorKind::Worker,
        DefaultExecutor::Kubernetes => ExecutorKind::Kubernetes,
    }
}

/// The Jobs of a DAG's tasks as YAML.
pub(crate) fn render(dag: &Dag, task: Option<&str>, config: &Config) -> Result<String> {
    let namespace = given(&config.kubernetes.namespace).unwrap_or_else(|| "default".to_owned());
    let is_default = default_executor(config) == ExecutorKind::Kubernetes;
    pipeline::kubernetes::render(dag, task, &namespace, &template(config)?, keep(config), is_default)
        .map_err(Error::Render)
}

fn template(config: &Config) -> Result<Template> {
    let settings = &config.kubernetes;
    let template = Template {
        image: given(&settings.image),
        service_account: given(&settings.service_account),
        secret: given(&settings.secret),
        ..Template::default()
    };
    Ok(match &settings.pod_template {
        Some(path) => template.with_file(path)?,
        None => template,
    })
}

fn keep(config: &Config) -> Duration {
    Duration::from_secs(config.kubernetes.keep_seconds)
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
