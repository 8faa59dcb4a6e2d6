"""Paths that the manifests name are answered by the program."""

from .objects import Mistakes, containers_of, name_of, pods, rendered

# The process of `live` that answers as a component does.
PROCESSES = {"detection": "serve", "inference-service": "serve", "api": "server", "registry": "registry",
             "worker-cpu": "server", "worker-gpu": "server"}


def check(safari):
    mistakes, asked = Mistakes(), 0
    for folder, one, pod in pods():
        component = one["metadata"].get("labels", {}).get("app.kubernetes.io/component", "inference-service")
        for container in containers_of(pod):
            if "/safari-" not in container["image"]:
                continue
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                path = container.get(probe, {}).get("httpGet", {}).get("path")
                if path:
                    # Without a token, as the kubelet asks.
                    status = safari.ask(PROCESSES[component], path)[0]
                    mistakes.unless(status == 200, f"{folder}: {name_of(one)}: {probe}: {path} answers {status}")
                    asked += 1
    for one in rendered("overlays/production"):
        if one["kind"] == "Ingress":
            asked += ingress(safari, one, mistakes)
        if one["kind"] == "ServiceMonitor":
            component = one["metadata"]["labels"]["app.kubernetes.io/component"]
            process = PROCESSES.get(component, "server")
            for end in one["spec"]["endpoints"]:
                bare, known = (safari.ask(process, end["path"], token=token)[0] for token in (None, safari.metrics_token))
                mistakes.unless((bare, known) == (401, 200), f"{name_of(one)}: {bare} without a token, {known} with it")
                asked += 1
    return mistakes, f"{asked} paths of probes, routes and monitors are answered by real processes"


def ingress(safari, one, mistakes):
    document = safari.ask("serve", "/openapi.json")[1]
    asked = 0
    for path in one["spec"]["rules"][0]["http"]["paths"]:
        component, prefix = path["backend"]["service"]["name"], path["path"]
        if component == "detection" and prefix.startswith("/v1"):
            # The document has no word for WebSockets.
            known = f'"{prefix}' in document or safari.ask("serve", prefix)[0] not in (0, 404)
            mistakes.unless(known, f"{name_of(one)}: safari serve has no route below {prefix}")
        else:
            routes = {"/auth": "/auth/me", "/oauth": "/oauth/token"}
            status = safari.ask(PROCESSES[component], routes.get(prefix, prefix))[0]
            mistakes.unless(status not in (0, 404), f"{name_of(one)}: {prefix} answers {status}")
        asked += 1
    return asked
