"""The `mlflow` command line."""

import csv
import io
import os
import re
import subprocess
import sys
import tempfile

from click.testing import CliRunner
from mlflow.cli import cli

from conformance import equal, fresh


def mlflow(*arguments, fails=False):
    """The command line in this process: a start takes seconds. The first shows that it works as a process too."""
    ended = CliRunner().invoke(cli, arguments)
    assert (ended.exit_code != 0) == fails, f"{arguments}: {ended.exit_code}\n{ended.output}\n{ended.exception!r}"
    return ended.output


def test_commands(client):
    name = fresh("command")
    process = [sys.executable, "-m", "mlflow", "experiments", "create", "-n", name]
    made = subprocess.run(process, capture_output=True, text=True, timeout=120, check=True).stdout
    identifier = re.search(r"with id (\d+)", made).group(1)
    assert name in mlflow("experiments", "search")
    mlflow("experiments", "rename", "--experiment-id", identifier, "--new-name", name + "-2")
    equal(client.get_experiment(identifier).name, name + "-2")
    run = client.create_run(identifier, run_name="by command").info.run_id
    client.log_metric(run, "loss", 0.5)
    assert run in mlflow("runs", "list", "--experiment-id", identifier)
    assert '"loss": 0.5' in mlflow("runs", "describe", "--run-id", run)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "note.txt")
        with open(path, "w") as file:
            file.write("by command")
        mlflow("artifacts", "log-artifact", "--local-file", path, "--run-id", run, "--artifact-path", "notes")
        assert "note.txt" in mlflow("artifacts", "list", "--run-id", run, "--artifact-path", "notes")
        mlflow("artifacts", "download", "--run-id", run, "--artifact-path", "notes", "--dst-path", folder)
        with open(os.path.join(folder, "notes", "note.txt")) as file:
            equal(file.read(), "by command")
        table = os.path.join(folder, "runs.csv")
        mlflow("experiments", "csv", "--experiment-id", identifier, "--filename", table)
        with open(table) as file:
            equal([row["metrics.loss"] for row in csv.DictReader(io.StringIO(file.read()))], ["0.5"])
    mlflow("runs", "delete", "--run-id", run)
    equal(client.get_run(run).info.lifecycle_stage, "deleted")
    mlflow("runs", "restore", "--run-id", run)
    mlflow("experiments", "delete", "--experiment-id", identifier)
    equal(client.get_experiment(identifier).lifecycle_stage, "deleted")
    mlflow("experiments", "restore", "--experiment-id", identifier)
    mlflow("experiments", "delete", "--experiment-id", "987654321", fails=True)
