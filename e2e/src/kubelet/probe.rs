//! A container's readiness probe over HTTP.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How a container is asked whether it is ready.
pub(super) struct Probe {
    client: reqwest::Client,
    url: String,
    period: Duration,
}

impl Probe {
    /// The probe of a container, if it has one.
    pub(super) fn of(container: &Container, address: &str) -> Option<Self> {
        let probe = container.readiness_probe.as_ref()?;
        let asked = probe.http_get.as_ref()?;
        let port = match &asked.port {
            IntOrString::Int(number) => *number,
            IntOrString::String(name) => {
                let mut ports = container.ports.iter().flatten();
                ports.find(|port| port.name.as_deref() == Some(name))?.container_port
            }
        };
        let patience = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1));
        let client = reqwest::Client::builder().no_proxy().timeout(patience).build().ok()?;
        let url = format!("http://{address}:{port}{}", asked.path.as_deref().unwrap_or("/"));
        let period = Duration::from_secs(u64::try_from(probe.period_seconds.unwrap_or(10)).unwrap_or(10));
        Some(Self { client, url, period })
    }

    /// Waits until the answer is another than it was.
    pub(super) async fn next(&self, was_ready: bool) -> bool {
        loop {
            let answer = self.client.get(&self.url).send().await;
            let is_ready = answer.is_ok_and(|answer| answer.status().is_success());
            if is_ready != was_ready {
                return is_ready;
            }
            tokio::time::sleep(self.period).await;
        }
    }
}
