"""Searches with filters, orders and pages over runs, registered models and versions."""

from mlflow.entities import Metric, Param, RunTag, ViewType

from conformance import equal, fresh, refused


def test_runs(client):
    home = client.create_experiment(fresh("search"))
    made = []
    for number in range(6):
        run = client.create_run(home, start_time=1000 + number, run_name=f"run {number}").info.run_id
        client.log_batch(run, [Metric("loss", number / 4, 1, 0), Metric("a b", 1, 1, 0)], [Param("lr", f"0.{number}"), Param("half", "ab"[number // 3])],
                         [RunTag("odd", str(number % 2)), RunTag("dotted.key", "x"), RunTag("quote", "it's")])
        if number:
            client.set_terminated(run, status="FINISHED" if number < 4 else "FAILED", end_time=2000 + number)
        made.append(run)
    number = {run: index for index, run in enumerate(made)}
    search = lambda text="", **more: [number[found.info.run_id] for found in client.search_runs([home], text, **more)]
    up = {"order_by": ["start_time ASC"]}
    equal(search(), [5, 4, 3, 2, 1, 0])
    equal(search("metrics.loss > 0.5", **up), [3, 4, 5])
    equal(search("metrics.loss >= 0.5 and metrics.loss != 0.75", **up), [2, 4, 5])
    equal(search("metrics.`a b` = 1 AND params.half = 'b'", **up), [3, 4, 5])
    equal(search("params.lr LIKE '0.%' AND tags.odd = '1'", **up), [1, 3, 5])
    equal(search("params.half ILIKE 'B'", **up), [3, 4, 5])
    equal(search("tags.`dotted.key` = 'x' AND tags.dotted.key = 'x' AND tags.quote = \"it's\"", **up), [0, 1, 2, 3, 4, 5])
    equal(search("tags.odd != '1'", **up), [0, 2, 4])
    equal(search("tags.none != '1'", **up), [])
    equal(search("attributes.status = 'FINISHED'", **up), [1, 2, 3])
    equal(search("status != 'FINISHED' AND start_time > 1002", **up), [4, 5])
    equal(search("run_name LIKE 'run%' AND end_time < 2003", **up), [1, 2])
    equal(search(f"run_id IN ('{made[1]}', '{made[4]}')", **up), [1, 4])
    equal(search(f"attributes.run_id NOT IN ('{made[1]}', '{made[4]}')", **up), [0, 2, 3, 5])
    equal(search(order_by=["metrics.loss DESC"]), [5, 4, 3, 2, 1, 0])
    equal(search(order_by=["params.half DESC", "metrics.loss ASC"]), [3, 4, 5, 0, 1, 2])
    equal(search(order_by=["tags.odd ASC", "start_time DESC"]), [4, 2, 0, 5, 3, 1])
    equal(search(order_by=["attributes.end_time DESC"])[:5], [5, 4, 3, 2, 1])
    client.delete_run(made[0])
    equal(search(**up), [1, 2, 3, 4, 5])
    equal(search(run_view_type=ViewType.DELETED_ONLY), [0])
    equal(search(run_view_type=ViewType.ALL, **up), [0, 1, 2, 3, 4, 5])
    client.log_metric(made[1], "loss", float("nan"), step=1)
    equal(search("metrics.loss < 9", **up), [2, 3, 4, 5])
    equal(search(order_by=["metrics.loss DESC"]), [5, 4, 3, 2, 1])
    page, seen = client.search_runs([home], max_results=2, **up), []
    while True:
        seen += [number[found.info.run_id] for found in page]
        if not page.token:
            break
        page = client.search_runs([home], max_results=2, page_token=page.token, **up)
    equal(seen, [1, 2, 3, 4, 5])
    other = client.create_experiment(fresh("search"))
    client.create_run(other)
    equal(len(client.search_runs([home, other])), 6)


def test_wrong_filters_of_runs(client):
    for wrong in ("metrics.loss >", "loss > 1", "metrics.loss > 'a'", "params.lr > '1'", "tags.a = 1", "metrics.a = 1 OR metrics.b = 1", "nothing.a = 'b'",
                  "attributes.nothing = 'a'", "run_id IN 'a'", "metrics.a LIKE '1'", "'; DROP TABLE runs; --", "params.p = 'a", "status IN ('a')"):
        with refused("INVALID_PARAMETER_VALUE"):
            client.search_runs(["0"], wrong)
    for wrong in ("nothing", "metrics.a SIDEWAYS", "nothing.a", "metrics"):
        with refused("INVALID_PARAMETER_VALUE"):
            client.search_runs(["0"], order_by=[wrong])
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_runs(["0"], max_results=50_001)
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_runs(["0"], page_token="nonsense")


def test_models(client):
    prefix = fresh("search")
    for letter in "abcde":
        client.create_registered_model(f"{prefix}-{letter}", tags={"letter": letter, "vowel": str(letter in "ae")})
    ours = f"name LIKE '{prefix}%'"
    search = lambda text=ours, **more: [found.name[-1] for found in client.search_registered_models(text, **more)]
    equal(search(), ["a", "b", "c", "d", "e"])
    equal(search(order_by=["name DESC"]), ["e", "d", "c", "b", "a"])
    equal(search(f"{ours} AND tags.vowel = 'True'"), ["a", "e"])
    equal(search(f"{ours} AND tag.letter != 'a'"), ["b", "c", "d", "e"])
    equal(search(f"name ILIKE '{prefix.upper()}%' AND tags.letter LIKE 'b%'"), ["b"])
    equal(search(f"name = '{prefix}-c'"), ["c"])
    client.update_registered_model(f"{prefix}-b", "now the newest")
    equal(search(order_by=["last_updated_timestamp DESC"])[0], "b")
    page = client.search_registered_models(ours, max_results=2)
    seen = [found.name[-1] for found in page]
    while page.token:
        page = client.search_registered_models(ours, max_results=2, page_token=page.token)
        seen += [found.name[-1] for found in page]
    equal(seen, ["a", "b", "c", "d", "e"])
    for wrong in ("nothing = 'a'", "name", "name > 'a'", "name = 'a' OR name = 'b'", "version_number = 1"):
        with refused("INVALID_PARAMETER_VALUE"):
            client.search_registered_models(wrong)
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_registered_models(max_results=1001)


def test_versions(client):
    name = fresh("search")
    client.create_registered_model(name)
    run = client.create_run("0").info.run_id
    for number in range(1, 13):
        client.create_model_version(name, f"s3://bucket/{number}", run_id=run if number % 3 == 0 else None, tags={"even": str(number % 2 == 0)})
    search = lambda text, **more: [int(found.version) for found in client.search_model_versions(f"name = '{name}'{text}", **more)]
    up = {"order_by": ["version_number ASC"]}
    equal(search("", **up), list(range(1, 13)))
    equal(search("", order_by=["version_number DESC"]), list(range(12, 0, -1)))
    equal(search(" AND version_number > 9", **up), [10, 11, 12])
    equal(search(" AND version_number != 2 AND version_number <= 4", **up), [1, 3, 4])
    equal(search(f" AND run_id = '{run}'", **up), [3, 6, 9, 12])
    equal(search(f" AND run_id IN ('{run}', 'other') AND tags.even = 'True'", **up), [6, 12])
    equal(search(" AND source_path = 's3://bucket/7'", **up), [7])
    equal(search(" AND tags.even != 'True' AND version_number < 6", **up), [1, 3, 5])
    page = client.search_model_versions(f"name = '{name}'", max_results=5, **up)
    seen = [int(found.version) for found in page]
    while page.token:
        page = client.search_model_versions(f"name = '{name}'", max_results=5, page_token=page.token, **up)
        seen += [int(found.version) for found in page]
    equal(seen, list(range(1, 13)))
    for wrong in ("nothing = 'a'", "version_number = 'a'", "run_id IN ()", "name = 'a' OR name = 'b'"):
        with refused("INVALID_PARAMETER_VALUE"):
            client.search_model_versions(wrong)
