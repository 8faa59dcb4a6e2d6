//! Replicas on Kubernetes: a Deployment of the stable version, one of the candidate made of it, and weights in an HTTPRoute.
//!
//! Nothing is remembered here but for how long the candidate has been out of the route: what is to be done is found by
//! comparing the objects with what they should be, each time. So whoever goes on with a rollout finds how far it is, and
//! what others have changed is brought back.

mod canary;
mod cluster;
mod pods;
mod route;
mod serving;
mod target;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::DynamicObject;
use model_registry::VersionNumber;
use serde_json::json;
use url::Url;

use super::replica::Replica;
use super::{Behind, Cause, Counted, Fleet, Standing, Versions, client, source};
use crate::analysis::Counters;
use crate::{Error, Result, Tokens};
use canary::{CANARY, Canary, MANAGED_BY, PODS, TRACK};
use cluster::{Cluster, Found};
use route::Services;
use serving::{Follows, Serving};

pub use cluster::ClusterAccess;
pub use target::Target;

/// How long requests that came before the route was changed may take, before the pods that answer them are ended.
const DRAIN: Duration = Duration::from_secs(10);
/// On the stable Deployment: the version that its pods serve, or come to.
const SERVES: &str = "safari/serves";

/// Replicas on Kubernetes.
pub struct Kubernetes {
    cluster: Cluster,
    target: Target,
    alias: String,
    client: reqwest::Client,
    tokens: Tokens,
    /// Since when nothing is sent to the candidate.
    out_since: Mutex<Option<Instant>>,
}

impl Kubernetes {
    /// The replicas of a Deployment that serves what `alias` names. The API server is not asked yet.
    ///
    /// # Errors
    /// [`Error::Fleet`]: it is not known how to reach an API server.
    pub async fn open(target: &Target, alias: &str, access: &ClusterAccess, tokens: Tokens) -> Result<Self> {
        let cluster = Cluster::open(access, target.namespace.as_deref()).await?;
        let target = Target { namespace: Some(cluster.namespace.clone()), ..target.clone() };
        let alias = alias.to_owned();
        Ok(Self { cluster, target, alias, client: client()?, tokens, out_since: Mutex::default() })
    }

    /// The Deployment with the namespace that it is in.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether a rollout from `stable` on can begin: everything that it needs is there and fits.
    ///
    /// # Errors
    /// [`Error::Fleet`] with what is missing.
    pub async fn check(&self, model: &str, stable: VersionNumber) -> Result<()> {
        let found = self.find_all(model, stable).await;
        found.map_err(|behind| Error::Fleet(format!("{}: {}", behind.replica, behind.reason)))
    }

    async fn find_all(&self, model: &str, stable: VersionNumber) -> Result<(), Behind> {
        let deployment = self.cluster.deployment_there(&self.target.deployment).await?;
        self.serves(&deployment, model, stable)?;
        self.stable_service(&deployment).await?;
        self.ours_or_none(self.cluster.deployment(&self.target.canary()).await?.as_ref())?;
        let route = self.cluster.route_there(self.target.route()).await?;
        self.shared(&route, 100).map(drop)
    }

    /// Gives the candidate `percent` of the requests, as far as its pods are ready.
    async fn give_share(&self, versions: &Versions, percent: u8) -> Result<Standing, Behind> {
        *self.out_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let stable = self.cluster.deployment_there(&self.target.deployment).await?;
        let (serving, follows) = self.serves(&stable, &versions.model, versions.stable)?;
        let served = versions.source(versions.stable);
        if follows == Follows::Alias && serves(&stable.known) != Some(served.as_str()) {
            let note = json!({"metadata": {"annotations": {SERVES: served}}});
            self.cluster.change_deployment(&self.target.deployment, &note).await?;
        }
        let service = self.stable_service(&stable).await?;
        let before = self.cluster.deployment(&self.target.canary()).await?;
        self.ours_or_none(before.as_ref())?;
        let stable_pods = before
            .as_ref()
            .and_then(|canary| stable_pods(&canary.known))
            .unwrap_or(1)
            .max(pods::replicas(&stable.known));
        let canary = Canary {
            namespace: &self.cluster.namespace,
            stable: &stable.whole,
            serving: &serving,
            source: &versions.source(versions.candidate),
            pods: pods_for(stable_pods, percent),
            stable_pods,
        };
        let name = self.target.canary_service();
        self.cluster.apply_service(&name, &canary.service(&name, &service)).await?;
        let name = self.target.canary();
        let made = self.cluster.apply_deployment(&name, &canary.deployment(&name)).await?;
        let all = self.cluster.pods(&selector(&made.known, true)).await?;
        let ready: Vec<String> = all.iter().filter(|pod| pods::is_ready(pod)).map(ResourceExt::name_any).collect();
        if !pods::is_rolled_out(&made.known) {
            if ready.is_empty() {
                // Requests would be answered by nobody.
                self.out_of_route().await?;
            }
            return Err(pods::why(&made.known, &all));
        }
        let route = self.cluster.route_there(self.target.route()).await?;
        self.route_to(&route, percent).await?;
        Ok(Standing { there: ready, behind: Vec::new() })
    }

