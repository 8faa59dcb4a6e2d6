"""What schemas do not say: pod security, references that lead somewhere, rights that are few, the numbers of the reference
deployment."""

import re

import yaml

from .objects import ROOT, WORKLOADS, Mistakes, containers_of, everything, name_of, pods, rendered, template_of

# Kubernetes' profile "restricted": the kinds of volumes, https://kubernetes.io/docs/concepts/security/pod-security-standards/
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
# The one part that may ask Kubernetes for something, and where it does: for tasks in pods, and for rollouts.
EXECUTOR = ("overlays/jobs", "Deployment/scheduler")
ROLLOUTS = ("overlays/rollouts", "Deployment/scheduler")
PAGE = ROOT / "docs/kubernetes.md"


def check():
    mistakes = Mistakes()
    for folder, one, pod in pods():
        where = f"{folder}: {name_of(one)}"
        if one["metadata"]["namespace"] == "safari":
            restricted(pod, where, mistakes)
        sound(one, pod, where, mistakes, has_token=(folder, name_of(one)) in (EXECUTOR, ROLLOUTS))
    for folder in ("overlays/local", "overlays/production", "overlays/jobs", "overlays/rollouts"):
        references(folder, mistakes)
    secrets(mistakes)
    rights(mistakes)
    executor(mistakes)
    backups(mistakes)
    rollouts(mistakes)
    reference_deployment(mistakes)
    return mistakes, f"{len(pods())} pods are restricted, probed and bounded; references, rights and secrets are in order"


def restricted(pod, where, mistakes):
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        mistakes.unless(not pod.get(key), f"{where}: {key}")
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        mistakes.unless(kinds <= VOLUMES, f"{where}: volume {volume['name']} is a {kinds}")
    of_pod = pod.get("securityContext", {})
    for container in containers_of(pod):
        own = container.get("securityContext", {})
        at = f"{where}: container {container['name']}"
        value = lambda key: own.get(key, of_pod.get(key))
        mistakes.unless(value("runAsNonRoot") is True, f"{at}: runAsNonRoot is not true")
        mistakes.unless(value("runAsUser") not in (0, None), f"{at}: runs as root, or as whom the image says")
        mistakes.unless((value("seccompProfile") or {}).get("type") == "RuntimeDefault", f"{at}: no seccomp profile")
        mistakes.unless(own.get("allowPrivilegeEscalation") is False, f"{at}: allowPrivilegeEscalation is not false")
        mistakes.unless(own.get("capabilities") == {"drop": ["ALL"]}, f"{at}: capabilities are not all dropped")
        mistakes.unless(own.get("readOnlyRootFilesystem") is True, f"{at}: the root file system can be written")


