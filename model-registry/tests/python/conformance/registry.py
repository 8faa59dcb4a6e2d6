"""Registered models and versions: aliases, tags, stages, renaming, deletion, sources and their refusals."""

import warnings

from conformance import equal, fresh, refused

warnings.filterwarnings("ignore", category=FutureWarning)


def test_models(client):
    name = fresh("model")
    made = client.create_registered_model(name, tags={"a": "1"}, description="about")
    equal((made.name, made.description, made.tags, made.latest_versions), (name, "about", {"a": "1"}, []))
    with refused("RESOURCE_ALREADY_EXISTS", name, "already exists"):
        client.create_registered_model(name)
    for wrong in ("", "a/b", "a:b"):
        with refused("INVALID_PARAMETER_VALUE"):
            client.create_registered_model(wrong)
    equal(client.update_registered_model(name, "new").description, "new")
    client.set_registered_model_tag(name, "b", "ünï ✓")
    client.set_registered_model_tag(name, "a", "2")
    equal(client.get_registered_model(name).tags, {"a": "2", "b": "ünï ✓"})
    client.delete_registered_model_tag(name, "a")
    client.delete_registered_model_tag(name, "a")
    equal(client.get_registered_model(name).tags, {"b": "ünï ✓"})
    other = fresh("renamed")
    client.create_model_version(name, "s3://bucket/model")
    client.set_registered_model_alias(name, "champion", "1")
    client.rename_registered_model(name, other)
    equal(client.get_registered_model(other).name, other)
    equal(client.get_model_version_by_alias(other, "champion").name, other)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_registered_model(name)
    client.delete_registered_model(other)
    with refused("RESOURCE_DOES_NOT_EXIST", other):
        client.get_registered_model(other)
    for missing in (lambda: client.delete_registered_model(other), lambda: client.update_registered_model(other, "x"),
                    lambda: client.rename_registered_model(other, name), lambda: client.set_registered_model_tag(other, "a", "b"),
                    lambda: client.create_model_version(other, "s3://bucket/model")):
        with refused("RESOURCE_DOES_NOT_EXIST"):
            missing()


def test_versions(client):
    name = fresh("model")
    client.create_registered_model(name)
    run = client.create_run("0").info.run_id
    made = client.create_model_version(name, "s3://bucket/model", run_id=run, tags={"a": "1"}, description="first", run_link="http://127.0.0.1/run")
    equal((made.version, made.source, made.run_id, made.tags, made.description, made.run_link, made.current_stage, made.status),
          ("1", "s3://bucket/model", run, {"a": "1"}, "first", "http://127.0.0.1/run", "None", "READY"))
    for number in range(2, 5):
        equal(client.create_model_version(name, f"s3://bucket/{number}").version, str(number))
    equal(client.get_model_version_download_uri(name, "2"), "s3://bucket/2")
    equal(client.update_model_version(name, "1", "new").description, "new")
    client.set_model_version_tag(name, "1", "b", "2")
    client.set_model_version_tag(name, "1", "long", "v" * 100_000)
    client.delete_model_version_tag(name, "1", "a")
    client.delete_model_version_tag(name, "1", "a")
    tags = client.get_model_version(name, "1").tags
    equal((tags["b"], len(tags["long"]), "a" in tags), ("2", 100_000, False))
    equal([(found.version, found.current_stage) for found in client.get_registered_model(name).latest_versions], [("4", "None")])
    client.delete_model_version(name, "4")
    with refused("RESOURCE_DOES_NOT_EXIST", name, "4"):
        client.get_model_version(name, "4")
    equal([found.version for found in client.get_latest_versions(name)], ["3"])
    with refused("INVALID_PARAMETER_VALUE"):
        client.get_model_version(name, "x")
    for missing in (lambda: client.delete_model_version(name, "9"), lambda: client.update_model_version(name, "9", "x"),
                    lambda: client.set_model_version_tag(name, "9", "a", "b"), lambda: client.get_model_version_download_uri(name, "9")):
        with refused("RESOURCE_DOES_NOT_EXIST"):
            missing()


def test_sources(client):
    name = fresh("model")
    client.create_registered_model(name)
    run = client.create_run("0").info
    for wrong in ("/etc/passwd", "file:///etc/passwd", "relative/path", "../up", f"{run.artifact_uri}/../../x", "s3://bucket/../x"):
        with refused("INVALID_PARAMETER_VALUE", "nvalid model version source"):
            client.create_model_version(name, wrong)
    equal(client.create_model_version(name, f"{run.artifact_uri}/model", run_id=run.run_id).source, f"{run.artifact_uri}/model")
    model = client.create_logged_model(client.create_experiment(fresh("source")), name="net", source_run_id=run.run_id)
    version = client.create_model_version(name, f"models:/{model.model_id}", model_id=model.model_id)
    equal((version.source, version.run_id), (f"models:/{model.model_id}", run.run_id))
    equal(client.get_model_version_download_uri(name, version.version), model.artifact_location)


def test_aliases(client):
    name = fresh("model")
    client.create_registered_model(name)
    for number in range(3):
        client.create_model_version(name, f"s3://bucket/{number}")
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "challenger", "1")
    client.set_registered_model_alias(name, "champion", "2")
    equal(client.get_registered_model(name).aliases, {"champion": "2", "challenger": "1"})
    equal(client.get_model_version_by_alias(name, "champion").version, "2")
    equal(client.get_model_version(name, "2").aliases, ["champion"])
    client.delete_registered_model_alias(name, "champion")
    client.delete_registered_model_alias(name, "champion")
    with refused("INVALID_PARAMETER_VALUE", "champion", "not found"):
        client.get_model_version_by_alias(name, "champion")
    for wrong in ("latest", "LATEST", "v1", "V23", "", "a b", "a/b", "x" * 256):
        with refused("INVALID_PARAMETER_VALUE"):
            client.set_registered_model_alias(name, wrong, "1")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.set_registered_model_alias(name, "champion", "9")
    client.delete_model_version(name, "1")
    equal(client.get_registered_model(name).aliases, {})


def test_stages(client):
    name = fresh("model")
    client.create_registered_model(name)
    for number in range(3):
        client.create_model_version(name, f"s3://bucket/{number}")
    equal(client.transition_model_version_stage(name, "1", "Staging").current_stage, "Staging")
    client.transition_model_version_stage(name, "2", "staging", archive_existing_versions=True)
    equal([client.get_model_version(name, number).current_stage for number in "123"], ["Archived", "Staging", "None"])
    equal({found.current_stage: found.version for found in client.get_latest_versions(name)}, {"Archived": "1", "Staging": "2", "None": "3"})
    equal([found.version for found in client.get_latest_versions(name, ["Staging"])], ["2"])
    with refused("INVALID_PARAMETER_VALUE", "nvalid"):
        client.transition_model_version_stage(name, "1", "Elsewhere")
    with refused("INVALID_PARAMETER_VALUE"):
        client.get_latest_versions(name, ["Elsewhere"])


def test_copies(client):
    name, other = fresh("model"), fresh("copy")
    client.create_registered_model(name)
    client.create_model_version(name, "s3://bucket/model")
    copied = client.copy_model_version(f"models:/{name}/1", other)
    equal((copied.name, copied.version, copied.source), (other, "1", f"models:/{name}/1"))
    equal(client.get_model_version_download_uri(other, "1"), "s3://bucket/model")
    client.set_registered_model_alias(name, "best", "1")
    equal(client.copy_model_version(f"models:/{name}@best", other).version, "2")
