"""KServe's own clients, over REST and gRPC, against a server with the models of the tests.

usage: kserve_clients.py rest|grpc HOST:PORT
"""
import asyncio
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.infer_type import RequestedOutput

kind, address = sys.argv[1:]
a = np.array([[1, 2, 3], [-7, 0.1, 1e-30]], np.float32)
b = np.array([[1, -2, 3], [1, 1, 1]], np.float32)


def input_of(name, array, datatype, binary):
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def sums(binary, outputs=None):
    inputs = [input_of("a", a, "FP32", binary), input_of("b", b, "FP32", binary)]
    return InferRequest("sums", inputs, request_id="k-1", request_outputs=outputs)


def check_sums(response):
    assert response.id == "k-1" and response.model_name == "sums", response
    found = {output.name: output.as_numpy() for output in response.outputs}
    np.testing.assert_array_equal(found["sum"].reshape(a.shape), a + b)
    np.testing.assert_array_equal(found["total"].reshape(-1), (a + b).astype(np.float64).sum(1))
    np.testing.assert_array_equal(found["positive"].reshape(a.shape), a + b > 0)
    np.testing.assert_array_equal(found["largest"].reshape(-1), (a + b).argmax(1))


async def rest():
    url = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
        assert await client.is_server_live(url) is True
        assert await client.is_server_ready(url) is True
        assert await client.is_model_ready(url, "sums") is True
        assert await client.is_model_ready(url, "other") is False
        for binary in (True, False):
            check_sums(await client.infer(url, sums(binary), model_name="sums"))
            names = ("sum", "total", "positive", "largest")
            outputs = [RequestedOutput(name, {"binary_data": binary}) for name in names]
            check_sums(await client.infer(url, sums(not binary, outputs), model_name="sums"))
        x = np.array([[1, -3]], np.float16)
        half = InferRequest(
            "halves", [input_of("x", x, "FP16", True)], request_outputs=[RequestedOutput("half", {"binary_data": True})]
        )
        answer = await client.infer(url, half, model_name="halves")
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), x * np.float16(0.5))
        texts = np.array(["ibex", "δ"], dtype=object)
        for binary in (True, False):
            request = InferRequest("texts", [input_of("text", texts, "BYTES", binary)])
            answer = await client.infer(url, request, model_name="texts")
            found = [one.decode() if isinstance(one, bytes) else one for one in answer.outputs[0].as_numpy()]
            assert found == ["ibex", "δ"], found
        try:
            await client.infer(url, sums(True), model_name="other")
            raise AssertionError("not refused")
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 404 and "there is no model `other`" in str(error), error


async def over_grpc():
    async with InferenceGRPCClient(address, retries=0) as client:
        assert await client.is_server_live() is True
        assert await client.is_server_ready() is True
        assert await client.is_model_ready("sums") is True
        # Contents in the fields of their datatypes, and raw ones.
        for binary in (True, False):
            check_sums(await client.infer(sums(binary)))
        texts = np.array(["ibex", "δ"], dtype=object)
        for binary in (True, False):
            answer = await client.infer(InferRequest("texts", [input_of("text", texts, "BYTES", binary)]))
            found = [one.decode() if isinstance(one, bytes) else one for one in answer.outputs[0].as_numpy()]
            assert found == ["ibex", "δ"], found
        try:
            await client.infer(InferRequest("other", [input_of("a", a, "FP32", True)]))
            raise AssertionError("not refused")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        # KServe's repository methods name the model in another field than Triton's.
        stub = client._client_stub
        loaded = await stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name="spare"))
        assert loaded.model_name == "spare" and loaded.isLoaded, loaded
        assert await client.is_model_ready("spare") is True
        unloaded = await stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name="spare"))
        assert unloaded.model_name == "spare" and unloaded.isUnloaded, unloaded
        assert await client.is_model_ready("spare") is False


asyncio.run(rest() if kind == "rest" else over_grpc())
print("ok")
