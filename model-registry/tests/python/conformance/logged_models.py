"""Logged models: made, finished, tagged, searched with metrics, deleted."""

from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus, Metric

from conformance import equal, fresh, refused


def test_life(client):
    home = client.create_experiment(fresh("logged"))
    run = client.create_run(home).info.run_id
    model = client.create_logged_model(home, name="net", source_run_id=run, tags={"t": "1"}, params={"p": "2"}, model_type="agent")
    equal((model.name, model.experiment_id, model.source_run_id, model.model_type, str(model.status)), ("net", home, run, "agent", "PENDING"))
    equal((model.params, model.tags["t"]), ({"p": "2"}, "1"))
    equal(model.artifact_location, f"mlflow-artifacts:/{home}/models/{model.model_id}/artifacts")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=3)])
    client.log_inputs(run, models=[LoggedModelInput(model.model_id)])
    found = client.get_run(run)
    equal([(output.model_id, output.step) for output in found.outputs.model_outputs], [(model.model_id, 3)])
    equal([given.model_id for given in found.inputs.model_inputs], [model.model_id])
    equal(str(client.finalize_logged_model(model.model_id, LoggedModelStatus.READY).status), "READY")
    client.set_logged_model_tags(model.model_id, {"t": "new", "u": "3"})
    client.delete_logged_model_tag(model.model_id, "u")
    client.log_model_params(model.model_id, {"q": "4"})
    found = client.get_logged_model(model.model_id)
    equal((found.tags["t"], "u" in found.tags, found.params), ("new", False, {"p": "2", "q": "4"}))
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_logged_model_tag(model.model_id, "u")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_logged_model("m-" + "0" * 32)
    client.delete_logged_model(model.model_id)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_logged_model(model.model_id)


def test_metrics_and_search(client):
    home = client.create_experiment(fresh("logged"))
    run = client.create_run(home).info.run_id
    made = [client.create_logged_model(home, name=f"net{number}", source_run_id=run, params={"depth": str(number)}, tags={"odd": str(number % 2)}).model_id for number in range(4)]
    for number, model in enumerate(made):
        client.log_metric(run, "f1", number / 4, model_id=model, dataset_name="night", dataset_digest="abc")
    client.log_batch(run, [Metric("loss", 0.5, 1, 0, model_id=made[0])])
    metrics = client.get_logged_model(made[1]).metrics
    equal([(metric.key, metric.value, metric.dataset_name, metric.run_id) for metric in metrics], [("f1", 0.25, "night", run)])
    search = lambda text=None, **more: [found.name[-1] for found in client.search_logged_models([home], text, **more)]
    newest = [{"field_name": "creation_timestamp", "ascending": True}, {"field_name": "name"}]
    equal(sorted(search()), ["0", "1", "2", "3"])
    equal(sorted(search("metrics.f1 >= 0.5")), ["2", "3"])
    equal(sorted(search("params.depth = '1'")), ["1"])
    equal(sorted(search("tags.odd = '1' AND metrics.f1 < 0.5")), ["1"])
    equal(search(order_by=[{"field_name": "metrics.f1", "ascending": False}]), ["3", "2", "1", "0"])
    equal(search(order_by=[{"field_name": "metrics.f1", "ascending": True, "dataset_name": "night", "dataset_digest": "abc"}]), ["0", "1", "2", "3"])
    equal(sorted(search("metrics.f1 > 0.3", datasets=[{"dataset_name": "night", "dataset_digest": "abc"}])), ["2", "3"])
    equal(search("metrics.f1 > 0.3", datasets=[{"dataset_name": "other"}]), [])
    first = client.search_logged_models([home], max_results=3, order_by=[{"field_name": "metrics.f1"}])
    rest = client.search_logged_models([home], max_results=3, order_by=[{"field_name": "metrics.f1"}], page_token=first.token)
    equal(sorted(found.name for found in [*first, *rest]), ["net0", "net1", "net2", "net3"])
    equal(rest.token, None)
    for wrong in ("nothing = 1", "metrics.f1 LIKE 'a'", "name ="):
        with refused("INVALID_PARAMETER_VALUE"):
            client.search_logged_models([home], wrong)
