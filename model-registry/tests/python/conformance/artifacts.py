"""Files of runs: up, down, listed, large, empty, with odd names; and what is refused."""

import hashlib
import os
import tempfile

import mlflow
import requests

from conformance import equal, fresh


def test_files(client):
    run = client.create_run(client.create_experiment(fresh("files"))).info.run_id
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("a.txt", b"hello"), ("empty", b""), ("sub/b.bin", bytes(range(256)) * 4096), ("sub/deep/ünï ✓.txt", b"odd")):
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
        client.log_artifacts(run, folder)
        client.log_artifact(run, os.path.join(folder, "a.txt"), "again/and again")
    # A size of nothing is left out on the wire.
    listed = lambda path=None: [(found.path, found.is_dir, None if found.is_dir else found.file_size or 0) for found in client.list_artifacts(run, path)]
    equal(listed(), [("a.txt", False, 5), ("again", True, None), ("empty", False, 0), ("sub", True, None)])
    equal(listed("sub"), [("sub/b.bin", False, 1 << 20), ("sub/deep", True, None)])
    equal(listed("sub/deep"), [("sub/deep/ünï ✓.txt", False, 3)])
    equal((listed("a.txt"), listed("none")), ([], []))
    with tempfile.TemporaryDirectory() as folder:
        whole = client.download_artifacts(run, "", folder)
        with open(os.path.join(whole, "sub/b.bin"), "rb") as file:
            equal(file.read(), bytes(range(256)) * 4096)
        with open(os.path.join(whole, "sub/deep/ünï ✓.txt"), "rb") as file:
            equal(file.read(), b"odd")
        equal(os.path.getsize(os.path.join(whole, "empty")), 0)
        single = mlflow.artifacts.download_artifacts(run_id=run, artifact_path="again/and again/a.txt", dst_path=folder)
        with open(single, "rb") as file:
            equal(file.read(), b"hello")


def test_texts(client):
    run = client.create_run(client.create_experiment(fresh("files"))).info.run_id
    client.log_text(run, "text ✓", "notes/one.txt")
    client.log_text(run, "text 2", "notes/one.txt")
    client.log_dict(run, {"a": 1}, "two.json")
    uri = client.get_run(run).info.artifact_uri
    equal(mlflow.artifacts.load_text(f"{uri}/notes/one.txt"), "text 2")
    equal(mlflow.artifacts.load_dict(f"{uri}/two.json"), {"a": 1})
    equal(mlflow.artifacts.load_text(f"runs:/{run}/notes/one.txt"), "text 2")


def test_a_large_file_comes_back_whole(client):
    run = client.create_run(client.create_experiment(fresh("files"))).info.run_id
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "large.bin")
        digest = hashlib.sha256()
        with open(path, "wb") as file:
            for number in range(40):
                block = hashlib.sha256(str(number).encode()).digest() * 32768
                digest.update(block)
                file.write(block)
        # In one piece, and in parts where the server takes them.
        for name, parts in (("whole", "false"), ("parts", "true")):
            os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = parts
            os.environ["MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE"] = str(5 << 20)
            os.environ["MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"] = str(10 << 20)
            try:
                client.log_artifact(run, path, name)
            finally:
                del os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"]
            back = client.download_artifacts(run, f"{name}/large.bin", folder)
            with open(back, "rb") as file:
                equal(hashlib.sha256(file.read()).hexdigest(), digest.hexdigest())
            equal([found.file_size for found in client.list_artifacts(run, name)], [40 << 20])


def test_refusals(client):
    base = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow-artifacts/artifacts"
    for path in ("%2e%2e/x", "a/%2e%2e/%2e%2e/x", "..%2fx", "%252e%252e%252fx", "%2fetc%2fpasswd"):
        for ask in (requests.get, lambda url: requests.put(url, data=b"x")):
            answer = ask(f"{base}/{path}")
            assert 400 <= answer.status_code < 500, (path, answer.status_code, answer.text)
    equal(requests.get(base, params={"path": "../.."}).status_code, 400)
    answer = requests.get(f"{base}/{fresh('none')}")
    assert answer.status_code in (404, 500), answer.status_code
