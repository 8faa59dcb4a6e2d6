"""The requests of wire.py: for every endpoint valid ones, and every field of them left out, of a wrong type, or hostile."""

import copy
import json

HUGE = 2**63
LONG = "x" * 10_000

# What every field is replaced by, in turn. Objects in the place of an object's list are left to the items.
ODD = [None, "", " ", 0, -1, 1.5, True, HUGE, 2**64, "5", "abc", [], ["a"], [1], [None], {}, {"a": 1}, "ünï✓ \U0001f981",
       "a\x00b", "../../etc/passwd", "a/b", "a:b", "a'b", 'a"b', "a`b", "a;DROP TABLE runs", "%2e%2e", LONG]

NOTHING = object()


def replaced(body, keep=()):
    """(what was done, the body with it) for every field but those to keep, one level into lists of objects."""
    for key, value in body.items():
        if key in keep:
            continue
        yield f"without {key}", {name: inner for name, inner in body.items() if name != key}
        # A number may be an experiment on one of the servers and none, or another, on the other.
        for odd in ODD if key not in ("experiment_id", "experiment_ids") else [odd for odd in ODD if odd not in (0, 1, "5")]:
            yield f"{key} = {name_of(odd)}", {**body, key: odd}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for inner_key in value[0]:
                for done, item in replaced({inner_key: value[0][inner_key]}):
                    inner = {**{k: v for k, v in value[0].items() if k != inner_key}, **item}
                    yield f"{key}[0]: {done}", {**body, key: [inner] + value[1:]}


def name_of(odd):
    return f"{len(odd)} x" if odd is LONG else repr(odd)


class World:
    """Things that are there on both servers, for requests to name."""

    def __init__(self, wire):
        self.wire = wire
        self.experiment = wire.json("POST", "experiments/create", {"name": wire.fresh("world")}).get("experiment_id")
        self.run = self.new_run()
        self.model_name = wire.fresh("model")
        wire.json("POST", "registered-models/create", {"name": self.model_name})
        for _ in range(2):
            self.new_version(self.model_name)
        self.logged = wire.json("POST", "logged-models", {"experiment_id": self.experiment, "name": "net"}).get(
            "model", "info", "model_id")

    def new_run(self):
        run = self.wire.json("POST", "runs/create", {"experiment_id": self.experiment, "run_name": "r", "start_time": 1})
        return run.get("run", "info", "run_id")

    def new_version(self, name):
        return self.wire.json("POST", "model-versions/create", {"name": name, "source": "s3://bucket/model"})


def odd_bodies(wire, method, path, body, fresh=None, keep=()):
    """The valid request, then every odd one. `fresh` gives a field that must be new each time; what is in `keep` stays."""
    def send(request, label=None):
        request = copy.copy(request)
        for key, prefix in (fresh or {}).items():
            if request.get(key) is NOTHING:
                request[key] = wire.fresh(prefix)
        wire.json(method, path, request, label)

    body = {**body, **{key: NOTHING for key in fresh or {}}}
    send(body)
    for done, request in replaced(body, keep):
        if wire.chance.randrange(wire.every):
            continue
        if method == "GET" and any(isinstance(value, (dict, bool)) or value is None for value in request.values()):
            continue
        send(request, f"{done}")


def raw_bodies(wire, method, path):
    """Bodies that are no JSON object, and headers that are odd."""
    json_type = {"Content-Type": "application/json"}
    for body in (b"", b"{", b"[]", b"[1]", b"1", b"null", b'"text"', b"\xff\xfe", b'{"name": "\xff"}', b'{"a": 1}', b"{}",
                 b'{"name": NaN}', b'{"name": "a", "name": "b"}', b"[" * 2000, b'{"a":' * 500 + b"1" + b"}" * 500):
        wire.raw(method, path, body=body, headers=json_type, label=f"body {body[:30]!r}")
    for kind in ("text/plain", "application/json; charset=utf-8", "application/xml", "multipart/form-data", "", "APPLICATION/JSON"):
        wire.raw(method, path, body=b"{}", headers={"Content-Type": kind}, label=f"type {kind!r}")
    wire.raw(method, path, body=b"{}", label="no type")


def experiments(wire):
    world = World(wire)
    # Relative places would be resolved against each server's own folder.
    odd_bodies(wire, "POST", "experiments/create",
               {"artifact_location": "s3://bucket/here", "tags": [{"key": "k", "value": "v"}]}, {"name": "exp"})
    raw_bodies(wire, "POST", "experiments/create")
    for name in ("a/b", "a b", "ünï", "x" * 500, "x" * 501, "Default", "a\nb", ".", ".."):
        wire.json("POST", "experiments/create", {"name": wire.fresh(name) if len(name) < 500 and name != "Default" else name})
    for number in range(9):
        wire.json("POST", "experiments/create", {"name": wire.fresh("page"), "tags": [{"key": "n", "value": str(number % 3)}]})
    for location in ("file:///etc", "/etc", "s3://b/../c", "s3://b/a?x=1", "s3://b/a#f", "mlflow-artifacts:/x",
                     "http://host/x", "dbfs:/x", "runs:/a/b", "models:/a/1", "s3://b/" + "x" * 300):
        wire.json("POST", "experiments/create", {"name": wire.fresh("loc"), "artifact_location": location})
    odd_bodies(wire, "GET", "experiments/get", {"experiment_id": world.experiment})
    odd_bodies(wire, "GET", "experiments/get-by-name", {"experiment_name": "Default"})
    wire.json("GET", "experiments/get", {"experiment_id": "0"})
    wire.json("GET", "experiments/get", {"experiment_id": "999999"})
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL", "active_only", "NONE", 1, 2, 3, 9):
        wire.json("POST", "experiments/search", {"max_results": 2, "view_type": view, "filter": f"name LIKE 'page-{wire.unique}%'", "order_by": ["name"]})
        wire.json("GET", "experiments/search", {"max_results": 2, "view_type": view, "filter": f"name LIKE 'page-{wire.unique}%'", "order_by": ["name"]})
    odd_bodies(wire, "POST", "experiments/search", {"max_results": 2, "order_by": ["name ASC"], "page_token": "",
                                                    "filter": f"name LIKE 'page-{wire.unique}%'", "view_type": "ALL"}, keep=("filter",))
    for most in (0, 1, 1000, 50_000, 50_001, -1):
        wire.json("POST", "experiments/search", {"max_results": most, "filter": f"name LIKE 'page-{wire.unique}%'", "order_by": ["name"]})
    wire.json("POST", "experiments/search", {})
    pages(wire, "experiments/search", {"max_results": 2, "filter": f"name LIKE 'page-{wire.unique}%'", "order_by": ["name DESC"]}, "experiments")
    odd_bodies(wire, "POST", "experiments/update", {"experiment_id": world.experiment}, {"new_name": "renamed"})
    odd_bodies(wire, "POST", "experiments/set-experiment-tag", {"experiment_id": world.experiment, "key": "k", "value": "v"})
    wire.json("GET", "experiments/get", {"experiment_id": world.experiment})
    odd_bodies(wire, "POST", "experiments/delete-experiment-tag", {"experiment_id": world.experiment, "key": "k"})
    name = wire.fresh("gone")
    gone = wire.json("POST", "experiments/create", {"name": name}).get("experiment_id")
    run = wire.json("POST", "runs/create", {"experiment_id": gone, "run_name": "r"}).get("run", "info", "run_id")
    odd_bodies(wire, "POST", "experiments/delete", {"experiment_id": gone})
    wire.json("GET", "experiments/get", {"experiment_id": gone})
    wire.json("GET", "experiments/get-by-name", {"experiment_name": name})
    wire.json("GET", "runs/get", {"run_id": run})
    wire.json("POST", "experiments/create", {"name": name})
    wire.json("POST", "experiments/update", {"experiment_id": gone, "new_name": wire.fresh("other")})
    wire.json("POST", "experiments/set-experiment-tag", {"experiment_id": gone, "key": "k", "value": "v"})
    wire.json("POST", "runs/create", {"experiment_id": gone, "run_name": "r"})
    wire.json("POST", "runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": 1})
    wire.json("POST", "runs/search", {"experiment_ids": [gone], "run_view_type": "ALL"})
    wire.json("POST", "experiments/search", {"max_results": 5, "filter": f"name = '{name}'", "view_type": "DELETED_ONLY"})
    odd_bodies(wire, "POST", "experiments/restore", {"experiment_id": gone})
    wire.json("GET", "experiments/get", {"experiment_id": gone})
    wire.json("GET", "runs/get", {"run_id": run})
    wire.json("POST", "experiments/delete", {"experiment_id": "0"})
    wire.json("POST", "experiments/restore", {"experiment_id": "0"})


