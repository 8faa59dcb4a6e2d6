"""Runs: their life, metrics with all values, params, tags, datasets, and limits."""

import math
import time

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag

from conformance import equal, fresh, refused


def experiment(client):
    return client.create_experiment(fresh("runs"))


def test_life(client):
    home = experiment(client)
    run = client.create_run(home, start_time=1234, tags={"a": "1"}, run_name="first")
    identifier = run.info.run_id
    equal((run.info.status, run.info.start_time, run.info.run_name, run.info.experiment_id), ("RUNNING", 1234, "first", home))
    equal(run.info.artifact_uri, f"mlflow-artifacts:/{home}/{identifier}/artifacts")
    equal((run.data.tags["a"], run.data.tags["mlflow.runName"]), ("1", "first"))
    client.update_run(identifier, status="SCHEDULED", name="second")
    found = client.get_run(identifier)
    equal((found.info.status, found.info.run_name, found.data.tags["mlflow.runName"]), ("SCHEDULED", "second", "second"))
    client.set_tag(identifier, "mlflow.runName", "third")
    equal(client.get_run(identifier).info.run_name, "third")
    client.set_terminated(identifier, status="FAILED", end_time=5678)
    found = client.get_run(identifier)
    equal((found.info.status, found.info.end_time), ("FAILED", 5678))
    client.delete_run(identifier)
    equal(client.get_run(identifier).info.lifecycle_stage, "deleted")
    for wrong in (lambda: client.log_metric(identifier, "m", 1), lambda: client.log_param(identifier, "p", 1),
                  lambda: client.set_tag(identifier, "t", 1), lambda: client.set_terminated(identifier)):
        with refused("INVALID_PARAMETER_VALUE", "must be in the 'active' state"):
            wrong()
    client.restore_run(identifier)
    equal(client.get_run(identifier).info.lifecycle_stage, "active")
    unnamed = client.create_run(home)
    assert unnamed.info.run_name and unnamed.data.tags["mlflow.runName"] == unnamed.info.run_name
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        client.get_run("0" * 32)


def test_fluent(client):
    name = fresh("fluent")
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name="parent", description="about it") as parent:
        mlflow.log_params({"lr": 0.1, "layers": 3})
        mlflow.log_metrics({"loss": 0.5, "acc": 0.9}, step=1)
        mlflow.log_metric("loss", 0.25, step=2)
        mlflow.set_tags({"kind": "test"})
        with mlflow.start_run(nested=True, run_name="child") as child:
            mlflow.log_metric("loss", 1)
    found = client.get_run(parent.info.run_id)
    equal((found.info.status, found.data.params, found.data.metrics), ("FINISHED", {"lr": "0.1", "layers": "3"}, {"loss": 0.25, "acc": 0.9}))
    equal(found.data.tags["mlflow.note.content"], "about it")
    equal(client.get_parent_run(child.info.run_id).info.run_id, parent.info.run_id)
    frame = mlflow.search_runs(experiment_names=[name], filter_string="metrics.loss < 0.5")
    equal(list(frame["run_id"]), [parent.info.run_id])


def test_metrics(client):
    run = client.create_run(experiment(client)).info.run_id
    for value, step in ((1.5, 0), (float("nan"), 1), (float("inf"), 2), (float("-inf"), 3), (-0.0, 4), (1e-300, 5), (5, 6)):
        client.log_metric(run, "m", value, timestamp=1000 + step, step=step)
    history = sorted(client.get_metric_history(run, "m"), key=lambda metric: metric.step)
    equal([metric.step for metric in history], list(range(7)))
    equal([metric.timestamp for metric in history], list(range(1000, 1007)))
    equal(history[0].value, 1.5)
    assert math.isnan(history[1].value)
    # Infinities are stored as the largest numbers there are.
    equal([metric.value > 1.7e308 for metric in history[2:4]], [True, False])
    equal((history[3].value < -1.7e308, history[5].value, history[6].value), (True, 1e-300, 5.0))
    equal(client.get_run(run).data.metrics, {"m": 5.0})
    equal(client.get_metric_history(run, "none"), [])
    # The newest is the one of the highest step, then time, then value.
    for value, timestamp, step in ((1, 9, 5), (7, 1, 9), (3, 2, 9), (2, 2, 9), (9, 3, 8)):
        client.log_metric(run, "newest", value, timestamp=timestamp, step=step)
    equal(client.get_run(run).data.metrics["newest"], 3.0)
    client.log_metric(run, "nan", float("nan"))
    assert math.isnan(client.get_run(run).data.metrics["nan"])
    client.log_metric(run, "negative step", 1, step=-5)
    equal(client.get_metric_history(run, "negative step")[0].step, -5)
    for key in ("a/b", "a b", "a.b-c_d", "k" * 250):
        client.log_metric(run, key, 1)
    for key in ("", "a*b", "/a", "a//b", "a/../b", "k" * 251):
        with refused("INVALID_PARAMETER_VALUE"):
            client.log_metric(run, key, 1)


