"""Server-side apply of everything on a real control plane, which then makes the pods and places them.

It is Kubernetes 1.20: what came later is mapped back, and nothing else may be lost on the way."""

import copy
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from .objects import KUBECTL, ROOT, SETS, Mistakes, name_of, pod_of, rendered
from .schemas import OTHERS

DEADLINE = 60
# Versions of today, and those of 1.20 with the same fields.
OLDER = {
    ("PodDisruptionBudget", "policy/v1"): "policy/v1beta1",
    ("HorizontalPodAutoscaler", "autoscaling/v2"): "autoscaling/v2beta2",
    ("CronJob", "batch/v1"): "batch/v1beta1",
}


def find():
    """The control plane's script; none where it is not."""
    named = os.environ.get("SAFARI_CONTROL_PLANE")
    # In a checkout, and in a worktree beside it.
    places = [Path(named)] if named else [ROOT.parent / "shared/k8s/control-plane"]
    return next((place for place in places if place.is_file()), None)


def check(script):
    """Each set on a control plane of its own: two of them have the same volume otherwise."""
    mistakes, count = Mistakes(), 0
    for folder in SETS:
        with tempfile.TemporaryDirectory() as place:
            subprocess.run([script, "start", place, str(free_port())], check=True, stdout=subprocess.DEVNULL)
            try:
                count += applied(Cluster(place), folder, mistakes)
            except SystemExit:
                print((Path(place) / "apiserver.log").read_text()[-2000:])
                raise
            finally:
                subprocess.run([script, "stop", place], check=True)
    return mistakes, f"{count} objects applied on Kubernetes 1.20, nothing lost but preStop.sleep, zones of CronJobs and the time after which a Job goes; one detection pod a node"


class Cluster:
    def __init__(self, folder):
        self.args = [KUBECTL, f"--kubeconfig={folder}/kubeconfig", f"--cache-dir={folder}/cache"]

    def run(self, *args, given=None):
        return subprocess.run([*self.args, *args], input=given, capture_output=True, text=True)

    def apply(self, objects):
        text = yaml.safe_dump_all(objects)
        return self.run("apply", "--server-side", "--field-manager=check", "--validate=false", "-f", "-", given=text)

    def get(self, *args):
        told = self.run("get", *args, "-o", "json")
        if told.returncode != 0:
            raise SystemExit(f"error: kubectl get {' '.join(args)}: {told.stderr}")
        return json.loads(told.stdout)

    def wait(self, what, seen):
        """Asks until `seen()` is true."""
        until = time.monotonic() + DEADLINE
        while not seen():
            if time.monotonic() > until:
                return f"{what} did not come true within {DEADLINE} s"
            time.sleep(0.2)
        return None


def applied(cluster, folder, mistakes):
    objects = [older(one) for one in rendered(folder) if not of_others(one)]
    first = [one for one in objects if one["kind"] == "Namespace"]
    # A set may stand beside another one, whose namespace it uses.
    there = {one["metadata"]["name"] for one in first}
    used = {one["metadata"]["namespace"] for one in objects if "namespace" in one["metadata"]}
    first += [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in used - there]
    for some in (first, objects):
        told = cluster.apply(some) if some else None
        if told and told.returncode != 0:
            raise SystemExit(f"error: {folder} cannot be applied: {told.stderr.strip()}")
    kept(cluster, folder, objects, mistakes)
    if folder == "overlays/production":
        placed(cluster, mistakes)
    return len(objects)


def kept(cluster, folder, objects, mistakes):
    """What the server has of an object is what was given."""
    for one in objects:
        at = [f"--namespace={one['metadata']['namespace']}"] if "namespace" in one["metadata"] else []
        group = one["apiVersion"].rpartition("/")[0]
        kind = f"{one['kind']}.{one['apiVersion'].rpartition('/')[2]}.{group}" if group else one["kind"]
        has = cluster.get(kind, one["metadata"]["name"], *at)
        for path in lost(one, has, ""):
            mistakes.append(f"{folder}: {name_of(one)}: the server dropped {path}")


