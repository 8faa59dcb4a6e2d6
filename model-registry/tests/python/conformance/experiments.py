"""Experiments: made, found, renamed, deleted, restored; their tags and searches."""

import time

from mlflow.entities import ViewType

from conformance import equal, fresh, refused


def test_create_and_get(client):
    name = fresh("experiment")
    identifier = client.create_experiment(name, tags={"team": "night", "empty": ""})
    found = client.get_experiment(identifier)
    equal((found.name, found.lifecycle_stage, found.experiment_id), (name, "active", identifier))
    equal(found.tags, {"team": "night", "empty": ""})
    equal(found.artifact_location, f"mlflow-artifacts:/{identifier}")
    assert abs(found.creation_time - time.time() * 1000) < 600_000 and found.last_update_time >= found.creation_time
    equal(client.get_experiment_by_name(name).experiment_id, identifier)
    equal(client.get_experiment_by_name(fresh("none")), None)
    equal(client.get_experiment("0").name, "Default")
    located = client.create_experiment(fresh("located"), artifact_location="s3://bucket/prefix")
    equal(client.get_experiment(located).artifact_location, "s3://bucket/prefix")
    unicode = fresh("räuber ✓ 🦁")
    equal(client.get_experiment_by_name(client.get_experiment(client.create_experiment(unicode)).name).name, unicode)


def test_refusals(client):
    name = fresh("experiment")
    client.create_experiment(name)
    with refused("RESOURCE_ALREADY_EXISTS", "already exists"):
        client.create_experiment(name)
    with refused("INVALID_PARAMETER_VALUE"):
        client.create_experiment("")
    with refused("INVALID_PARAMETER_VALUE"):
        client.create_experiment("x" * 501)
    with refused("INVALID_PARAMETER_VALUE"):
        client.create_experiment(fresh("x"), artifact_location="s3://bucket/a#fragment")
    with refused("RESOURCE_DOES_NOT_EXIST", "No Experiment with id=987654321"):
        client.get_experiment("987654321")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_experiment("987654321")


def test_rename_delete_restore(client):
    name, other = fresh("experiment"), fresh("other")
    identifier = client.create_experiment(name)
    run = client.create_run(identifier).info.run_id
    client.rename_experiment(identifier, other)
    equal(client.get_experiment(identifier).name, other)
    equal(client.get_experiment_by_name(name), None)
    client.delete_experiment(identifier)
    equal(client.get_experiment(identifier).lifecycle_stage, "deleted")
    equal(client.get_experiment_by_name(other).lifecycle_stage, "deleted")
    equal(client.get_run(run).info.lifecycle_stage, "deleted")
    with refused("RESOURCE_ALREADY_EXISTS", "already exists"):
        client.create_experiment(other)
    with refused("INVALID_PARAMETER_VALUE", "must be in the 'active' state"):
        client.set_experiment_tag(identifier, "a", "b")
    with refused("INVALID_PARAMETER_VALUE", "must be in the 'active' state"):
        client.create_run(identifier)
    client.restore_experiment(identifier)
    equal(client.get_experiment(identifier).lifecycle_stage, "active")
    equal(client.get_run(run).info.lifecycle_stage, "active")


def test_tags(client):
    identifier = client.create_experiment(fresh("tags"))
    client.set_experiment_tag(identifier, "key", "one")
    client.set_experiment_tag(identifier, "key", "two")
    client.set_experiment_tag(identifier, "mlflow.note.content", "ünï ✓")
    client.set_experiment_tag(identifier, "number", 5)
    equal(client.get_experiment(identifier).tags, {"key": "two", "mlflow.note.content": "ünï ✓", "number": "5"})
    if hasattr(client, "delete_experiment_tag"):
        client.delete_experiment_tag(identifier, "key")
        assert "key" not in client.get_experiment(identifier).tags
        with refused("RESOURCE_DOES_NOT_EXIST"):
            client.delete_experiment_tag(identifier, "key")
    client.set_experiment_tag(identifier, "long", "v" * 5000)
    with refused("INVALID_PARAMETER_VALUE"):
        client.set_experiment_tag(identifier, "k" * 251, "v")


def test_search(client):
    prefix = fresh("searched")
    made = [client.create_experiment(f"{prefix}-{letter}", tags={"letter": letter, "half": "12"[number // 2]}) for number, letter in enumerate("abcd")]
    client.delete_experiment(made[3])
    ours = f"name LIKE '{prefix}%'"
    search = lambda text=ours, **more: [found.name[-1] for found in client.search_experiments(filter_string=text, **more)]
    equal(sorted(search()), ["a", "b", "c"])
    equal(sorted(search(view_type=ViewType.ALL)), ["a", "b", "c", "d"])
    equal(search(view_type=ViewType.DELETED_ONLY), ["d"])
    equal(search(order_by=["name DESC"]), ["c", "b", "a"])
    equal(search(order_by=["experiment_id ASC"]), ["a", "b", "c"])
    equal(search(order_by=["creation_time ASC", "name ASC"]), ["a", "b", "c"])
    equal(search(f"{ours} AND tags.half = '1'", order_by=["name"]), ["a", "b"])
    equal(search(f"{ours} AND tags.letter != 'a'", order_by=["name"]), ["b", "c"])
    equal(search(f"name ILIKE '{prefix.upper()}%' AND tags.letter ILIKE 'C'"), ["c"])
    equal(search(f"name = '{prefix}-b'"), ["b"])
    equal(search(f"{ours} AND creation_time > 0", order_by=["last_update_time DESC", "name"])[-1] in "abc", True)
    first = client.search_experiments(filter_string=ours, order_by=["name"], max_results=2)
    equal([found.name[-1] for found in first], ["a", "b"])
    second = client.search_experiments(filter_string=ours, order_by=["name"], max_results=2, page_token=first.token)
    equal(([found.name[-1] for found in second], second.token), (["c"], None))
    for wrong in ("name >", "nothing = 'a'", "name > 'a'", "name = 'a' OR name = 'b'"):
        with refused("INVALID_PARAMETER_VALUE"):
            client.search_experiments(filter_string=wrong)
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_experiments(max_results=0)
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_experiments(order_by=["nothing"])