    /// Lets the stable Deployment come to `version`, then takes the candidate away.
    async fn bring_to(&self, model: &str, version: VersionNumber) -> Result<Standing, Behind> {
        let name = &self.target.deployment;
        let stable = self.cluster.deployment_there(name).await?;
        let serving = Serving::of(stable.template()).map_err(|reason| self.about_deployment(reason))?;
        let follows = serving.follows(model, &self.alias).map_err(|reason| self.about_deployment(reason))?;
        let wanted = source(model, version);
        let is_there = match follows {
            // One that no rollout has ever touched follows the alias all the while.
            Follows::Alias => serves(&stable.known).is_none_or(|serves| serves == wanted),
            Follows::Version(serves) => serves == version,
        };
        if !is_there {
            if !pods::is_gentle(&stable.known) {
                let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
                self.cluster.change_deployment(name, &json!({"spec": {"strategy": rolling}})).await?;
            }
            let fields = json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {
                    "name": name, "namespace": self.cluster.namespace, "annotations": {SERVES: wanted},
                },
                "spec": {"template": serving.change(stable.template(), follows, &wanted)},
            });
            self.cluster.apply_deployment(name, &fields).await?;
            return Err(self.about_deployment(format!("its pods begin anew with {wanted}")));
        }
        self.scale_back(&stable).await?;
        let all = self.cluster.pods(&selector(&stable.known, false)).await?;
        if !pods::is_rolled_out(&stable.known) {
            return Err(pods::why(&stable.known, &all));
        }
        self.put_away().await?;
        let ready = all.iter().filter(|pod| pods::is_ready(pod)).map(ResourceExt::name_any).collect();
        Ok(Standing { there: ready, behind: Vec::new() })
    }

    /// Takes the candidate away, whatever the stable version is.
    async fn take_away(&self) -> Result<Standing, Behind> {
        let name = &self.target.deployment;
        if let Some(stable) = self.cluster.deployment(name).await? {
            // Asked for, but not waited for: what is wrong with the candidate may be worse than fewer pods.
            let _ = self.scale_back(&stable).await;
        }
        self.put_away().await?;
        Ok(Standing { there: vec![name.clone()], behind: Vec::new() })
    }

    /// Takes the candidate out of the route, waits for what it still answers, and removes its objects.
    async fn put_away(&self) -> Result<(), Behind> {
        self.out_of_route().await?;
        let name = self.target.canary();
        let canary = self.cluster.deployment(&name).await?.filter(|canary| is_ours(&canary.known));
        if canary.is_some() {
            let since = *self.out_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
            if since.elapsed() < DRAIN {
                let reason = "it gets no requests any more; those that it still answers are waited for".to_owned();
                return Err(Behind { replica: format!("deployment {name}"), reason, cause: Cause::Soon });
            }
            self.cluster.remove_deployment(&name).await?;
        }
        let name = self.target.canary_service();
        let is_ours = |service: &Service| service.labels().get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1);
        if self.cluster.service(&name).await?.is_some_and(|service| is_ours(&service)) {
            self.cluster.remove_service(&name).await?;
        }
        Ok(())
    }

    /// Lets the route send nothing to the candidate. A route that is gone sends nothing.
    async fn out_of_route(&self) -> Result<(), Behind> {
        match self.cluster.route(self.target.route()).await? {
            Some(route)
                if route::reaches_canary(
                    &route.data["spec"]["rules"],
                    self.services(&self.target.canary_service()),
                ) =>
            {
                self.route_to(&route, 0).await
            }
            // Its rules may have changed, and gateways may not have seen that yet.
            Some(route) if route::has_gateway(&route.data) => self.observed(&route),
            _ => Ok(()),
        }
    }

    /// Gives a route its weights, and says whether its gateways have taken them.
    async fn route_to(&self, route: &DynamicObject, percent: u8) -> Result<(), Behind> {
        let rules = self.shared(route, percent)?;
        if rules == route.data["spec"]["rules"] {
            return self.observed(route);
        }
        let changed = self.cluster.apply_route(route, rules).await?;
        self.observed(&changed)
    }

    fn shared(&self, route: &DynamicObject, percent: u8) -> Result<serde_json::Value, Behind> {
        let canary = self.target.canary_service();
        route::share(&route.data["spec"]["rules"], self.services(&canary), percent)
            .map_err(|reason| self.about_route(reason))
    }

    fn observed(&self, route: &DynamicObject) -> Result<(), Behind> {
        let generation = route.metadata.generation.unwrap_or_default();
        route::observed(&route.data, generation).map_err(|reason| self.about_route(reason))
    }

    /// Gives the stable version the pods back that an autoscaler took away while the candidate answered.
    async fn scale_back(&self, stable: &Found) -> Result<(), Behind> {
        let canary = self.cluster.deployment(&self.target.canary()).await?;
        let Some(before) = canary.and_then(|canary| stable_pods(&canary.known)) else { return Ok(()) };
        let now = pods::replicas(&stable.known);
        if now >= before {
            return Ok(());
        }
        self.cluster.change_deployment(&self.target.deployment, &json!({"spec": {"replicas": before}})).await?;
        Err(self.about_deployment(format!("it has {now} pods, and gets the {before} back that it had")))
    }

    /// How the stable Deployment comes to a version, if it serves what is to be replaced.
    fn serves(&self, stable: &Found, model: &str, version: VersionNumber) -> Result<(Serving, Follows), Behind> {
        let read = || {
            let serving = Serving::of(stable.template())?;
            match serving.follows(model, &self.alias)? {
                Follows::Version(other) if other != version => {
                    Err(format!("its pods serve version {other}, not version {version}, which is to be replaced"))
                }
                follows => Ok((serving, follows)),
            }
        };
        read().map_err(|reason| self.about_deployment(reason))
    }

    async fn stable_service(&self, stable: &Found) -> Result<Service, Behind> {
        let name = self.target.service();
        let service = self.cluster.service_there(name).await?;
        let fits = canary::check(&service, stable.template());
        fits.map_err(|reason| Behind { replica: format!("service {name}"), reason, cause: Cause::NotYet })?;
        Ok(service)
    }

    /// An object with the candidate's name that is none of ours is left alone.
    fn ours_or_none(&self, canary: Option<&Found>) -> Result<(), Behind> {
        match canary {
            Some(canary) if !is_ours(&canary.known) => Err(Behind {
                replica: format!("deployment {}", self.target.canary()),
                reason: "it was not made by a rollout; give it another name".to_owned(),
                cause: Cause::Refused,
            }),
            _ => Ok(()),
        }
    }

    fn services<'a>(&'a self, canary: &'a str) -> Services<'a> {
        Services { namespace: &self.cluster.namespace, stable: self.target.service(), canary }
    }

    fn about_deployment(&self, reason: String) -> Behind {
        Behind { replica: format!("deployment {}", self.target.deployment), reason, cause: Cause::NotYet }
    }

    fn about_route(&self, reason: String) -> Behind {
        Behind { replica: format!("route {}", self.target.route()), reason, cause: Cause::NotYet }
    }

    /// What the pods of both versions have counted, each of its own version alone.
    async fn count(&self, versions: &Versions) -> Result<Vec<Counted>, Behind> {
        let (stable, candidate) = (versions.source(versions.stable), versions.source(versions.candidate));
        let deployment = self.cluster.deployment_there(&self.target.deployment).await?;
        let service = self.cluster.service_there(self.target.service()).await?;
        let of_stable = self.cluster.pods(&selector(&deployment.known, false)).await?;
        let canary = self.cluster.deployment(&self.target.canary()).await?;
        let of_canary = match &canary {
            Some(canary) => self.cluster.pods(&selector(&canary.known, true)).await?,
            None => Vec::new(),
        };
        let all = of_stable.iter().map(|pod| (pod, false)).chain(of_canary.iter().map(|pod| (pod, true)));
        let asked = all
            .filter(|(pod, _)| pods::is_ready(pod))
            .map(|(pod, is_canary)| self.count_one(&service, pod, is_canary, (stable.as_str(), candidate.as_str())));
        let answers: Vec<Result<Counted, Behind>> = join_all(asked).await;
        let failure = answers.iter().find_map(|answer| answer.as_ref().err()).cloned();
        let counted: Vec<Counted> = answers.into_iter().filter_map(Result::ok).collect();
        match failure {
            Some(failure) if counted.is_empty() => Err(failure),
            _ => Ok(counted),
        }
    }

    async fn count_one(
        &self,
        service: &Service,
        pod: &Pod,
        is_canary: bool,
        (stable, candidate): (&str, &str),
    ) -> Result<Counted, Behind> {
        let counted = self.replica(service, pod)?.counted(stable, candidate).await?;
        let replica = pod.name_any();
        Ok(match is_canary {
            true => Counted { replica, stable: Counters::default(), ..counted },
            false => Counted { replica, candidate: Counters::default(), ..counted },
        })
    }

    fn replica(&self, service: &Service, pod: &Pod) -> Result<Replica, Behind> {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        let host = if address.contains(':') { format!("[{address}]") } else { address };
        let url: Option<Url> = pods::port(service, pod).and_then(|port| format!("http://{host}:{port}").parse().ok());
        let url = url.ok_or_else(|| Behind {
            replica: format!("pod {}", pod.name_any()),
            reason: format!("it has no address, or none of its ports is that of service {}", self.target.service()),
            cause: Cause::NotYet,
        })?;
        let token = self.tokens.for_server(&url);
        Ok(Replica::new(self.client.clone(), url, token))
    }
}

