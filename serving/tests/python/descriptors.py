"""Compares a description of the protocol with the one that a client carries: every method and field of the client that
ours has too must be the same, by name, number, type and label, and ours has all that the protocol's core has.

usage: descriptors.py triton|kserve FILE      (a FileDescriptorSet)
"""
import sys

from google.protobuf import descriptor_pb2

theirs, file = sys.argv[1:]
if theirs == "triton":
    from tritonclient.grpc import service_pb2 as module
else:
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as module

ours = descriptor_pb2.FileDescriptorSet.FromString(open(file, "rb").read()).file[-1]
client = descriptor_pb2.FileDescriptorProto()
module.DESCRIPTOR.CopyToProto(client)
assert ours.package == client.package == "inference", (ours.package, client.package)

# KServe's requests name the model in the field where Triton's name the repository; the server reads both.
ACCEPTED = {
    ("kserve", "RepositoryModelLoadRequest", 1),
    ("kserve", "RepositoryModelUnloadRequest", 1),
}


def messages(parent, prefix=""):
    found = {}
    for message in parent:
        name = prefix + message.name
        found[name] = message
        found.update(messages(message.nested_type, name + "."))
    return found


mine, others = messages(ours.message_type), messages(client.message_type)
compared = 0
for name, message in mine.items():
    if name not in others:
        continue
    fields = {field.number: field for field in others[name].field}
    for field in message.field:
        other = fields.get(field.number)
        if other is None or (theirs, name, field.number) in ACCEPTED:
            continue
        for part in ("name", "type", "label", "type_name"):
            pair = getattr(field, part), getattr(other, part)
            assert pair[0] == pair[1], (name, field.name, part, pair)
        compared += 1
core = [name for name in others if name.split(".")[0].startswith(("Server", "ModelReady", "ModelMetadata", "ModelInfer", "InferParameter", "InferTensor"))]
# What is no part of the protocol: KServe's properties of a model, Triton's streams.
beyond = ("ModelMetadataResponse.PropertiesEntry", "ModelStreamInferResponse")
missing = [name for name in core if name not in mine and name not in beyond]
assert not missing, missing
for name in core:
    if name in beyond:
        continue
    known = {field.number for field in mine[name].field}
    lacking = [field.name for field in others[name].field if field.number not in known and field.name != "properties"]
    assert not lacking, (name, lacking)
methods = {method.name: method for method in client.service[0].method}
assert client.service[0].name == ours.service[0].name == "GRPCInferenceService"
for method in ours.service[0].method:
    other = methods.get(method.name)
    if other is not None:
        assert (method.input_type, method.output_type) == (other.input_type, other.output_type), method.name
        compared += 1
assert compared > 60, compared
print("ok", compared)