def lost(given, has, path):
    """Paths of what is in `given` and not in `has`; quantities and times may be written otherwise."""
    if isinstance(given, dict):
        for key, value in given.items():
            if value in (None, {}, []):
                continue
            if not isinstance(has, dict) or key not in has:
                yield f"{path}/{key}"
            else:
                yield from lost(value, has[key], f"{path}/{key}")
    elif isinstance(given, list):
        if not isinstance(has, list) or len(has) != len(given):
            yield path
            return
        for number, value in enumerate(given):
            yield from lost(value, has[number], f"{path}/{number}")


def older(one):
    one = copy.deepcopy(one)
    one["apiVersion"] = OLDER.get((one["kind"], one["apiVersion"]), one["apiVersion"])
    # Of 1.25; the clock of that control plane says UTC.
    if one["kind"] == "CronJob":
        one["spec"].pop("timeZone", None)
    # In 1.20 behind a gate.
    if one["kind"] == "Job":
        one["spec"].pop("ttlSecondsAfterFinished", None)
    # Server-side apply of 1.20 does not know the usual protocol.
    for port in one.get("spec", {}).get("ports", []) if one["kind"] == "Service" else []:
        port.setdefault("protocol", "TCP")
    pod = pod_of(one)
    if pod and one["kind"] != "ServingRuntime":
        for container in pod["containers"]:
            for port in container.get("ports", []):
                port.setdefault("protocol", "TCP")
            # The handler `sleep` is of 1.30.
            if "sleep" in container.get("lifecycle", {}).get("preStop", {}):
                del container["lifecycle"]
    return one


def of_others(one):
    """Kinds of Kong, the Prometheus operator and KServe. Their fields are held against k8s/tests/schemas alone: built with a Go
    of today, the API server of 1.20 dies in its encoder of objects without a type (reflect2 iterates maps of Go 1.18 wrongly)."""
    return one["apiVersion"].partition("/")[0].endswith(OTHERS)


def placed(cluster, mistakes):
    """Two nodes with a GPU and room for much: each gets one pod of detection, and the third waits."""
    room = {"cpu": "32", "memory": "128Gi", "pods": "110", "nvidia.com/gpu": "2"}
    for number in (1, 2):
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"gpu-{number}", "labels": {"safari/pool": "gpu", "kubernetes.io/hostname": f"gpu-{number}"}},
            "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        }
        cluster.run("create", "-f", "-", given=yaml.safe_dump(node))
        ready = {"status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}}
        told = patch_status(cluster, f"gpu-{number}", ready)
        mistakes.unless(told.returncode == 0, f"node gpu-{number}: {told.stderr}")
    chosen = "app.kubernetes.io/component=detection"
    pods = lambda: cluster.get("pods", "--namespace=safari", f"--selector={chosen}")["items"]
    where = lambda: sorted(pod["spec"]["nodeName"] for pod in pods() if "nodeName" in pod["spec"])
    late = cluster.wait("that each GPU node has a pod of detection", lambda: where() == ["gpu-1", "gpu-2"])
    mistakes.unless(late is None, f"{late}; they are on {where()}")
    held = lambda: [
        condition["message"]
        for pod in pods()
        for condition in pod.get("status", {}).get("conditions", [])
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]
    late = cluster.wait("that the third pod is held back for its anti-affinity", lambda: any("affinity" in one for one in held()))
    mistakes.unless(late is None, f"{late}: {held()}")
    deployments = [one for one in rendered("overlays/production") if one["kind"] == "Deployment"]
    for one in deployments:
        labels = ",".join(f"{key}={value}" for key, value in one["spec"]["selector"]["matchLabels"].items())
        made = lambda: len(cluster.get("pods", "--namespace=safari", f"--selector={labels}")["items"])
        late = cluster.wait(f"that {name_of(one)} has its pods", lambda: made() == one["spec"]["replicas"])
        mistakes.unless(late is None, late)


def patch_status(cluster, node, patch):
    return cluster.run("patch", "node", node, "--subresource=status", "--type=merge", "--patch", json.dumps(patch))


def free_port():
    """The first of five free ports in a row."""
    import socket

    for first in range(24000, 30000, 7):
        sockets = []
        try:
            for port in range(first, first + 5):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise SystemExit("error: no five free ports in a row")
