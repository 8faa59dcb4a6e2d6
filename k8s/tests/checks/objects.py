"""What kustomize makes of the folders, and small questions about it."""

import functools
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "k8s"
KUBECTL = ROOT / ".venv/bin/kubectl"
# What an operator applies.
SETS = ("overlays/local", "overlays/production", "overlays/jobs", "overlays/rollouts", "kserve")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


class Mistakes(list):
    """What is wrong, one line each."""

    def unless(self, good, text):
        if not good:
            self.append(text)


@functools.cache
def rendered(folder):
    """The objects of a folder of `SETS`, as `kubectl kustomize` prints them."""
    made = subprocess.run([KUBECTL, "kustomize", K8S / folder], capture_output=True, text=True)
    if made.returncode != 0:
        raise SystemExit(f"error: kubectl kustomize {folder}: {made.stderr}")
    return [one for one in yaml.safe_load_all(made.stdout) if one]


def everything():
    """Folder and object, for all folders."""
    return [(folder, one) for folder in SETS for one in rendered(folder)]


def name_of(one):
    return f"{one['kind']}/{one['metadata']['name']}"


def pod_of(one):
    """The pod's spec of a workload; none for other kinds."""
    if one["kind"] == "Pod":
        return one["spec"]
    if one["kind"] in WORKLOADS:
        return template_of(one)["spec"]
    if one["kind"] == "ServingRuntime":
        return one["spec"]
    return None


def template_of(one):
    """What a workload makes its pods of."""
    spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
    return spec["template"]


def containers_of(pod):
    return pod.get("initContainers", []) + pod["containers"]


def pods():
    """Folder, object and pod of everything that makes pods."""
    return [(folder, one, pod) for folder, one in everything() if (pod := pod_of(one)) is not None]
