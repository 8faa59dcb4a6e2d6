"""What the manifests say to our program: flags, variables, paths. The program itself is asked."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from .objects import ROOT, Mistakes, containers_of, name_of, pods, rendered

# In the place of secrets, in their forms.
STAND_INS = {
    "state-url": "postgres://safari@127.0.0.1:1/safari",
    "registry-url": "postgres://safari@127.0.0.1:1/registry",
    "collections-url": "postgres://safari@127.0.0.1:1/collections",
    "identity": "sixteen-or-more-characters",
    "registry": "sixteen-or-more-characters",
    # Of age's own documentation.
    "recipients": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
}


def check(safari):
    mistakes, asked = Mistakes(), 0
    for folder, one, pod in pods():
        for container in containers_of(pod):
            if "/safari-" not in container["image"]:
                continue
            where = f"{folder}: {name_of(one)}, container {container['name']}"
            variables = environment(folder, container)
            with tempfile.TemporaryDirectory() as home:
                settings(safari, home, variables, where, mistakes)
                # Arguments that come before --help are read first: what is not known is refused.
                told = run(safari, [*container["args"], "--help"], home, {})
                mistakes.unless(told.returncode == 0, f"{where}: safari {' '.join(container['args'])}: {told.stderr.strip()}")
            asked += 1
    pods_of_attempts(safari, mistakes)
    return mistakes, f"safari knows the arguments and variables of {asked} containers"


def pods_of_attempts(safari, mistakes):
    """The program reads the pod template, and makes a Job of it."""
    template = next(one["data"]["pod.yaml"] for one in rendered("overlays/jobs") if "pod.yaml" in one.get("data", {}))
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "pod.yaml").write_text(template)
        variables = {"SAFARI_KUBERNETES_POD_TEMPLATE": f"{home}/pod.yaml", "SAFARI_RUN_EXECUTOR": "kubernetes"}
        told = run(safari, ["dag", "render", ROOT / "dags/detect.yaml"], home, variables)
        made = told.stdout.count("kind: Job")
        mistakes.unless(told.returncode == 0 and made == 3, f"safari dag render made {made} Jobs: {told.stderr.strip()}")


def environment(folder, container):
    variables = {}
    maps = {one["metadata"]["name"]: one["data"] for one in rendered(folder) if one["kind"] == "ConfigMap"}
    for source in container.get("envFrom", []):
        variables.update(maps[source["configMapRef"]["name"]])
    for variable in container.get("env", []):
        reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
        variables[variable["name"]] = variable.get("value") or STAND_INS.get(reference.get("key"), "a-secret")
    return variables


def settings(safari, home, variables, where, mistakes):
    shown = run(safari, ["config", "show"], home, variables)
    if shown.returncode != 0:
        mistakes.append(f"{where}: {shown.stderr.strip()}")
        return
    # A variable that is no setting is named otherwise here, or it would be passed over in silence.
    known = ("SAFARI_IDENTITY_SECRET_KEY", "SAFARI_REGISTRY_SECRET_KEY", "SAFARI_TOKEN", "AWS_REGION", "SAFARI_HOME")
    for name in variables:
        used = name in known or re.search(rf"\b{name}\b", shown.stdout)
        mistakes.unless(used, f"{where}: `safari config show` does not name {name}")


def run(safari, args, home, variables):
    usual = {key: value for key, value in os.environ.items() if not key.startswith(("SAFARI_", "MODEL_", "AWS_"))}
    return subprocess.run([safari, *args], cwd=home, env={**usual, **variables}, capture_output=True, text=True)
