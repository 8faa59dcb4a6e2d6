"""Terraform and the images: formatting, names that lead somewhere, arguments that the provider has, and hadolint."""

import json
import re
import shutil
import subprocess

import hcl2

from .objects import K8S, ROOT, Mistakes, containers_of, everything, name_of, pods, rendered

TERRAFORM = K8S / "terraform"
SCHEMA = K8S / "tests/schemas/terraform-aws.json"
# What Terraform itself knows in every resource.
META = {"for_each", "count", "depends_on", "provider", "lifecycle"}


def check():
    mistakes, notes = Mistakes(), []
    terraform(mistakes, notes)
    images(mistakes, notes)
    return mistakes, "; ".join(notes)


def terraform(mistakes, notes):
    program = shutil.which("terraform") or shutil.which("tofu")
    if program:
        told = subprocess.run([program, "fmt", "-check", "-diff", TERRAFORM], capture_output=True, text=True)
        mistakes.unless(told.returncode == 0, f"terraform fmt: {told.stdout}{told.stderr}")
        notes.append("terraform fmt changes nothing")
    else:
        notes.append("terraform is not installed: its files were read, their format was not checked")
    texts = {file.name: file.read_text() for file in sorted(TERRAFORM.glob("*.tf"))}
    known = json.loads(SCHEMA.read_text())
    declared = {"var": set(), "local": set(), "data": set(), "resource": set(), "output": set()}
    for name, text in texts.items():
        try:
            read = hcl2.loads(text)
        except Exception as error:  # The parser has errors of several libraries.
            mistakes.append(f"terraform/{name}: {error}")
            continue
        for block in read.get("variable", []):
            declared["var"].update(map(plain, block))
        for block in read.get("locals", []):
            declared["local"].update(key for key in map(plain, block) if not key.startswith("__"))
        for kind in ("resource", "data"):
            for block in read.get(kind, []):
                for type_, named in block.items():
                    if plain(type_).startswith("aws_"):
                        of_type = known.get(f"{kind}.{plain(type_)}")
                        mistakes.unless(of_type, f"terraform/{name}: {SCHEMA.name} does not have {plain(type_)}")
                        for at, body in named.items():
                            arguments(body, of_type or {}, META, f"terraform/{name}: {plain(type_)}.{plain(at)}", mistakes)
                    declared[kind].update(f"{plain(type_)}.{plain(name)}" for name in named if not name.startswith("__"))
        for block in read.get("output", []):
            declared["output"].update(map(plain, block))
    code = "\n".join(re.sub(r"#.*", "", text) for text in texts.values())
    for name in set(re.findall(r"\bvar\.(\w+)", code)):
        mistakes.unless(name in declared["var"], f"terraform: there is no variable {name}")
    for name in declared["var"]:
        mistakes.unless(re.search(rf"\bvar\.{name}\b", code), f"terraform: nothing uses the variable {name}")
    for name in set(re.findall(r"\blocal\.(\w+)", code)):
        mistakes.unless(name in declared["local"], f"terraform: there is no local {name}")
    for name in set(re.findall(r"\bdata\.(\w+\.\w+)", code)):
        mistakes.unless(name in declared["data"], f"terraform: there is no data {name}")
    for name in set(re.findall(r"(?<![\w.\"/])(aws_\w+\.\w+)", code)):
        mistakes.unless(name in declared["resource"], f"terraform: there is no resource {name}")
    for name in ("aws_eks_cluster.main", "aws_eks_node_group.cpu", "aws_eks_node_group.gpu", "aws_db_instance.main",
                 "aws_s3_bucket_versioning.main", "aws_s3_bucket_lifecycle_configuration.main"):
        mistakes.unless(name in declared["resource"], f"terraform: {name} is gone")
    fits(code, mistakes)
    notes.append(f"all names of {len(declared['resource'])} resources lead somewhere, and the provider has all their arguments")


def arguments(body, known, also, where, mistakes):
    """What is in a block is what the provider knows, and what it requires is there."""
    dynamic = [plain(name) for one in body.get("dynamic", []) for name in one]
    for name, value in body.items():
        if name in also or name.startswith("__") or name == "dynamic":
            continue
        if name not in known:
            mistakes.append(f"{where}: the provider has no {name}")
            continue
        inner = known[name].get("block")
        for one in value if inner and isinstance(value, list) else []:
            arguments(one, inner, set(), f"{where}.{name}", mistakes)
    for one in body.get("dynamic", []):
        for name, made in one.items():
            for content in made["content"]:
                arguments(content, known.get(plain(name), {}).get("block", {}), set(), f"{where}.{plain(name)}", mistakes)
    for name, argument in known.items():
        there = name in body or name in dynamic
        mistakes.unless(there or not argument.get("required"), f"{where}: the provider wants {name}")


def plain(key):
    return key.strip('"')


def fits(code, mistakes):
    """What Terraform and the manifests must agree about."""
    parts = set(re.findall(r"^    (\w+)\s+= \{ read =", code, re.M))
    accounts = {one["metadata"]["name"] for one in rendered("overlays/production")
                if one["kind"] == "ServiceAccount" and "eks.amazonaws.com/role-arn" in one["metadata"].get("annotations", {})}
    mistakes.unless(parts == accounts, f"terraform has roles for {parts}, overlays/production accounts for {accounts}")
    pools = set(re.findall(r'"safari/pool" = "(\w+)"', code))
    for folder, one, pod in pods():
        pool = pod.get("nodeSelector", {}).get("safari/pool")
        mistakes.unless(pool is None or pool in pools, f"{folder}: {name_of(one)}: there is no pool {pool}")
    taints = set(re.findall(r'taint \{\s+key\s+= "([^"]+)"', code))
    tolerated = {toleration.get("key") for _, _, pod in pods() for toleration in pod.get("tolerations", [])}
    mistakes.unless(taints <= tolerated, f"nothing tolerates {taints - tolerated}")


def images(mistakes, notes):
    folder = K8S / "images"
    told = subprocess.run([ROOT / ".venv/bin/hadolint", folder / "Dockerfile"], capture_output=True, text=True)
    mistakes.unless(told.returncode == 0, f"hadolint: {told.stdout}{told.stderr}")
    text = (folder / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.M)
    names = {name for _, name in stages}
    for source, name in stages:
        mistakes.unless(source in names or re.search(r":\d", source), f"Dockerfile: {name} stands on {source}, without a version")
    for path in re.findall(r"^COPY (?!--from)(\S+) ", text, re.M):
        mistakes.unless((ROOT / path).exists(), f"Dockerfile: there is no {path}")
    used = {container["image"].rpartition("/safari-")[2].partition(":")[0]
            for folder, one, pod in pods() for container in containers_of(pod) if "/safari-" in container["image"]}
    mistakes.unless(used <= names, f"the manifests have images that the Dockerfile does not make: {used - names}")
    servers = {image for folder, one, pod in pods() for container in containers_of(pod)
               for image in re.findall(r"^postgres:(\d+)", container["image"])}
    servers |= set(re.findall(r'engine_version\s+= "(\d+)', (TERRAFORM / "database.tf").read_text()))
    clients = set(re.findall(r"postgresql-client-(\d+)=", text))
    mistakes.unless(clients == servers, f"Dockerfile: client programs of PostgreSQL {clients}, and servers {servers}")
    users = re.findall(r"^USER (\S+)$", text, re.M)
    mistakes.unless(users and users[-1] == "65532:65532", "Dockerfile: the last user is not 65532")
    notes.append(f"hadolint has nothing to say; stages {', '.join(sorted(used))} are there")
