"""Models that are logged, registered, found by alias, version and stage, and loaded."""

import logging
import os
import tempfile
import warnings

import mlflow
import pandas

from conformance import equal, fresh, refused

warnings.filterwarnings("ignore")
logging.getLogger("mlflow").setLevel(logging.ERROR)


class Doubles(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input * 2


def test_log_register_load(client):
    name = fresh("loaded")
    mlflow.set_experiment(fresh("models"))
    given = pandas.DataFrame({"a": [1, 2, 3]})
    with mlflow.start_run() as run:
        info = mlflow.pyfunc.log_model(name="net", python_model=Doubles(), pip_requirements=["pandas"], input_example=given,
                                       registered_model_name=name, metadata={"kind": "test"})
    assert info.model_uri.startswith("models:/m-"), info.model_uri
    logged = client.get_logged_model(info.model_id)
    equal((logged.name, str(logged.status), logged.source_run_id), ("net", "READY", run.info.run_id))
    equal([output.model_id for output in client.get_run(run.info.run_id).outputs.model_outputs], [info.model_id])
    version = client.get_model_version(name, "1")
    equal((version.run_id, version.source, version.status), (run.info.run_id, info.model_uri, "READY"))
    client.set_registered_model_alias(name, "champion", "1")
    client.transition_model_version_stage(name, "1", "Production")
    for uri in (f"models:/{name}@champion", f"models:/{name}/1", f"models:/{name}/latest", f"models:/{name}/Production", info.model_uri, f"runs:/{run.info.run_id}/net"):
        model = mlflow.pyfunc.load_model(uri)
        equal(list(model.predict(given)["a"]), [2, 4, 6])
    equal(mlflow.models.get_model_info(f"models:/{name}@champion").metadata, {"kind": "test"})
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/1", dst_path=folder)
        assert {"MLmodel", "python_model.pkl"} <= set(os.listdir(path)), os.listdir(path)
    again = mlflow.register_model(f"models:/{info.model_id}", name)
    equal((again.version, again.run_id, again.source), ("2", run.info.run_id, info.model_uri))
    by_run = mlflow.register_model(f"runs:/{run.info.run_id}/net", name, tags={"by": "run"})
    equal((by_run.version, by_run.run_id, by_run.tags["by"]), ("3", run.info.run_id, "run"))
    equal(list(mlflow.pyfunc.load_model(f"models:/{name}/3").predict(given)["a"]), [2, 4, 6])
    with refused("RESOURCE_DOES_NOT_EXIST"):
        mlflow.pyfunc.load_model(f"models:/{name}/9")
    with refused("INVALID_PARAMETER_VALUE"):
        mlflow.pyfunc.load_model(f"models:/{name}@none")