def sound(one, pod, where, mistakes, has_token):
    if one["kind"] in WORKLOADS:
        # A variable such as SAFARI_API_PORT would be an unknown setting.
        mistakes.unless(pod.get("enableServiceLinks") is False, f"{where}: enableServiceLinks is not false")
        mistakes.unless(pod.get("automountServiceAccountToken") is has_token, f"{where}: has a token of Kubernetes, or has none")
        labels = template_of(one)["metadata"]["labels"]
        chosen = one["spec"].get("selector", {}).get("matchLabels", {})
        mistakes.unless(chosen.items() <= labels.items(), f"{where}: its selector is not its pods' labels")
    mounts = {volume["name"] for volume in pod.get("volumes", [])}
    mounts |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
    for container in containers_of(pod):
        at = f"{where}: container {container['name']}"
        limits = container.get("resources", {}).get("limits", {})
        mistakes.unless("memory" in limits, f"{at}: no limit of memory")
        mistakes.unless("cpu" in container["resources"].get("requests", {}), f"{at}: no request of cpu")
        mistakes.unless(re.search(r":[^:/]*\d[^:/]*$", container["image"]), f"{at}: the image has no version")
        for mount in container.get("volumeMounts", []):
            mistakes.unless(mount["name"] in mounts, f"{at}: there is no volume {mount['name']}")
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        mistakes.unless(len(paths) == len(set(paths)), f"{at}: two volumes at one path")
    serves = [container for container in pod["containers"] if container.get("ports")]
    for container in serves:
        at = f"{where}: container {container['name']}"
        mistakes.unless("livenessProbe" in container, f"{at}: no liveness probe")
        names = {port.get("name", port["containerPort"]) for port in container["ports"]}
        numbers = {port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for way in ("httpGet", "tcpSocket"):
                port = container.get(probe, {}).get(way, {}).get("port")
                mistakes.unless(port is None or port in names | numbers, f"{at}: {probe} asks an unknown port {port}")


def references(folder, mistakes):
    objects = rendered(folder)
    there = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one for one in objects}
    labelled = [
        (one["metadata"]["namespace"], template_of(one)["metadata"]["labels"], pod)
        for at, one, pod in pods()
        if at == folder
    ]
    needs = lambda kind, space, name, who: mistakes.unless(
        (kind, space, name) in there, f"{folder}: {who} names {kind} {name}, which is not there"
    )
    for one in objects:
        space, who = one["metadata"].get("namespace"), name_of(one)
        if one["kind"] == "Service":
            chosen = [pod for at, labels, pod in labelled if at == space and one["spec"]["selector"].items() <= labels.items()]
            mistakes.unless(chosen, f"{folder}: {who} chooses no pod")
            for pod in chosen:
                ports = {port["name"] for container in pod["containers"] for port in container.get("ports", [])}
                for port in one["spec"]["ports"]:
                    mistakes.unless(port["targetPort"] in ports, f"{folder}: {who}: no port {port['targetPort']} in its pods")
        if one["kind"] == "ServiceMonitor":
            labels = one["spec"]["selector"]["matchLabels"]
            chosen = [service for service in objects if service["kind"] == "Service"
                      and labels.items() <= service["metadata"]["labels"].items()]
            ports = {port["name"] for service in chosen for port in service["spec"]["ports"]}
            mistakes.unless(len(chosen) == 1, f"{folder}: {who} chooses {len(chosen)} services")
            mistakes.unless(all(end["port"] in ports for end in one["spec"]["endpoints"]), f"{folder}: {who}: no such port")
        if one["kind"] == "HorizontalPodAutoscaler":
            needs(one["spec"]["scaleTargetRef"]["kind"], space, one["spec"]["scaleTargetRef"]["name"], who)
        if one["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            chooser = one["spec"].get("selector") or one["spec"]["podSelector"]
            labels = chooser.get("matchLabels", {})
            mistakes.unless(any(at == space and labels.items() <= has.items() for at, has, _ in labelled),
                            f"{folder}: {who} chooses no pod")
        if one["kind"] == "RoleBinding":
            needs("Role", space, one["roleRef"]["name"], who)
        if one["kind"] == "HTTPRoute":
            plugins = one["metadata"]["annotations"]["konghq.com/plugins"].split(",")
            [needs("KongPlugin", space, plugin.strip(), who) for plugin in plugins]
            for backend in (backend for rule in one["spec"]["rules"] for backend in rule["backendRefs"]):
                needs("Service", space, backend["name"], who)
                ports = {port["port"] for port in there[("Service", space, backend["name"])]["spec"]["ports"]}
                mistakes.unless(backend["port"] in ports, f"{folder}: {who}: no such port of {backend['name']}")
        if one["kind"] == "Ingress":
            plugins = one["metadata"]["annotations"]["konghq.com/plugins"].split(",")
            [needs("KongPlugin", space, plugin.strip(), who) for plugin in plugins]
            for path in one["spec"]["rules"][0]["http"]["paths"]:
                service = path["backend"]["service"]
                needs("Service", space, service["name"], who)
                ports = {port["port"] for port in there[("Service", space, service["name"])]["spec"]["ports"]}
                mistakes.unless(service["port"]["number"] in ports, f"{folder}: {who}: no such port of {service['name']}")
    for at, one, pod in pods():
        if at != folder:
            continue
        space, who = one["metadata"]["namespace"], name_of(one)
        # A Job that runs as the namespace's default account has no rights, and no token.
        if "serviceAccountName" in pod:
            needs("ServiceAccount", space, pod["serviceAccountName"], who)
        for volume in pod.get("volumes", []):
            if "configMap" in volume:
                needs("ConfigMap", space, volume["configMap"]["name"], who)
            if "persistentVolumeClaim" in volume:
                needs("PersistentVolumeClaim", space, volume["persistentVolumeClaim"]["claimName"], who)
        for container in containers_of(pod):
            for source in container.get("envFrom", []):
                needs("ConfigMap", space, source["configMapRef"]["name"], who)


def secrets(mistakes):
    """No secret is here; each that is named is on the operators' page, with how it is made."""
    page, named = PAGE.read_text(), set()
    for folder, one in everything():
        mistakes.unless(one["kind"] != "Secret", f"{folder}: {name_of(one)} is a secret")
        mistakes.unless(not re.search(r"postgres(ql)?://[^@\s]*:[^@\s]*@", str(one)), f"{folder}: {name_of(one)} has a password")
        if one["kind"] == "ServiceMonitor":
            for end in one["spec"]["endpoints"]:
                named.add((end["authorization"]["credentials"]["name"], end["authorization"]["credentials"]["key"]))
        if one["kind"] == "KongConsumer":
            named.update((secret, "key") for secret in one["credentials"])
        if one["kind"] == "Ingress":
            named.update((tls["secretName"], "tls.key") for tls in one["spec"]["tls"])
    for _, _, pod in pods():
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                named.update((volume["secret"]["secretName"], item["key"]) for item in volume["secret"]["items"])
        for container in containers_of(pod):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    named.add((reference["name"], reference["key"]))
                elif re.search("PASSWORD|TOKEN|SECRET", variable["name"]):
                    mistakes.append(f"{variable['name']} is no reference to a secret")
    for secret, key in sorted(named):
        mistakes.unless(re.search(rf"\b{re.escape(secret)}\b[^#]*?\b{re.escape(key)}\b", page, re.S),
                        f"docs/kubernetes.md does not say how the key {key} of the secret {secret} is made")


def rights(mistakes):
    for folder, one in everything():
        mistakes.unless(one["kind"] not in ("ClusterRole", "ClusterRoleBinding"), f"{folder}: {name_of(one)}: rights everywhere")
        if one["kind"] != "Role":
            continue
        for rule in one["rules"]:
            words = rule["apiGroups"] + rule["resources"] + rule["verbs"]
            mistakes.unless("*" not in words, f"{folder}: {name_of(one)}: a right to everything")
            mistakes.unless("secrets" not in rule["resources"], f"{folder}: {name_of(one)}: a right to secrets")
            mistakes.unless(not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), f"{folder}: {name_of(one)}")
    ours = [one for _, one in everything() if one["kind"] == "RoleBinding"
            and one["metadata"]["name"] not in ("executor", "rollouts")]
    accounts = {"detection", "api", "scheduler", "worker", "registry", "backup", "drill", "restore", "redis", "postgres",
                "fluentd", "default"}
    for one in ours:
        bound = {subject["name"] for subject in one["subjects"] if subject["kind"] == "ServiceAccount"}
        mistakes.unless(not bound & accounts, f"{name_of(one)} gives a part of ours rights in Kubernetes")