#[async_trait]
impl Fleet for Kubernetes {
    async fn share(&self, versions: &Versions, percent: u8) -> Result<Standing> {
        Ok(self.give_share(versions, percent).await.unwrap_or_else(Standing::only))
    }

    async fn withdraw(&self) -> Result<Standing> {
        Ok(self.take_away().await.unwrap_or_else(Standing::only))
    }

    async fn counted(&self, versions: &Versions) -> Result<Vec<Counted>> {
        self.count(versions).await.map_err(|behind| {
            Error::Fleet(format!(
                "{}: {} (pods are asked by their addresses: drive rollouts inside of the cluster, or name a Prometheus)",
                behind.replica, behind.reason
            ))
        })
    }

    async fn agree(&self, model: &str, version: VersionNumber) -> Result<Standing> {
        Ok(self.bring_to(model, version).await.unwrap_or_else(Standing::only))
    }

    fn needs_a_driver(&self) -> bool {
        true
    }
}

/// How many pods answer `percent` of what `pods` answer.
fn pods_for(pods: i32, percent: u8) -> i32 {
    (pods.saturating_mul(i32::from(percent)) + 99).div_euclid(100).max(1)
}

fn is_ours(deployment: &Deployment) -> bool {
    deployment.labels().get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1)
}

fn stable_pods(canary: &Deployment) -> Option<i32> {
    canary.annotations().get(PODS)?.parse().ok()
}

fn serves(stable: &Deployment) -> Option<&str> {
    stable.annotations().get(SERVES).map(String::as_str)
}

/// The labels by which a Deployment chooses its pods. Those of the stable one may be those of the candidate's as well.
fn selector(deployment: &Deployment, is_canary: bool) -> String {
    let labels: BTreeMap<String, String> =
        deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    let mut parts: Vec<String> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !is_canary {
        parts.push(format!("{TRACK}!={CANARY}"));
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_as_many_pods_as_it_needs() {
        let cases = [(3, 5, 1), (3, 33, 1), (3, 34, 2), (3, 100, 3), (0, 50, 1), (10, 25, 3)];
        for (pods, percent, expected) in cases {
            assert_eq!(pods_for(pods, percent), expected, "{percent} of {pods}");
        }
    }
}
