"""Triton's own clients, over HTTP and gRPC, against a server with the models of the tests.

usage: triton.py http|grpc HOST:PORT
"""
import sys

import numpy as np

kind, url = sys.argv[1:]
http = kind == "http"
if http:
    import tritonclient.http as triton
else:
    import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(url, **({"concurrency": 2} if http else {}))


def input_of(name, array, datatype, binary=True):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **({"binary_data": binary} if http else {}))
    return made


def output_of(name, binary=True):
    return triton.InferRequestedOutput(name, **({"binary_data": binary} if http else {}))


def refused(said, call):
    try:
        call()
    except InferenceServerException as error:
        assert said in str(error), str(error)
        return str(error.status())
    raise AssertionError(f"not refused: {said}")


# Health and metadata.
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("sums") and client.is_model_ready("sums", "1")
metadata = client.get_server_metadata() if http else client.get_server_metadata(as_json=True)
assert metadata["name"] == "safari" and "binary_tensor_data" in metadata["extensions"], metadata
model = client.get_model_metadata("sums", "1") if http else client.get_model_metadata("sums", "1", as_json=True)
assert model["name"] == "sums" and model["platform"] == "pytorch_torchscript" and model["versions"] == ["1"], model
assert [tensor["name"] for tensor in model["outputs"]] == ["sum", "total", "positive", "largest"], model
assert [int(extent) for extent in model["inputs"][0]["shape"]] == [-1, 3], model

# Several inputs and outputs, in every mix of binary and JSON.
a = np.array([[1, 2, 3], [-7, 0.1, 1e-30]], np.float32)
b = np.array([[1, -2, 3], [1, 1, 1]], np.float32)
for binary_in in (True, False) if http else (True,):
    for outputs in (None, ["total", "sum"], ["largest", "positive", "total", "sum"]):
        for binary_out in (True, False) if http else (True,):
            result = client.infer(
                "sums",
                [input_of("b", b, "FP32", binary_in), input_of("a", a, "FP32", not binary_in if http else True)],
                model_version="1",
                outputs=outputs and [output_of(name, binary_out) for name in outputs],
                request_id="r-7",
                priority=1,
                timeout=30_000_000,
            )
            response = result.get_response() if http else result.get_response(as_json=True)
            assert response["id"] == "r-7" and response["model_name"] == "sums" and response["model_version"] == "1"
            names = [output["name"] for output in response["outputs"]]
            assert names == (outputs or ["sum", "total", "positive", "largest"]), names
            np.testing.assert_array_equal(result.as_numpy("sum"), a + b)
            np.testing.assert_array_equal(result.as_numpy("total"), (a + b).astype(np.float64).sum(1))
            if "positive" in names:
                np.testing.assert_array_equal(result.as_numpy("positive"), a + b > 0)
                np.testing.assert_array_equal(result.as_numpy("largest"), (a + b).argmax(1))

# Floats of 16 bits.
x = np.array([[1, -3], [0.125, 65504]], np.float16)
result = client.infer("halves", [input_of("x", x, "FP16")])
np.testing.assert_array_equal(result.as_numpy("half"), x * np.float16(0.5))
np.testing.assert_allclose(result.as_numpy("brain").astype(np.float32), x.astype(np.float32) * 0.5, rtol=0.01)

# Every other kind that TorchScript has.
rng = np.random.default_rng(7)
shape = (2, 5)
kinds = {
    "u8": (rng.integers(0, 256, shape).astype(np.uint8), "UINT8"),
    "i8": (rng.integers(-128, 128, shape).astype(np.int8), "INT8"),
    "i16": (rng.integers(-(2**15), 2**15, shape).astype(np.int16), "INT16"),
    "i32": (rng.integers(-(2**31), 2**31, shape).astype(np.int32), "INT32"),
    "i64": (rng.integers(-(2**63), 2**63, shape, dtype=np.int64), "INT64"),
    "f64": (rng.standard_normal(shape) * 1e200, "FP64"),
    "flags": (rng.integers(0, 2, shape).astype(bool), "BOOL"),
}
for binary in (True, False) if http else (True,):
    inputs = [input_of(name, array, datatype, binary) for name, (array, datatype) in kinds.items()]
    import ml_dtypes

    brain = np.array([[1, 2, 3, 4, 5]] * 2, ml_dtypes.bfloat16)
    inputs.append(input_of("bf16", brain, "BF16", True))
    outputs = [output_of(name, binary) for name in kinds] + [output_of("bf16", True)]
    result = client.infer("kinds", inputs, outputs=outputs)
    for name, (array, _) in kinds.items():
        np.testing.assert_array_equal(result.as_numpy(name), array, name)