def test_long_history_comes_in_pages(client):
    run = client.create_run(experiment(client)).info.run_id
    for batch in range(3):
        client.log_batch(run, metrics=[Metric("long", number, 1000 + number, number) for number in range(batch * 1000, batch * 1000 + 1000)])
    history = client.get_metric_history(run, "long")
    equal(sorted(metric.step for metric in history), list(range(3000)))
    equal(client.get_run(run).data.metrics["long"], 2999.0)


def test_params(client):
    run = client.create_run(experiment(client)).info.run_id
    client.log_param(run, "p", 1)
    client.log_param(run, "p", "1")
    with refused("INVALID_PARAMETER_VALUE", "p"):
        client.log_param(run, "p", 2)
    client.log_param(run, "unicode", "ünï ✓ 🦁")
    client.log_param(run, "long", "v" * 6000)
    params = client.get_run(run).data.params
    equal((params["p"], params["unicode"], len(params["long"])), ("1", "ünï ✓ 🦁", 6000))


def test_tags(client):
    run = client.create_run(experiment(client)).info.run_id
    client.set_tag(run, "t", 1)
    client.set_tag(run, "t", "two")
    equal(client.get_run(run).data.tags["t"], "two")
    client.delete_tag(run, "t")
    assert "t" not in client.get_run(run).data.tags
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_tag(run, "t")
    client.set_tag(run, "long", "v" * 8000)
    equal(len(client.get_run(run).data.tags["long"]), 8000)


def test_batches(client):
    run = client.create_run(experiment(client)).info.run_id
    now = int(time.time() * 1000)
    client.log_batch(run, [Metric(f"m{number}", number, now, 0) for number in range(800)], [Param(f"p{number}", str(number)) for number in range(100)],
                     [RunTag(f"t{number}", str(number)) for number in range(100)])
    data = client.get_run(run).data
    equal((len(data.metrics), len(data.params), data.metrics["m799"], data.params["p99"], data.tags["t99"]), (800, 100, 799.0, "99", "99"))
    client.log_batch(run, [Metric("same", 1, now, 1)] * 3)
    equal(len(client.get_metric_history(run, "same")), 1)
    # A batch is kept whole or not at all.
    with refused("INVALID_PARAMETER_VALUE"):
        client.log_batch(run, params=[Param("p0", "another"), Param("new", "1")], tags=[RunTag("new", "1")])
    data = client.get_run(run).data
    assert "new" not in data.params and "new" not in data.tags, data
    client.log_batch(run)


def test_inputs(client):
    home = experiment(client)
    run = client.create_run(home).info.run_id
    dataset = Dataset(name="night", digest="abc", source_type="local", source="here", schema='{"a": 1}', profile='{"rows": 2}')
    client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    (found,) = client.get_run(run).inputs.dataset_inputs
    equal((found.dataset.name, found.dataset.digest, found.dataset.source, found.dataset.schema, found.dataset.profile), ("night", "abc", "here", '{"a": 1}', '{"rows": 2}'))
    equal([(tag.key, tag.value) for tag in found.tags], [("mlflow.data.context", "training")])
    other = client.create_run(home).info.run_id
    client.log_inputs(other, [DatasetInput(dataset, []), DatasetInput(Dataset("day", "x", "local", "there"), [])])
    equal(sorted(found.dataset.name for found in client.get_run(other).inputs.dataset_inputs), ["day", "night"])
    search = lambda text: {found.info.run_id for found in client.search_runs([home], text)}
    equal(search("dataset.name = 'day'"), {other})
    equal(search("dataset.digest = 'abc'"), {run, other})
    equal(search("dataset.context = 'training'"), {run})


def test_status(client):
    run = client.create_run(experiment(client)).info.run_id
    for status in ("FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED"):
        client.update_run(run, status=status)
        equal(client.get_run(run).info.status, RunStatus.to_string(RunStatus.from_string(status)))
