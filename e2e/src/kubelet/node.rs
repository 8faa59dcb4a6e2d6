//! The node object, and the lease that says that it lives.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use super::NodeOptions;
use crate::Result;
use crate::error::kubernetes;

/// How often a kubelet renews its lease.
const BEAT: Duration = Duration::from_secs(5);

/// Registers a node that is ready.
pub(super) async fn register(client: &Client, name: &str, options: &NodeOptions, port: u16) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut labels = options.labels.clone();
    labels.insert("kubernetes.io/hostname".to_owned(), name.to_owned());
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    let node =
        serde_json::from_value(node).map_err(|error| kubernetes("describe a node")(kube::Error::SerdeError(error)))?;
    nodes.create(&PostParams::default(), &node).await.map_err(kubernetes("register a node"))?;
    let mut has = json!({"cpu": "64", "memory": "256Gi", "pods": options.pods.max(1).to_string()});
    if options.gpus > 0 {
        has["nvidia.com/gpu"] = json!(options.gpus.to_string());
    }
    let status = json!({"status": {
        "capacity": has,
        "allocatable": has,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "process://1", "kernelVersion": "",
            "kubeProxyVersion": "v1.20.2", "kubeletVersion": "v1.20.2", "machineID": "", "operatingSystem": "linux",
            "osImage": "", "systemUUID": "",
        },
        "conditions": conditions(),
    }});
    let params = PatchParams::default();
    nodes.patch_status(name, &params, &Patch::Merge(status)).await.map_err(kubernetes("tell of a node"))?;
    renew(client, name).await.map_err(kubernetes("renew the lease of a node"))
}

/// Says that the node lives until it does not.
pub(super) async fn keep_ready(client: Client, name: String, mut unplugged: watch::Receiver<bool>) {
    let nodes: Api<Node> = Api::all(client.clone());
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            _ = unplugged.wait_for(|unplugged| *unplugged) => return,
        }
        // An API server that is away is asked again.
        let _ = renew(&client, &name).await;
        let status = Patch::Strategic(json!({"status": {"conditions": conditions()}}));
        let _ = nodes.patch_status(&name, &PatchParams::default(), &status).await;
    }
}

async fn renew(client: &Client, name: &str) -> kube::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": format!("{:.6}", Timestamp::now())},
    });
    leases.patch(name, &PatchParams::apply("kubelet").force(), &Patch::Apply(lease)).await.map(drop)
}

fn conditions() -> serde_json::Value {
    let now = format!("{:.0}", Timestamp::now());
    json!([{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }])
}
