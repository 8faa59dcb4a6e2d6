//! Which Deployment a rollout is for.

use serde::{Deserialize, Serialize};

/// A Deployment of `safari serve`, and the objects that bring requests to it. In a plan's file: `kubernetes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The namespace of all of them; none: that of the settings. A rollout that has begun names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The Deployment.
    pub deployment: String,
    /// The Service of its pods; none: it has the Deployment's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The HTTPRoute that brings requests to the Service; none: it has the Deployment's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

impl Target {
    /// The Service of the stable pods.
    pub(super) fn service(&self) -> &str {
        self.service.as_deref().unwrap_or(&self.deployment)
    }

    /// The HTTPRoute.
    pub(super) fn route(&self) -> &str {
        self.route.as_deref().unwrap_or(&self.deployment)
    }

    /// The Deployment of the candidate's pods.
    pub(super) fn canary(&self) -> String {
        format!("{}-canary", self.deployment)
    }

    /// The Service of the candidate's pods.
    pub(super) fn canary_service(&self) -> String {
        format!("{}-canary", self.service())
    }
}