def executor(mistakes):
    """What the scheduler may do where it runs tasks in pods, and that those pods are as the others."""
    objects = {name_of(one): one for one in rendered(EXECUTOR[0])}
    subjects = [(one["kind"], one["name"]) for one in objects["RoleBinding/executor"]["subjects"]]
    mistakes.unless(subjects == [("ServiceAccount", "scheduler")], "RoleBinding/executor is for others than the scheduler")
    may = {(kind, verb) for rule in objects["Role/executor"]["rules"] for kind in rule["resources"] for verb in rule["verbs"]}
    wanted = {("jobs", verb) for verb in ("create", "delete", "list", "watch")}
    wanted |= {("pods", "list"), ("pods", "watch"), ("pods/log", "get"), ("configmaps", "get")}
    mistakes.unless(may == wanted, f"Role/executor: {sorted(may ^ wanted)} is too much or missing")
    named = [one for one in objects.values() if one["kind"] == "ConfigMap" and "pod.yaml" in one["data"]]
    mistakes.unless(len(named) == 1, "there is no pod template for attempts")
    for one in named:
        template = yaml.safe_load(one["data"]["pod.yaml"])
        pod, where = template["spec"], f"{EXECUTOR[0]}: pods of attempts"
        restricted(pod, where, mistakes)
        mistakes.unless(pod.get("automountServiceAccountToken") is False, f"{where}: have a token of Kubernetes")
        mistakes.unless(pod.get("enableServiceLinks") is False, f"{where}: enableServiceLinks is not false")
        mistakes.unless("memory" in pod["containers"][0]["resources"]["limits"], f"{where}: no limit of memory")
        account = f"ServiceAccount/{pod['serviceAccountName']}"
        mistakes.unless(account in objects, f"{where}: there is no {account}")


