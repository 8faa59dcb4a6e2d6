"""Every object against a schema: today's Kubernetes for its own kinds, ours in k8s/tests/schemas for the others."""

import logging

import jsonschema
import kubernetes_validate
import yaml

from .objects import K8S, Mistakes, everything, name_of, pod_of

VERSION = "1.37"
OTHERS = ("konghq.com", "monitoring.coreos.com", "kserve.io", "gateway.networking.k8s.io")


def check():
    mistakes, seen = Mistakes(), {"kubernetes": 0, "others": 0}
    schemas = {}
    for file in sorted((K8S / "tests/schemas").glob("*.yaml")):
        schemas.update(yaml.safe_load(file.read_text()))
    # It warns of kinds that it does not know; here those are an error.
    logging.getLogger("kubernetes-validate").setLevel(logging.ERROR)
    for folder, one in everything():
        where = f"{folder}: {name_of(one)}"
        group = one["apiVersion"].rpartition("/")[0]
        if group.endswith(OTHERS):
            schema = schemas.get(one["kind"])
            if schema is None:
                mistakes.append(f"{where}: k8s/tests/schemas has no schema of it")
                continue
            found = jsonschema.Draft202012Validator(schema).iter_errors(one)
            mistakes.extend(f"{where}: {'/'.join(map(str, error.path))}: {error.message}" for error in found)
            if one["kind"] == "ServingRuntime":
                keys = ("containers", "volumes", "tolerations", "nodeSelector", "affinity")
                spec = {key: value for key, value in pod_of(one).items() if key in keys}
                validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}, where, mistakes)
            seen["others"] += 1
        else:
            validate(one, where, mistakes)
            seen["kubernetes"] += 1
    return mistakes, f"{seen['kubernetes']} objects fit Kubernetes {VERSION}, {seen['others']} the schemas of k8s/tests/schemas"


def validate(one, where, mistakes):
    try:
        kubernetes_validate.validate(one, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        mistakes.append(f"{where}: {'/'.join(map(str, error.path))}: {error.message}")
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        mistakes.append(f"{where}: {error}")