# BYTES, as text and as bytes that are none.
texts = np.array(["ibex", "", "δέρκομαι \" \\ \n"], dtype=object)
for binary in (True, False) if http else (True,):
    result = client.infer("texts", [input_of("text", texts, "BYTES", binary)], outputs=[output_of("text", binary)])
    found = [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("text")]
    assert found == list(texts), found
raw = np.array([b"\xff\xd8\xff", b"\x00"], dtype=object)
result = client.infer("texts", [input_of("text", raw, "BYTES")])
assert list(result.as_numpy("text")) == list(raw), result.as_numpy("text")
if http:
    said = refused("binary_data", lambda: client.infer("texts", [input_of("text", raw, "BYTES")], outputs=[output_of("text", False)]))
    assert said == "400", said

# Refusals.
invalid, missing = ("400", "404") if http else ("StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND")
inputs = [input_of("a", a, "FP32"), input_of("b", b, "FP32")]
for said, status, call in [
    ("no input `c`", invalid, lambda: client.infer("sums", [input_of("c", a, "FP32")])),
    ("input `b` of model `sums` is missing", invalid, lambda: client.infer("sums", inputs[:1])),
    ("input `a` is there twice", invalid, lambda: client.infer("sums", inputs + inputs[:1])),
    ("has the shape [2, 2]", invalid, lambda: client.infer("sums", [input_of("a", a[:, :2], "FP32"), inputs[1]])),
    ("is FP64, and the model takes FP32", invalid, lambda: client.infer("sums", [input_of("a", a.astype(np.float64), "FP64"), inputs[1]])),
    ("no output `y`", invalid, lambda: client.infer("sums", inputs, outputs=[output_of("y")])),
    ("the model refuses these inputs", invalid, lambda: client.infer("lookup", [input_of("index", np.array([99]), "INT64")])),
    ("the model refuses these inputs", invalid, lambda: client.infer("sums", [inputs[0], input_of("b", np.vstack([b, b, b]), "FP32")])),
    ("there is no model `other`", missing, lambda: client.infer("other", inputs)),
    ("has no version `9`", missing, lambda: client.infer("sums", inputs, model_version="9")),
    ("there is no model `other`", missing, lambda: client.get_model_metadata("other")),
]:
    assert refused(said, call) == status, (said, status)

# A deadline of the protocol, and one of gRPC's own.
late = input_of("times", np.array([[1_000]]), "INT64")
status = refused("deadline", lambda: client.infer("slow", [late], timeout=50_000))
assert status == ("504" if http else "StatusCode.DEADLINE_EXCEEDED"), status
if not http:
    # Whichever of the two sees it first says so, each in its own words.
    status = refused("eadline", lambda: client.infer("slow", [late], client_timeout=0.05))
    assert status == "StatusCode.DEADLINE_EXCEEDED", status

# The repository.
index = client.get_model_repository_index()
index = index if http else client.get_model_repository_index(as_json=True)["models"]
states = {model["name"]: model.get("state") for model in index}
assert states["sums"] == "READY" and states["spare"] == "UNAVAILABLE", states
assert not client.is_model_ready("spare")
client.load_model("spare")
assert client.is_model_ready("spare") and client.is_server_ready()
row = client.infer("spare", [input_of("index", np.array([3, 0]), "INT64")]).as_numpy("row")
np.testing.assert_array_equal(row, [[9, 10, 11], [0, 1, 2]])
client.load_model("spare")
client.unload_model("spare")
assert not client.is_model_ready("spare")
assert refused("not loaded", lambda: client.infer("spare", [input_of("index", np.array([0]), "INT64")])) == missing
assert refused("there is no model", lambda: client.load_model("../spare")) == missing if not http else True
refused("", lambda: client.load_model("other"))
refused("not supported", lambda: client.load_model("spare", config="{}"))
client.close()
print("ok")