def backups(mistakes):
    """Backups are made every night and tried every week, one at a time; nothing is restored by itself; who makes backups cannot
    read them."""
    for folder in ("overlays/local", "overlays/production"):
        objects = {name_of(one): one for one in rendered(folder)}
        wants = lambda good, text: mistakes.unless(good, f"{folder}: {text}")
        for name, schedule, deadline in (("backup", "0 1 * * *", 21600), ("drill", "0 4 * * 0", 86400)):
            spec = objects[f"CronJob/{name}"]["spec"]
            wants((spec["schedule"], spec["timeZone"]) == (schedule, "Etc/UTC"), f"{name} is made at {spec['schedule']}")
            wants(spec["suspend"] is False, f"{name} is suspended")
            wants(spec["startingDeadlineSeconds"] == deadline, f"{name} is not made up for")
            wants({"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= set(spec), f"{name} keeps all its Jobs")
        for name, one in objects.items():
            if one["kind"] != "CronJob":
                continue
            wants(one["spec"]["concurrencyPolicy"] == "Forbid", f"{name} may run twice at once")
            pod = template_of(one)["spec"]
            args, holds = pod["containers"][0]["args"], [volume["name"] for volume in pod["volumes"]]
            wants(("identity" in holds) == ("backup" != one["metadata"]["name"]), f"{name} has the secret key, or needs it")
            if args[0] == "restore":
                wants(one["spec"]["suspend"] is True and one["spec"]["schedule"] == "0 0 31 2 *", f"{name} begins by itself")
        restored = {template_of(one)["spec"]["containers"][0]["args"][1] for one in objects.values()
                    if one["kind"] == "CronJob" and one["metadata"]["labels"]["app.kubernetes.io/component"] == "restore"}
        wants(restored == {"db", "models"}, f"templates restore {sorted(restored)}")


def rollouts(mistakes):
    """What the scheduler may do where it drives rollouts, and that a candidate fits what is there."""
    objects = {name_of(one): one for one in rendered(ROLLOUTS[0])}
    subjects = [(one["kind"], one["name"]) for one in objects["RoleBinding/rollouts"]["subjects"]]
    mistakes.unless(subjects == [("ServiceAccount", "scheduler")], "RoleBinding/rollouts is for others than the scheduler")
    both = ("detection", "detection-canary")
    may = {(kind, verb, name) for rule in objects["Role/rollouts"]["rules"] for kind in rule["resources"]
           for verb in rule["verbs"] for name in rule.get("resourceNames", [""])}
    wanted = {("deployments", verb, name) for verb in ("get", "patch") for name in both}
    wanted |= {("deployments", "create", ""), ("deployments", "delete", "detection-canary")}
    wanted |= {("services", "get", name) for name in both} | {("services", "create", "")}
    wanted |= {("services", verb, "detection-canary") for verb in ("patch", "delete")}
    wanted |= {("pods", "list", ""), ("httproutes", "get", "detection"), ("httproutes", "patch", "detection")}
    mistakes.unless(may == wanted, f"Role/rollouts: {sorted(may ^ wanted)} is too much or missing")
    track = ("safari/track", "stable")
    labels = objects["Deployment/detection"]["spec"]["template"]["metadata"]["labels"]
    mistakes.unless(track in labels.items(), "pods of detection have no track")
    mistakes.unless(track in objects["Service/detection"]["spec"]["selector"].items(), "Service/detection chooses candidates, too")
    mistakes.unless("Ingress/detection" not in objects, "requests to detection pass by the HTTPRoute")


def reference_deployment(mistakes):
    objects = {name_of(one): one for one in rendered("overlays/production")}
    detection = objects["Deployment/detection"]["spec"]
    pod = detection["template"]["spec"]
    container = pod["containers"][0]
    variables = {variable["name"] for variable in container["env"]}
    wants = lambda good, text: mistakes.unless(good, f"overlays/production: {text}")
    wants(detection["replicas"] == 3, "detection has not 3 replicas")
    wants(container["resources"]["requests"]["memory"] == "8Gi", "detection asks not for 8Gi")
    wants(container["resources"]["limits"]["memory"] == "16Gi", "detection's limit is not 16Gi")
    wants(container["resources"]["limits"]["nvidia.com/gpu"] == "1", "detection has not 1 GPU")
    wants({"MODEL_PATH", "GPU_MEMORY_FRACTION"} <= variables, "detection lacks MODEL_PATH or GPU_MEMORY_FRACTION")
    wants(any(volume["name"] == "models" for volume in pod["volumes"]), "detection has no volume for models")
    anti = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    wants(anti["topologyKey"] == "kubernetes.io/hostname", "replicas of detection may share a node")
    wants({"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), "detection lacks a probe")
    drain = container["lifecycle"]["preStop"]["sleep"]["seconds"] + 30
    wants(pod["terminationGracePeriodSeconds"] > drain, "detection is killed before serve.drain_seconds are over")
    scaler = objects["HorizontalPodAutoscaler/detection"]["spec"]
    wants((scaler["minReplicas"], scaler["maxReplicas"]) == (1, 5), "detection is not scaled from 1 to 5")
    wants(objects["Deployment/scheduler"]["spec"]["replicas"] == 2, "there are not two schedulers")
    inference = next(one for one in rendered("kserve") if one["kind"] == "InferenceService")["spec"]["predictor"]
    wants((inference["minReplicas"], inference["maxReplicas"]) == (1, 5), "the InferenceService is not scaled from 1 to 5")
    wants(inference["model"]["protocolVersion"] == "v2", "the InferenceService does not speak V2")
