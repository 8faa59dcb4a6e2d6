"""MLflow's client with a token, with names and passwords, and with nothing.

usage: identity.py URL TOKEN PASSWORD
"""

import os
import pathlib
import sys
import tempfile

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"

import mlflow
from mlflow.exceptions import MlflowException

url, token, password = sys.argv[1:]


def client(**variables):
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        os.environ.pop(f"MLFLOW_TRACKING_{name}", None)
    for name, value in variables.items():
        os.environ[f"MLFLOW_TRACKING_{name}"] = value
    mlflow.set_tracking_uri(url)
    return mlflow.MlflowClient(url)


def refused(deed, status, words):
    try:
        deed()
    except MlflowException as error:
        assert error.get_http_status_code() == status and words in str(error), error
        return
    raise AssertionError("it was allowed")


# By a token of a service: a scientist tracks, and registers nothing.
scientist = client(TOKEN=token)
experiment = scientist.create_experiment("by a token")
run = scientist.create_run(experiment)
scientist.log_metric(run.info.run_id, "f1", 0.9)
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "note.txt")
    path.write_text("tracks in the snow")
    scientist.log_artifact(run.info.run_id, str(path))
    assert pathlib.Path(scientist.download_artifacts(run.info.run_id, "note.txt", folder)).read_text() == "tracks in the snow"
refused(lambda: scientist.create_registered_model("wildlife"), 403, "models:write")

# By name and password.
engineer = client(USERNAME="ada", PASSWORD=password)
engineer.create_registered_model("wildlife")
assert engineer.get_run(run.info.run_id).data.metrics == {"f1": 0.9}

viewer = client(USERNAME="grace", PASSWORD=password)
assert viewer.get_registered_model("wildlife").name == "wildlife"
refused(lambda: viewer.log_metric(run.info.run_id, "f1", 1.0), 403, "tracking:write")
refused(lambda: viewer.delete_registered_model("wildlife"), 403, "models:write")

refused(lambda: client().search_experiments(), 401, "say who you are")
refused(lambda: client(TOKEN="sfr_nobody").search_experiments(), 401, "token")
refused(lambda: client(USERNAME="ada", PASSWORD="wrong").search_experiments(), 401, "password")
print("all as it should be")