def runs(wire):
    world = World(wire)
    wire.json("POST", "runs/create", {"experiment_id": world.experiment, "run_name": "full", "user_id": "u", "start_time": 5,
                                      "tags": [{"key": "mlflow.note.content", "value": "n"}, {"key": "b", "value": "2"}]})
    odd_bodies(wire, "POST", "runs/create", {"experiment_id": world.experiment, "run_name": "r", "user_id": "u", "start_time": 7,
                                             "tags": [{"key": "k", "value": "v"}]})
    raw_bodies(wire, "POST", "runs/create")
    wire.json("POST", "runs/create", {"experiment_id": world.experiment, "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "a"}]})
    wire.json("POST", "runs/create", {"experiment_id": world.experiment, "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]})
    wire.json("POST", "runs/create", {"experiment_id": world.experiment, "tags": [{"key": "mlflow.runName", "value": "b"}]})
    wire.json("POST", "runs/create", {"experiment_id": "999999", "run_name": "a"})
    odd_bodies(wire, "GET", "runs/get", {"run_id": world.run})
    wire.json("GET", "runs/get", {"run_uuid": world.run})
    wire.json("GET", "runs/get", {})
    for run in ("0" * 32, "abc", "x" * 257, "-a", "a b"):
        wire.json("GET", "runs/get", {"run_id": run})
        wire.json("POST", "runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": 1})
    odd = world.new_run()
    odd_bodies(wire, "POST", "runs/update", {"run_id": odd, "status": "RUNNING", "end_time": 9, "run_name": "new"})
    for status in ("finished", "OTHER", 1, 3, 9):
        wire.json("POST", "runs/update", {"run_id": odd, "status": status})
    for status in ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"):
        wire.json("POST", "runs/update", {"run_id": world.run, "status": status})
    wire.json("GET", "runs/get", {"run_id": world.run})
    odd_bodies(wire, "POST", "runs/set-tag", {"run_id": world.run, "key": "k", "value": "v"})
    for key in ("mlflow.runName", "mlflow.user", "mlflow.anything", "x" * 250, "x" * 251, "a/b", "/a", "a//b", "a/../b", ".", "a b", "a:b", "a-b.c_d"):
        wire.json("POST", "runs/set-tag", {"run_id": world.run, "key": key, "value": "new"})
        wire.json("POST", "runs/log-parameter", {"run_id": world.run, "key": key, "value": "new"})
        wire.json("POST", "runs/log-metric", {"run_id": world.run, "key": key, "value": 1, "timestamp": 1})
        wire.json("POST", "experiments/set-experiment-tag", {"experiment_id": world.experiment, "key": key, "value": "new"})
    for length in (5000, 5001, 8000, 8001):
        wire.json("POST", "runs/set-tag", {"run_id": world.run, "key": "long", "value": "v" * length}, f"tag of {length}")
        wire.json("POST", "experiments/set-experiment-tag", {"experiment_id": world.experiment, "key": "long", "value": "v" * length}, f"tag of {length}")
    for length in (500, 501, 6000, 6001):
        wire.json("POST", "runs/log-parameter", {"run_id": world.run, "key": f"p{length}", "value": "v" * length}, f"param of {length}")
    odd_bodies(wire, "POST", "runs/delete-tag", {"run_id": world.run, "key": "k"})
    odd_bodies(wire, "POST", "runs/log-parameter", {"run_id": world.run, "value": "v"}, {"key": "p"})
    for value in ("1", "1", "2", "", None):
        wire.json("POST", "runs/log-parameter", {"run_id": world.run, "key": "once", "value": value})
    wire.json("GET", "runs/get", {"run_id": world.run})
    odd_bodies(wire, "POST", "runs/delete", {"run_id": world.run})
    wire.json("GET", "runs/get", {"run_id": world.run})
    for path, body in (("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}), ("runs/log-parameter", {"key": "m", "value": "1"}),
                       ("runs/set-tag", {"key": "m", "value": "1"}), ("runs/delete-tag", {"key": "m"}), ("runs/delete", {}),
                       ("runs/update", {"status": "FINISHED"}), ("runs/log-batch", {"tags": [{"key": "a", "value": "b"}]})):
        wire.json("POST", path, {"run_id": world.run, **body}, "of a deleted run")
    odd_bodies(wire, "POST", "runs/restore", {"run_id": world.run})
    wire.json("POST", "runs/restore", {"run_id": world.run})
    wire.json("GET", "artifacts/list", {"run_id": world.run})
    wire.json("GET", "artifacts/list", {"run_uuid": world.run, "path": "nothing"})
    wire.json("GET", "artifacts/list", {"run_id": world.run, "path": "../.."})
    wire.json("GET", "artifacts/list", {"run_id": world.run, "path": "/etc"})
    wire.json("GET", "artifacts/list", {})
    odd_bodies(wire, "GET", "artifacts/list", {"run_id": world.run})


def metrics(wire):
    world = World(wire)
    # One server may take what the other refuses: these values go to a run of their own.
    run = world.new_run()
    odd_bodies(wire, "POST", "runs/log-metric", {"run_id": run, "key": "m", "value": 1.0, "timestamp": 1, "step": 0})
    for value in (0, -0.0, 1e308, -1e308, 1e-320, "NaN", "Infinity", "-Infinity", "nan", "inf", "1.5", 10**400):
        wire.json("POST", "runs/log-metric", {"run_id": run, "key": "odd", "value": value, "timestamp": 2, "step": 0})
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e308", b"1E+2"):
        wire.raw("POST", "runs/log-metric", label=f"bare {text}", headers={"Content-Type": "application/json"},
                 body=Bare(run, text))
    for step in ("5", "x", -5, 2**63 - 1, -(2**63), 1.0):
        wire.json("POST", "runs/log-metric", {"run_id": run, "key": "steps", "value": 1, "timestamp": 3, "step": step})
        wire.json("POST", "runs/log-metric", {"run_id": run, "key": "times", "value": 1, "timestamp": step})
    run = world.run
    # The newest is the one of the highest step, then time, then value.
    for step, time, value in ((1, 5, 1), (3, 1, 2), (3, 1, 1), (2, 9, 9), (3, 0, 7), (3, 1, 3), (3, 1, "NaN"), (3, 1, 4)):
        wire.json("POST", "runs/log-metric", {"run_id": run, "key": "newest", "value": value, "timestamp": time, "step": step})
    wire.json("GET", "runs/get", {"run_id": run})
    for key in ("newest", "none"):
        wire.json("GET", "metrics/get-history", {"run_id": run, "metric_key": key})
    wire.json("GET", "metrics/get-history", {"run_uuid": run, "metric_key": "newest"})
    odd_bodies(wire, "GET", "metrics/get-history", {"run_id": run, "metric_key": "newest", "max_results": 3})
    page = wire.json("GET", "metrics/get-history", {"run_id": run, "metric_key": "newest", "max_results": 3})
    wire.json("GET", "metrics/get-history", {"run_id": run, "metric_key": "newest", "max_results": 3, "page_token": page.get("next_page_token")})
    wire.json("GET", "metrics/get-history-bulk-interval", {"run_ids": [run], "metric_key": "newest", "max_results": 3})
    wire.json("GET", "metrics/get-history-bulk-interval", {"run_ids": [run], "metric_key": "newest", "start_step": 2, "end_step": 3})
    wire.json("GET", "metrics/get-history-bulk-interval", {"run_ids": [run], "metric_key": "newest", "start_step": 4, "end_step": 3})
    odd_bodies(wire, "GET", "metrics/get-history-bulk-interval", {"run_ids": [run], "metric_key": "newest", "max_results": 3})
    batch = {"run_id": run, "metrics": [{"key": "b", "value": 1.0, "timestamp": 1, "step": 0}],
             "params": [{"key": "bp", "value": "1"}], "tags": [{"key": "bt", "value": "1"}]}
    odd_bodies(wire, "POST", "runs/log-batch", {**batch, "run_id": world.new_run()})
    raw_bodies(wire, "POST", "runs/log-batch")
    metric = lambda number: {"key": f"k{number}", "value": number, "timestamp": 1, "step": 0}
    text = lambda number: {"key": f"k{number}", "value": "v"}
    for counts in ((1000, 0, 0), (1001, 0, 0), (0, 100, 0), (0, 101, 0), (0, 0, 100), (0, 0, 101), (900, 51, 50), (800, 100, 100)):
        wire.json("POST", "runs/log-batch", {"run_id": world.new_run(), "metrics": list(map(metric, range(counts[0]))),
                  "params": list(map(text, range(counts[1]))), "tags": list(map(text, range(counts[2])))}, f"batch of {counts}")
    twice = world.new_run()
    wire.json("POST", "runs/log-batch", {"run_id": twice, "params": [{"key": "a", "value": "1"}, {"key": "a", "value": "1"}]})
    wire.json("POST", "runs/log-batch", {"run_id": twice, "params": [{"key": "c", "value": "1"}, {"key": "c", "value": "2"}]})
    wire.json("POST", "runs/log-batch", {"run_id": twice, "params": [{"key": "a", "value": "2"}], "tags": [{"key": "t", "value": "2"}]})
    wire.json("POST", "runs/log-batch", {"run_id": twice, "tags": [{"key": "t", "value": "1"}, {"key": "t", "value": "2"}]})
    wire.json("POST", "runs/log-batch", {"run_id": twice, "metrics": [{"key": "x", "value": 1, "timestamp": 1, "step": 1}] * 3})
    wire.json("POST", "runs/log-batch", {"run_id": twice, "metrics": [{"key": "bad*", "value": 1, "timestamp": 1}], "params": [{"key": "never", "value": "1"}]})
    wire.json("POST", "runs/log-batch", {"run_id": twice, "params": [{"key": "p", "value": "v" * 6001}], "tags": [{"key": "never", "value": "1"}]}, "long param")
    wire.json("POST", "runs/log-batch", {"run_id": twice})
    wire.json("GET", "runs/get", {"run_id": twice})
    dataset = {"run_id": run, "datasets": [{"dataset": {"name": "d", "digest": "1", "source_type": "local", "source": "here",
               "schema": "s", "profile": "p"}, "tags": [{"key": "mlflow.data.context", "value": "training"}]}]}
    wire.json("POST", "runs/log-inputs", dataset)
    odd = world.new_run()
    odd_bodies(wire, "POST", "runs/log-inputs", {**dataset, "run_id": odd})
    for key in dataset["datasets"][0]["dataset"]:
        for done, inner in replaced({key: dataset["datasets"][0]["dataset"][key]}):
            whole = {**{k: v for k, v in dataset["datasets"][0]["dataset"].items() if k != key}, **inner}
            wire.json("POST", "runs/log-inputs", {"run_id": odd, "datasets": [{"dataset": whole}]}, f"dataset: {done}")
    wire.json("POST", "runs/log-inputs", {"run_id": run, "models": [{"model_id": world.logged}]})
    wire.json("POST", "runs/log-inputs", {"run_id": run, "models": [{"model_id": "m-none"}]})
    wire.json("POST", "runs/outputs", {"run_id": run, "models": [{"model_id": world.logged, "step": 3}]})
    wire.json("POST", "runs/outputs", {"run_id": run, "models": [{"model_id": "m-none", "step": 3}]})
    odd_bodies(wire, "POST", "runs/outputs", {"run_id": odd, "models": [{"model_id": world.logged, "step": 3}]})
    wire.json("GET", "runs/get", {"run_id": run})


def logged_models(wire):
    world, odd = World(wire), World(wire)
    odd_bodies(wire, "POST", "logged-models", {"experiment_id": odd.experiment, "name": "net", "model_type": "agent", "source_run_id": world.run,
               "params": [{"key": "p", "value": "1"}], "tags": [{"key": "t", "value": "1"}]})
    raw_bodies(wire, "POST", "logged-models")
    wire.json("POST", "logged-models", {"experiment_id": "999999", "name": "net"})
    path = ("join", "logged-models/", world.logged)
    wire.json("GET", path)
    wire.json("GET", "logged-models/m-none")
    wire.json("GET", "logged-models/..%2f..%2fetc")
    odd_path = ("join", "logged-models/", odd.logged)
    odd_bodies(wire, "PATCH", ("join", *odd_path[1:], "/tags"), {"model_id": odd.logged, "tags": [{"key": "a", "value": "b"}]})
    wire.json("PATCH", ("join", path[1], world.logged, "/tags"), {"model_id": world.logged, "tags": [{"key": "a", "value": "b"}]})
    wire.json("DELETE", ("join", path[1], world.logged, "/tags/a"))
    wire.json("DELETE", ("join", path[1], world.logged, "/tags/none"))
    odd_bodies(wire, "POST", ("join", *odd_path[1:], "/params"), {"model_id": odd.logged, "params": [{"key": "a", "value": "b"}]}, keep=("model_id",))
    odd_bodies(wire, "PATCH", odd_path, {"model_id": odd.logged, "status": "LOGGED_MODEL_READY"}, keep=("model_id",))
    for status in ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_UPLOAD_FAILED", "LOGGED_MODEL_READY"):
        wire.json("PATCH", path, {"model_id": world.logged, "status": status})
    wire.json("GET", path)
    wire.json("POST", "runs/log-metric", {"run_id": world.run, "key": "acc", "value": 0.5, "timestamp": 1, "model_id": world.logged,
                                          "dataset_name": "d", "dataset_digest": "1"})
    wire.json("POST", "runs/log-batch", {"run_id": world.run, "metrics": [{"key": "acc", "value": 0.75, "timestamp": 2, "step": 1, "model_id": world.logged}]})
    wire.json("GET", path)
    odd_bodies(wire, "POST", "logged-models/search", {"experiment_ids": [world.experiment], "filter": "name = 'net'", "max_results": 2,
               "order_by": [{"field_name": "creation_timestamp", "ascending": True}], "page_token": "", "datasets": [{"dataset_name": "d", "dataset_digest": "1"}]})
    for text in ("name = 'net'", "metrics.acc > 0.6", "metrics.acc > 0.9", "params.p = '1'", "tags.t = '1'", "tags.t != '1'", "model_type = 'agent'",
                 "status = 'READY'", "name LIKE 'n%'", "name ILIKE 'N%'", "creation_timestamp > 0", "source_run_id = 'x'", "nothing = 1", "name = 'net' AND", "metrics.`acc` >= 0.75",
                 "name IN ('net', 'b')", "attributes.name = 'net'", "model_id = 'x'", "experiment_id = '1'", "last_updated_timestamp > 0", "name = 'net' OR name = 'a'"):
        wire.json("POST", "logged-models/search", {"experiment_ids": [world.experiment], "filter": text, "max_results": 3,
                  "order_by": [{"field_name": "name"}, {"field_name": "creation_timestamp", "ascending": True}]}, text)
    for field in ("name", "creation_timestamp", "metrics.acc", "last_updated_timestamp", "nothing", "params.p", "tags.t", "attributes.name", "status", "model_type"):
        for ascending in (True, False):
            wire.json("POST", "logged-models/search", {"experiment_ids": [world.experiment], "max_results": 1, "filter": "name = 'net'",
                      "order_by": [{"field_name": field, "ascending": ascending}]}, f"by {field} {ascending}")
    wire.json("POST", "logged-models/search", {"experiment_ids": []})
    wire.json("DELETE", path)
    wire.json("GET", path)
    wire.json("DELETE", path)
    wire.json("PATCH", path, {"model_id": world.logged, "status": "LOGGED_MODEL_READY"})
    wire.json("DELETE", "logged-models/m-none")


def registered_models(wire):
    world = World(wire)
    odd_bodies(wire, "POST", "registered-models/create", {"description": "d", "tags": [{"key": "k", "value": "v"}]}, {"name": "reg"})
    raw_bodies(wire, "POST", "registered-models/create")
    wire.json("POST", "registered-models/create", {"name": world.model_name})
    for name in ("a/b", "a:b", "a b", "ünï", "x" * 256, "x" * 257, "x" * 1000, ".", "..", "a\nb", "%2f", "a'b", "a\"b"):
        wire.json("POST", "registered-models/create", {"name": name if len(name) > 200 else name + wire.fresh("n") if name not in (".", "..") else name})
    full = wire.fresh("full")
    wire.json("POST", "registered-models/create", {"name": full, "description": "d", "tags": [{"key": "b", "value": "2"}, {"key": "a", "value": "1"}]})
    wire.json("GET", "registered-models/get", {"name": full})
    odd_bodies(wire, "GET", "registered-models/get", {"name": world.model_name})
    wire.json("GET", "registered-models/get", {"name": wire.fresh("none")})
    odd_bodies(wire, "PATCH", "registered-models/update", {"name": world.model_name, "description": "new"})
    other = wire.fresh("rename")
    wire.json("POST", "registered-models/create", {"name": other})
    world.new_version(other)
    wire.json("POST", "registered-models/alias", {"name": other, "alias": "champion", "version": "1"})
    odd_bodies(wire, "POST", "registered-models/rename", {"name": wire.fresh("none"), "new_name": other})
    wire.json("POST", "registered-models/rename", {"name": other, "new_name": world.model_name})
    wire.json("POST", "registered-models/rename", {"name": other, "new_name": other})
    wire.json("POST", "registered-models/rename", {"name": other, "new_name": "a/b"})
    moved = wire.fresh("moved")
    wire.json("POST", "registered-models/rename", {"name": other, "new_name": moved})
    wire.json("GET", "registered-models/get", {"name": moved})
    wire.json("GET", "registered-models/alias", {"name": moved, "alias": "champion"})
    odd_bodies(wire, "POST", "registered-models/set-tag", {"name": world.model_name, "key": "k", "value": "v"})
    for length in (5000, 5001, 8000, 8001, 100_000, 100_001):
        wire.json("POST", "registered-models/set-tag", {"name": world.model_name, "key": "long", "value": "v" * length}, f"tag of {length}")
        wire.json("POST", "model-versions/set-tag", {"name": world.model_name, "version": "1", "key": "long", "value": "v" * length}, f"tag of {length}")
    for key in ("x" * 250, "x" * 251, "a/b", "/a", "a/../b", ".", "a b", "a:b", "mlflow.x"):
        wire.json("POST", "registered-models/set-tag", {"name": world.model_name, "key": key, "value": "new"})
        wire.json("POST", "model-versions/set-tag", {"name": world.model_name, "version": "1", "key": key, "value": "new"})
    odd_bodies(wire, "DELETE", "registered-models/delete-tag", {"name": world.model_name, "key": "k"})
    odd_bodies(wire, "POST", "registered-models/alias", {"name": world.model_name, "alias": "champion", "version": "1"})
    for alias in ("latest", "LATEST", "v1", "V2", "v", "version1", "1", "x" * 255, "x" * 256, "a b", "a-b_c", "a.b", "-a", "ünï", "a/b", "a@b"):
        wire.json("POST", "registered-models/alias", {"name": world.model_name, "alias": alias, "version": "2"})
        wire.json("GET", "registered-models/alias", {"name": world.model_name, "alias": alias})
    odd_bodies(wire, "GET", "registered-models/alias", {"name": world.model_name, "alias": "champion"})
    wire.json("POST", "registered-models/alias", {"name": world.model_name, "alias": "champion", "version": "9"})
    wire.json("POST", "registered-models/alias", {"name": world.model_name, "alias": "champion", "version": "2"})
    wire.json("GET", "registered-models/get", {"name": world.model_name})
    odd_bodies(wire, "DELETE", "registered-models/alias", {"name": world.model_name, "alias": "champion"})
    wire.json("DELETE", "registered-models/alias", {"name": world.model_name, "alias": "champion"})
    odd_bodies(wire, "POST", "registered-models/get-latest-versions", {"name": world.model_name, "stages": ["None"]})
    odd_bodies(wire, "GET", "registered-models/get-latest-versions", {"name": world.model_name})
    for _ in range(7):
        wire.json("POST", "registered-models/create", {"name": wire.fresh("regpage")})
    odd_bodies(wire, "GET", "registered-models/search", {"filter": f"name LIKE 'regpage-{wire.unique}%'", "max_results": 2, "order_by": ["name ASC"], "page_token": ""}, keep=("filter",))
    for most in (0, 1, 100, 1000, 1001, -1):
        wire.json("GET", "registered-models/search", {"max_results": most, "filter": f"name = '{full}'"})
    pages(wire, "registered-models/search", {"max_results": 2, "filter": f"name LIKE 'regpage-{wire.unique}%'", "order_by": ["name DESC"]}, "registered_models", "GET")
    odd_bodies(wire, "DELETE", "registered-models/delete", {"name": full})
    wire.json("GET", "registered-models/get", {"name": full})
    wire.json("DELETE", "registered-models/delete", {"name": full})


def model_versions(wire):
    world = World(wire)
    name = world.model_name
    # One server may take what the other refuses: the numbers of these versions do not matter.
    odd = wire.fresh("odd")
    wire.json("POST", "registered-models/create", {"name": odd})
    odd_bodies(wire, "POST", "model-versions/create", {"name": odd, "source": "s3://bucket/m", "run_id": world.run, "description": "d",
               "run_link": "http://127.0.0.1/x", "tags": [{"key": "k", "value": "v"}]})
    raw_bodies(wire, "POST", "model-versions/create")
    wire.json("POST", "model-versions/create", {"name": wire.fresh("none"), "source": "s3://bucket/m"})
    root = ("join", "mlflow-artifacts:/", world.experiment, "/", world.run, "/artifacts")
    for source in ("s3://b/m", "gs://b/m", "/etc", "file:///etc", "file:/etc", "relative/path", "../up", "s3://b/../c", "s3://b/a/%2e%2e/c", "http://host/m",
                   "https://host/m", "dbfs:/m", "models:/x/1", "models:/m-none", "mlflow-artifacts:/1/none/artifacts", "mlflow-artifacts:/../x",
                   "mlflow-artifacts://host/x", "runs:/none/model", "ftp://h/x", "file://localhost/etc", "C:\\x", "\\\\host\\x", "s3://b/m?x=1", "s3://b/m#f", "x" * 600):
        wire.json("POST", "model-versions/create", {"name": name, "source": source})
        wire.json("POST", "model-versions/create", {"name": name, "source": source, "run_id": world.run})
    for source in (root, ("join", *root[1:], "/model"), ("join", *root[1:], "/../x"), ("join", "runs:/", world.run, "/model"),
                   ("join", "models:/", world.logged), ("join", "models:/", name, "/1"), ("join", "runs:/", world.new_run(), "/model")):
        wire.json("POST", "model-versions/create", {"name": name, "source": source})
        wire.json("POST", "model-versions/create", {"name": name, "source": source, "run_id": world.run})
        wire.json("POST", "model-versions/create", {"name": name, "source": source, "model_id": world.logged})
    wire.json("POST", "model-versions/create", {"name": name, "source": "s3://b/m", "run_id": "0" * 32})
    wire.json("POST", "model-versions/create", {"name": name, "source": "s3://b/m", "model_id": "m-none"})
    odd_bodies(wire, "GET", "model-versions/get", {"name": name, "version": "1"})
    odd_bodies(wire, "GET", "model-versions/get-download-uri", {"name": name, "version": "1"})
    wire.json("GET", "model-versions/get", {"name": name, "version": "01"})
    wire.json("GET", "model-versions/get", {"name": name, "version": "999"})
    wire.json("GET", "model-versions/get", {"name": wire.fresh("none"), "version": "1"})
    odd_bodies(wire, "PATCH", "model-versions/update", {"name": odd, "version": "1", "description": "new"})
    odd_bodies(wire, "POST", "model-versions/set-tag", {"name": odd, "version": "1", "key": "k", "value": "v"})
    odd_bodies(wire, "DELETE", "model-versions/delete-tag", {"name": odd, "version": "1", "key": "k"})
    odd_bodies(wire, "POST", "model-versions/transition-stage", {"name": odd, "version": "1", "stage": "Staging", "archive_existing_versions": True})
    for stage in ("Production", "production", "STAGING", "None", "none", "Archived", "Other"):
        for archive in (True, False):
            wire.json("POST", "model-versions/transition-stage", {"name": name, "version": "2", "stage": stage, "archive_existing_versions": archive})
    wire.json("POST", "registered-models/get-latest-versions", {"name": name})
    wire.json("POST", "registered-models/get-latest-versions", {"name": name, "stages": ["production", "None"]})
    wire.json("POST", "registered-models/get-latest-versions", {"name": name, "stages": ["bad"]})
    wire.json("GET", "registered-models/get", {"name": name})
    odd_bodies(wire, "GET", "model-versions/search", {"filter": f"name = '{name}'", "max_results": 2, "order_by": ["version_number ASC"], "page_token": ""}, keep=("filter",))
    for most in (0, 1, 10_000, 200_000, 200_001, -1):
        wire.json("GET", "model-versions/search", {"max_results": most, "filter": f"name = '{wire.fresh('none')}'"})
    paged = wire.fresh("paged")
    wire.json("POST", "registered-models/create", {"name": paged})
    for _ in range(8):
        world.new_version(paged)
    pages(wire, "model-versions/search", {"max_results": 3, "filter": f"name = '{paged}'", "order_by": ["version_number DESC"]}, "model_versions", "GET")
    wire.json("POST", "registered-models/alias", {"name": name, "alias": "a1", "version": "2"})
    wire.json("GET", "model-versions/get", {"name": name, "version": "2"})
    odd_bodies(wire, "DELETE", "model-versions/delete", {"name": name, "version": "1"})
    wire.json("DELETE", "model-versions/delete", {"name": name, "version": "2"})
    wire.json("GET", "registered-models/get", {"name": name})
    wire.json("GET", "registered-models/alias", {"name": name, "alias": "a1"})
    world.new_version(name)
    wire.json("DELETE", "registered-models/delete", {"name": name})
    wire.json("GET", "model-versions/get", {"name": name, "version": "3"})
    wire.json("POST", "registered-models/create", {"name": name})
    world.new_version(name)


def webhooks(wire):
    hook = {"url": "https://1.1.1.1/hook", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}], "description": "d", "secret": "s3cret",
            "status": "ACTIVE"}
    made = wire.json("POST", "webhooks", {"name": wire.fresh("hook"), **hook})
    identifier = made.get("webhook", "webhook_id")
    odd_bodies(wire, "POST", "webhooks", hook, {"name": "hook"})
    for url in ("https://127.0.0.1/x", "http://1.1.1.1/x", "https://localhost/x", "https://10.0.0.1/x", "https://169.254.169.254/x", "ftp://h", "nothing",
                "https://", "file:///etc/passwd", "https://[::1]/x"):
        wire.json("POST", "webhooks", {**hook, "name": wire.fresh("hook"), "url": url})
    for entity, action in (("REGISTERED_MODEL", "CREATED"), ("MODEL_VERSION_TAG", "SET"), ("MODEL_VERSION_TAG", "DELETED"), ("MODEL_VERSION_ALIAS", "CREATED"),
                           ("MODEL_VERSION_ALIAS", "DELETED"), ("MODEL_VERSION", "DELETED"), ("REGISTERED_MODEL", "SET"), ("OTHER", "CREATED"), ("PROMPT", "CREATED")):
        wire.json("POST", "webhooks", {**hook, "name": wire.fresh("hook"), "events": [{"entity": entity, "action": action}]})
    for name in ("a b", "ünï", "x" * 63, "x" * 64, "x" * 255, "-a", "a-", "a.b", "A_b"):
        wire.json("POST", "webhooks", {**hook, "name": name + (wire.unique if len(name) < 60 else "")})
    path = ("join", "webhooks/", identifier)
    wire.json("GET", path)
    wire.json("GET", "webhooks/none")
    odd_bodies(wire, "PATCH", path, {"name": "renamed", "url": "https://1.1.1.1/other", "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}],
                                     "description": "e", "secret": "other", "status": "DISABLED"})
    wire.json("GET", path)
    for most in (501, -1, "x", 1.5):
        wire.json("GET", "webhooks", {"max_results": most})
    wire.json("DELETE", path)
    wire.json("GET", path)
    wire.json("DELETE", path)
    wire.json("PATCH", path, {"description": "x"})
    wire.json("POST", ("join", "webhooks/", identifier, "/test"), {})
    # Nothing that comes later is to be told anywhere.
    for server in wire.servers:
        status, _, data = server.ask("GET", "/api/2.0/mlflow/webhooks?max_results=500", None, {})
        for left in json.loads(data).get("webhooks", []) if status == 200 else []:
            server.ask("DELETE", f"/api/2.0/mlflow/webhooks/{left['webhook_id']}", None, {})


def artifacts(wire):
    base = "/api/2.0/mlflow-artifacts/artifacts/"
    folder = wire.fresh("files")
    binary = {"Content-Type": "application/octet-stream"}
    for name, body in (("a.txt", b"hello"), ("sub/b.bin", bytes(range(256)) * 40), ("empty", b""), ("sub/deep/c.json", b"{}"), ("sp ace%20é.txt".replace(" ", "%20").replace("é", "%C3%A9"), b"x")):
        wire.raw("PUT", f"{base}{folder}/{name}", body=body, headers=binary, label=name)
        wire.raw("GET", f"{base}{folder}/{name}", label=name)
        wire.raw("PUT", f"{base}{folder}/{name}", body=body + b"2", headers=binary, label=f"again {name}")
        wire.raw("GET", f"{base}{folder}/{name}", label=name)
    for path in (None, "", folder, f"{folder}/", f"{folder}/sub", f"{folder}/none", f"{folder}/a.txt", "..", "../..", "/etc", "/", f"{folder}/../{folder}", "%2e%2e", "a\\..\\b", "file:///etc",
                 "//etc", f"{folder}//sub", "./" + folder, "a\x00b"):
        if path not in (None, "", "/"):
            wire.raw("GET", base[:-1], query=[("path", path)], label=f"list {path!r}")
    for path in ("..", "../x", "%2e%2e/x", "%2e%2e%2fx", "..%2fx", "%252e%252e/x", f"{folder}/../../x", "/etc/passwd", "%2fetc%2fpasswd", "a/./b", "a//b", "C:%5Cx", "..%5Cx", "a%00b", "file:%2f%2f%2fetc", f"{folder}/none",
                 f"{folder}", f"{folder}/sub", "%ff", "~", "a%0ab", "?x=1", "%23", "x" * 300):
        wire.raw("GET", base + path, label=f"get {path}")
        if path not in (folder, f"{folder}/sub"):
            wire.raw("PUT", base + path, body=b"x", headers=binary, label=f"put {path}")
    wire.raw("PUT", f"{base}{folder}/sub", body=b"x", headers=binary, label="a file in the place of a folder")
    wire.raw("PUT", f"{base}{folder}/a.txt/inner", body=b"x", headers=binary, label="a folder in the place of a file")
    wire.raw("DELETE", f"{base}{folder}/a.txt")
    wire.raw("GET", f"{base}{folder}/a.txt")
    wire.raw("DELETE", f"{base}{folder}/a.txt")
    wire.raw("DELETE", f"{base}{folder}/sub")
    wire.raw("DELETE", f"{base}{folder}/none")
    wire.raw("DELETE", f"{base}..%2f{folder}")
    wire.raw("GET", base[:-1], query=[("path", folder)])
    wire.raw("POST", f"{base}{folder}/a.txt", body=b"x")


def routes(wire):
    for method, path in (("GET", "/health"), ("GET", "/version"), ("GET", "/api/2.0/mlflow/nothing"), ("POST", "/api/2.0/mlflow/runs/nothing"), ("DELETE", "/api/2.0/mlflow/runs/create"),
                         ("GET", "/api/2.0/mlflow/runs/create"), ("PUT", "/api/2.0/mlflow/experiments/create"), ("GET", "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0"),
                         ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0"), ("GET", "/api/2.0/mlflow/experiments/get/?experiment_id=0"), ("POST", "/api/2.0/mlflow/registered-models/get"),
                         ("HEAD", "/health"), ("OPTIONS", "/api/2.0/mlflow/runs/create")):
        wire.raw(method, path, headers={"Content-Type": "application/json"} if method == "POST" else None, body=b"{}" if method == "POST" else None)


def searches(wire):
    """Texts of the filter language, right and wrong, on the same few rows."""
    experiment = wire.json("POST", "experiments/create", {"name": wire.fresh("search"), "tags": [{"key": "team", "value": "a"}]}).get("experiment_id")
    for number in range(4):
        run = wire.json("POST", "runs/create", {"experiment_id": experiment, "run_name": f"run {number}", "start_time": 1000 + number, "user_id": "u",
                        "tags": [{"key": "t", "value": "ab"[number % 2]}, {"key": "with space", "value": "x"}, {"key": "dotted.key", "value": "y"}]}).get("run", "info", "run_id")
        wire.json("POST", "runs/log-batch", {"run_id": run, "metrics": [{"key": "m", "value": number / 2, "timestamp": 1, "step": 0}, {"key": "a b", "value": 1, "timestamp": 1, "step": 0}],
                  "params": [{"key": "p", "value": str(number)}, {"key": "lr", "value": f"0.{number}"}]})
        if number < 3:
            wire.json("POST", "runs/update", {"run_id": run, "status": ["FINISHED", "FAILED", "KILLED"][number], "end_time": 2000 + number})
    for text in RUN_FILTERS:
        wire.json("POST", "runs/search", {"experiment_ids": [experiment], "filter": text, "max_results": 10}, text)
    for order in RUN_ORDERS:
        wire.json("POST", "runs/search", {"experiment_ids": [experiment], "order_by": order if isinstance(order, list) else [order], "max_results": 10}, f"order {order}")
    odd_bodies(wire, "POST", "runs/search", {"experiment_ids": [experiment], "filter": "metrics.m >= 0", "run_view_type": "ACTIVE_ONLY", "max_results": 2,
               "order_by": ["metrics.m DESC"], "page_token": ""})
    for most in (0, 1, 1000, 50_000, 50_001, -1):
        wire.json("POST", "runs/search", {"experiment_ids": [experiment], "max_results": most})
    for token in ("x", "e30=", "eyJvZmZzZXQiOiAxfQ==", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAieCJ9", "W10=", "eyJvZmZzZXQiOiAxMDB9"):
        wire.json("POST", "runs/search", {"experiment_ids": [experiment], "max_results": 2, "page_token": token})
        wire.json("GET", "registered-models/search", {"max_results": 2, "page_token": token, "filter": "name = 'none'"})
        wire.json("GET", "model-versions/search", {"max_results": 2, "page_token": token, "filter": "name = 'none'"})
        wire.json("POST", "experiments/search", {"max_results": 2, "page_token": token, "filter": "name = 'none'"})
    pages(wire, "runs/search", {"experiment_ids": [experiment], "max_results": 1, "order_by": ["metrics.m DESC"]}, "runs")
    wire.json("POST", "runs/search", {"experiment_ids": []})
    wire.json("POST", "runs/search", {"experiment_ids": ["999999"]})
    wire.json("POST", "runs/search", {})
    name = wire.fresh("searched")
    for part in ("a", "b"):
        wire.json("POST", "registered-models/create", {"name": f"{name}-{part}", "tags": [{"key": "t", "value": part}, {"key": "with space", "value": "x"}]})
        for number in range(3):
            wire.json("POST", "model-versions/create", {"name": f"{name}-{part}", "source": f"s3://b/{number}", "tags": [{"key": "v", "value": str(number)}]})
    for text in MODEL_FILTERS:
        wire.json("GET", "registered-models/search", {"filter": text.replace("NAME", name), "max_results": 10, "order_by": ["name ASC"]}, text)
    for text in VERSION_FILTERS:
        wire.json("GET", "model-versions/search", {"filter": text.replace("NAME", name), "max_results": 10, "order_by": ["name ASC", "version_number DESC"]}, text)
    for order in ("name", "name ASC", "name DESC", "last_updated_timestamp", "timestamp ASC", "version_number", "creation_timestamp DESC", "nothing", "name asc", "`name`",
                  "name WRONG", "", "attribute.name", "name; DROP", "tags.t", "version ASC"):
        wire.json("GET", "registered-models/search", {"filter": f"name = '{name}-a'", "max_results": 10, "order_by": [order]}, f"order {order}")
        wire.json("GET", "model-versions/search", {"filter": f"name = '{name}-a' AND version_number = 1", "max_results": 10, "order_by": [order]}, f"order {order}")
    for text in EXPERIMENT_FILTERS:
        wire.json("POST", "experiments/search", {"filter": text.replace("UNIQUE", wire.unique), "max_results": 10, "order_by": ["name ASC"]}, text)


def pages(wire, path, body, rows, method="POST"):
    """Follows the tokens to the last page."""
    for _ in range(30):
        page = wire.json(method, path, body)
        token = page.get("next_page_token")
        if {"missing", "", None} & set(token.values):
            return
        body = {**body, "page_token": token}


class Bare:
    """A metric with a value that is no JSON as Python writes it."""

    def __init__(self, run, text):
        self.run, self.text = run, text

    def pick(self, index):
        return b'{"run_id": "%s", "key": "bare", "timestamp": 1, "value": %s}' % (self.run.values[index].encode(), self.text)


RUN_FILTERS = [
    "", " ", "metrics.m > 0.5", "metrics.m >= 0.5 AND metrics.m < 1.5", "metrics.m = 1", "metrics.m != 1", "metric.m > 0", "metrics.`a b` = 1", "metrics.'a b' = 1",
    'metrics."a b" = 1', "metrics.m > '1'", "metrics.m > x", "metrics.m LIKE '1'", "metrics.m", "metrics.m >", "> 1", "1 < metrics.m", "metrics.m > 1e-3", "metrics.m > -1",
    "metrics.m > +1", "metrics.m > .5", "metrics.m > 1.", "metrics.m == 1", "metrics.m <> 1", "metrics.m > 1 OR metrics.m < 0", "NOT metrics.m > 1", "(metrics.m > 1)",
    "metrics.m > 1;", "metrics.m > 1 -- x", "metrics.m > 1 /* x */", "metrics.none > 1", "metrics.m IN (1)", "metrics.m IS NULL", "metrics.m > NaN", "metrics.m > 1 and metrics.m < 9", "metrics.m>1", "metrics.m>1 AND",
    "params.p = '1'", 'params.p = "1"', "params.p = 1", "params.p != '1'", "params.p LIKE '%'", "params.p ILIKE '1'", "params.p > '1'", "parameters.p = '1'", "param.p = '1'", "params.p = '1' AND params.lr = '0.1'",
    "params.p = ''", "params.p IN ('1', '2')", "params.p NOT IN ('1')", "params.p LIKE '_'", "params.`p` = '1'", "params.p = \"it's\"", "params.p = 'a''b'", "params.p = `1`", "params.p IS NULL", "params.none IS NULL", "params.p IS NOT NULL",
    "tags.t = 'a'", "tag.t = 'a'", "tags.t != 'a'", "tags.t LIKE 'a%'", "tags.t ILIKE 'A'", "tags.t LIKE 'A'", "tags.`with space` = 'x'", "tags.\"with space\" = 'x'", "tags.dotted.key = 'y'", "tags.`dotted.key` = 'y'", "tags.none = 'x'", "tags.none != 'x'",
    "tags.mlflow.runName = 'run 1'", "tags.`mlflow.runName` LIKE 'run%'", "tags.t IS NULL", "tags.none IS NULL", "tags.t IS NOT NULL", "tags.t is not null AND metrics.m > 0", "tags.t IN ('a')", "tags.t NOT IN ('a', 'c')", "tags.t > 'a'", "tags. = 'a'", "tags = 'a'",
    "status = 'FINISHED'", "status = 'finished'", "status != 'FINISHED'", "status LIKE 'F%'", "status IN ('FINISHED', 'FAILED')", "attributes.status = 'FAILED'", "attribute.status = 'FAILED'", "attr.status = 'KILLED'", "run.status = 'KILLED'", "status = 'OTHER'",
    "run_name = 'run 1'", "run_name LIKE 'run%'", "run_name ILIKE 'RUN%'", "`run name` = 'run 1'", "`Run name` = 'run 1'", "Run_Name = 'run 1'", "run_name != 'run 1'", "run_name IN ('run 1', 'run 2')", "attributes.run_name = 'run 1'", "attributes.`run name` = 'run 1'", "name = 'run 1'",
    "start_time > 1001", "start_time = 1001", "start_time >= '1001'", "end_time < 2001", "end_time != 2001", "created > 1001", "Created > 1001", "start_time > 1.5", "start_time LIKE '1'", "user_id = 'u'", "user_id != 'u'", "artifact_uri LIKE 'mlflow%'", "artifact_uri = 'x'",
    "run_id = 'x'", "run_id IN ('x', 'y')", "run_id NOT IN ('x')", "run_id IN ()", "run_id IN ('x',)", "run_id IN (1)", "run_id IN 'x'", "run_id = \"x\"", "run_id LIKE '%'", "attributes.run_id != 'x'", "run_id IN ('x' 'y')", "run_id in ('x')",
    "lifecycle_stage = 'active'", "lifecycle_stage = 'deleted'", "experiment_id = '0'", "duration > 5", "unknown = 'x'", "unknown.key = 'x'", "attributes.unknown = 'x'", "dataset.name = 'd'", "datasets.name = 'd'", "dataset.digest LIKE '%'", "dataset.context = 'training'", "dataset.unknown = 'x'", "dataset.name IN ('d')",
    "metrics.m > 0 AND params.p = '1' AND tags.t = 'b'", "metrics.m > 0  AND  metrics.m > 1", "metrics.m > 0\nAND\tmetrics.m < 9", "AND metrics.m > 0", "metrics.m > 0 AND AND metrics.m > 1", "metrics.m > 0 metrics.m > 1", "metrics.m > 0, metrics.m > 1", "metrics.m > 0; DROP TABLE runs", "'; DROP TABLE runs --", "tags.t = 'a' UNION SELECT 1",
    "tags.t = '\\'", "tags.t = '%'", "tags.t LIKE '\\%'", "tags.t = 'ünï'", "tags.ünï = 'x'", "tags.t = '\x00'", "tags.t = 'a", "tags.t = a'", "tags.`t = 'a'", "metrics.m BETWEEN 0 AND 1", "tags.t LIKE a", "tags.t LIKE", "metrics.m > 99999999999999999999999999", "metrics.m > 1e999", "metrics.m > 0x10", "metrics.m > 1_000", "metrics.m > true", "metrics.m = null",
    "model_id = 'x'", "metrics.model = 1", "status = 1", "params.p NOT LIKE '1'", "tags.t NOT ILIKE '1'", "TAGS.t = 'a'", "Metrics.m > 0", "METRICS.M > 0", "params.P = '1'", "tags.T = 'a'", "tags.t LIKE 'a' ESCAPE 'x'", "tags.t = 'a' AND (metrics.m > 0)", "tags.t='a'AND metrics.m>0", "issue.id = 'x'", "inputs.x = 'y'",
]

RUN_ORDERS = ["metrics.m", "metrics.m ASC", "metrics.m DESC", "metrics.m desc", "metric.m DESC", "metrics.`a b` DESC", "metrics.none DESC", "params.p DESC", "params.lr", "tags.t", "tags.t DESC", "tags.`with space`", "start_time", "start_time DESC", "attributes.start_time DESC", "attribute.start_time", "end_time", "end_time DESC", "status", "status DESC",
              "run_name", "run_name DESC", "`run name` DESC", "Created", "created DESC", "user_id", "duration", "unknown", "unknown.key", "", " ", "metrics.m DESCENDING", "metrics.m DESC NULLS", "metrics.m; DROP", "metrics", "metrics.", "m", ["metrics.m DESC", "params.p"], ["tags.t", "metrics.m DESC"], ["metrics.m", "metrics.m DESC"], ["start_time DESC", "start_time ASC"],
              "dataset.name", "metrics.m ASC DESC", "(metrics.m)", "`metrics.m`", "`metrics`.`m`", "'start_time'", "lifecycle_stage", "experiment_id", "name", "metrics.m  DESC", "metrics.m\tDESC", "tags.mlflow.runName DESC"]

MODEL_FILTERS = ["name = 'NAME-a'", "name LIKE 'NAME%'", "name ILIKE 'NAME%'", "name != 'NAME-a' AND name LIKE 'NAME%'", "name = NAME", "name = 'NAME-a' AND tags.t = 'a'", "tags.t = 'b' AND name LIKE 'NAME%'", "tag.t != 'b' AND name LIKE 'NAME%'", "tags.none != 'x' AND name LIKE 'NAME%'",
                 "tag.`mlflow.prompt.is_prompt` != 'true' AND name LIKE 'NAME%'", "tag.`mlflow.prompt.is_prompt` = 'true' AND name LIKE 'NAME%'", "name LIKE 'NAME%' AND tags.`with space` = 'x'", "tags.t LIKE 'a' AND name LIKE 'NAME%'", "tags.t ILIKE 'A' AND name LIKE 'NAME%'", "tags.t > 'a'", "name > 'a'", "name IN ('NAME-a')",
                 "name LIKE 'NAME-_'", "unknown = 'x'", "version_number = 1", "name = 'NAME-a' OR name = 'NAME-b'", "name =", "= 'x'", "name = 'NAME-a';", "name = 'x' AND", "attribute.name = 'NAME-a'", "attributes.name = 'NAME-a'", "name = \"NAME-a\"", "`name` = 'NAME-a'", "name LIKE \"NAME%\"", "name = 5", "'; DROP", "name = 'NAME-a' AND name = 'NAME-b'",
                 "tags.t IS NULL AND name LIKE 'NAME%'", "tags.none IS NULL AND name LIKE 'NAME%'", "tags.t = 'a' AND tags.t = 'b'", "last_updated_timestamp > 0", "Name = 'NAME-a'", "name='NAME-a'", "name NOT LIKE 'NAME%'", "tags.t IN ('a')", "run_id = 'x'", "tags.'t' = 'a' AND name LIKE 'NAME%'"]

VERSION_FILTERS = ["name = 'NAME-a'", "name LIKE 'NAME%'", "name ILIKE 'name%'", "name = 'NAME-a' AND version_number = 2", "name = 'NAME-a' AND version_number > 1", "name = 'NAME-a' AND version_number >= '2'", "version_number != 2 AND name = 'NAME-a'", "version_number = 'x'", "version = 1", "version_number LIKE '1'", "name = 'NAME-a' AND tags.v = '1'", "name LIKE 'NAME%' AND tag.v != '1'",
                   "name LIKE 'NAME%' AND tags.v LIKE '%'", "run_id = 'x'", "run_id IN ('x', 'y')", "run_id IN ('x')", "run_id IN ()", "run_id IN (1)", "run_id IN ('x' 'y')", "run_id = '' AND name = 'NAME-a'", "run_id != 'x'", "run_id LIKE 'x'", "run_id NOT IN ('x')", "source_path = 's3://b/1' AND name LIKE 'NAME%'", "source_path LIKE 's3://b/%' AND name = 'NAME-a'", "source_path != 's3://b/1' AND name = 'NAME-a'", "source = 'x'", "name IN ('NAME-a')",
                   "unknown = 'x'", "status = 'READY'", "current_stage = 'None'", "creation_timestamp > 0", "last_updated_timestamp > 0", "name = 'NAME-a' OR name = 'NAME-b'", "name = 'x' AND", "tags.v > '1'", "tags.`v` = '1' AND name LIKE 'NAME%'", "version_number = 1.5", "version_number = 1 AND version_number = 2 AND name = 'NAME-a'", "user_id = 'x'", "aliases = 'x'", "name != 'NAME-a' AND name LIKE 'NAME%'", "tag.`mlflow.prompt.is_prompt` != 'true' AND name LIKE 'NAME%'", "version_number <= 99999999999999999999 AND name = 'NAME-a'", "tags.v IS NULL AND name LIKE 'NAME%'", "tags.none IS NULL AND name LIKE 'NAME%'", "name = 'NAME-a' AND tags.v = '1' AND tags.v != '2'"]

EXPERIMENT_FILTERS = ["name = 'search-UNIQUE-1'", "name LIKE 'search-UNIQUE%'", "name ILIKE 'SEARCH-UNIQUE%'", "name LIKE 'search-UNIQUE%' AND tags.team = 'a'", "name LIKE 'search-UNIQUE%' AND tags.team != 'a'", "name LIKE 'search-UNIQUE%' AND tag.team ILIKE 'A'", "name LIKE 'search-UNIQUE%' AND tags.none IS NULL", "name LIKE 'search-UNIQUE%' AND tags.team IS NOT NULL", "name LIKE 'search-UNIQUE%' AND creation_time > 0",
                      "name LIKE 'search-UNIQUE%' AND last_update_time > 0", "creation_time = 5", "creation_time LIKE '5'", "creation_time > '5' AND name = 'none'", "experiment_id = '0'", "lifecycle_stage = 'active'", "attributes.name = 'Default'", "attribute.name = 'Default'", "attr.name = 'Default'", "name IN ('Default')", "unknown = 'x'", "name = Default", "name = 'Default' OR name = 'x'", "name =", "name = 'x' AND", "name > 'a'", "name != 'x' AND name = 'Default'", "metrics.m > 1", "tags.team > 'a'", "'; DROP", "name = 'Default';", "artifact_location = 'x'", "tags.`team` = 'a' AND name LIKE 'search-UNIQUE%'"]

AREAS = {"routes": routes, "experiments": experiments, "runs": runs, "metrics": metrics, "logged_models": logged_models, "registered_models": registered_models,
         "model_versions": model_versions, "artifacts": artifacts, "searches": searches, "webhooks": webhooks}
