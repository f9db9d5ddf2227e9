"""Holds our public protos against the descriptors inside the official Python package.

Every message, field, oneof, enum value and service method is one fact. A fact that only the package knows,
or that reads differently there, is a fault of ours. So is a fact that only we know about something that the
package knows, unless it is listed here as younger than the package. Messages and methods that the package
does not know at all are counted, not judged.

Usage: check_descriptors.py [folder of the protos]
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from rocketmq.grpc_protocol import admin_pb2, definition_pb2, service_pb2

FILES = {
    "definition.proto": definition_pb2,
    "service.proto": service_pb2,
    "admin.proto": admin_pb2,
}
PROTOS = Path(__file__).resolve().parents[2] / "apis" / "proto"
FOLDER = "apache/rocketmq/v2"
# Part of the contract since a later day than the package's.
YOUNGER = {
    "enum value apache.rocketmq.v2.Code.INVALID_CLIENT_PROPERTIES",
    "message apache.rocketmq.v2.Settings.ClientPropertiesEntry",
    "field apache.rocketmq.v2.Settings.client_properties",
}


def main(words):
    """Prints one line per fault and per file; returns 1 when there is a fault."""
    our_files = _our_files(Path(words[0]) if words else PROTOS)
    faults = 0
    for name, package in FILES.items():
        ours, theirs = _facts(our_files[name]), _facts(_their_file(package))
        wrong = [fact for fact in theirs if ours.get(fact) != theirs[fact]]
        added = [fact for fact in ours.keys() - theirs.keys() if _has_known_owner(fact, theirs) and fact not in YOUNGER]
        for fact in wrong:
            print(f"FAULT {name}: {fact} is {ours.get(fact, 'missing')} here, {theirs[fact]} in the package")
        for fact in added:
            print(f"FAULT {name}: {fact} is {ours[fact]} here, missing in the package")
        alike = len(theirs) - len(wrong)
        print(f"{name}: {alike} of the package's {len(theirs)} facts are alike, {len(ours) - alike} are only ours")
        faults += len(wrong) + len(added)
    return 1 if faults else 0


def _has_known_owner(fact, theirs):
    """Whether the message or enum that a fact is about is in the package; services may grow."""
    kind, path = fact.rsplit(" ", 1)
    owner = path.rsplit(".", 1)[0]
    if kind == "field":
        return f"message {owner}" in theirs
    if kind == "enum value":
        return any(known.startswith(f"enum value {owner}.") for known in theirs)
    return kind == "message" and f"message {owner}" in theirs


def _our_files(root):
    """Compiles the public protos below `root`; gives file descriptors by file name."""
    included = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.bin"
        sources = [f"{FOLDER}/{name}" for name in FILES]
        code = protoc.main(["protoc", f"-I{root}", f"-I{included}", f"--descriptor_set_out={out}", *sources])
        if code != 0:
            raise SystemExit(f"the protos below {root} do not compile")
        files = FileDescriptorSet.FromString(out.read_bytes()).file
    return {Path(file.name).name: file for file in files}


def _their_file(module):
    return FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def _facts(file):
    """What a file declares: path of the thing → its numbers and types as text."""
    facts = {"package": file.package, "syntax": file.syntax}
    for message in file.message_type:
        facts.update(_message_facts(message, file.package))
    for enum in file.enum_type:
        facts.update(_enum_facts(enum, file.package))
    for service in file.service:
        for method in service.method:
            facts[f"rpc {file.package}.{service.name}.{method.name}"] = _method(method)
    return facts


def _message_facts(message, scope):
    path = f"{scope}.{message.name}"
    facts = {f"message {path}": "declared"}
    for field in message.field:
        facts[f"field {path}.{field.name}"] = _field(field, message)
    for nested in message.nested_type:
        facts.update(_message_facts(nested, path))
    for enum in message.enum_type:
        facts.update(_enum_facts(enum, path))
    return facts


def _field(field, message):
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
    presence = " with presence" if field.proto3_optional else ""
    # The oneof that an optional field makes for itself is not part of the contract.
    in_oneof = field.HasField("oneof_index") and not field.proto3_optional
    oneof = f" in oneof {message.oneof_decl[field.oneof_index].name}" if in_oneof else ""
    return f"{field.number}: {label} {kind} {field.type_name}".rstrip() + presence + oneof


def _enum_facts(enum, scope):
    return {f"enum value {scope}.{enum.name}.{value.name}": str(value.number) for value in enum.value}


def _method(method):
    wanted = f"{'stream ' if method.client_streaming else ''}{method.input_type}"
    given = f"{'stream ' if method.server_streaming else ''}{method.output_type}"
    return f"{wanted} → {given}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
