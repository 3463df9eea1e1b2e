"""V2's tensors: requests of the REST protocol read, and rankings made of tensors and put into them."""

import struct
from dataclasses import dataclass
from typing import Any

import msgspec
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import InferInput, InferOutput, InferRequest, RequestedOutput
from numpy.typing import NDArray

from feedrank.scoring import Ranking
from serving.requests import RankRequest, RefusedError, convert, invalid, read, refuse_repeated_names

INPUTS = (
    {"name": "user_id", "datatype": "INT64", "shape": [1]},
    {"name": "item_ids", "datatype": "INT64", "shape": [-1]},
    {"name": "device", "datatype": "BYTES", "shape": [1]},
    {"name": "timestamp", "datatype": "BYTES", "shape": [1]},
)
OPTIONAL_INPUTS = {"device", "timestamp"}
OUTPUTS = (
    {"name": "item_ids", "datatype": "INT64", "shape": [-1]},
    {"name": "scores", "datatype": "FP32", "shape": [-1]},
)
_DATATYPES = {str(i["name"]): str(i["datatype"]) for i in INPUTS}
_OUTPUT_TYPES = {str(o["name"]): str(o["datatype"]) for o in OUTPUTS}


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    """Fields that the protocol doesn't have are ignored, as by other servers of it."""

    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_request(body: bytes | bytearray, *, json_length: bytes | None, model_name: str) -> InferRequest:
    """The request of a REST body; `json_length` is the header that tells where binary tensors begin, if there are any.

    Raises:
        RefusedError: 422 with the field and the reason.
    """
    end = _json_end(json_length, len(body))
    head = read(_DECODER, body[:end])
    refuse_repeated_names(body[:end])
    inputs = []
    for tensor in head.inputs:
        given = InferInput(tensor.name, tensor.shape, tensor.datatype, tensor.data)
        if tensor.data is None:
            size = (tensor.parameters or {}).get("binary_data_size")
            if type(size) is not int or not 0 <= size <= len(body) - end:
                raise invalid(tensor.name, "has neither data nor a binary_data_size that the body has room for")
            given._raw_data = bytes(body[end : end + size])
            end += size
        inputs.append(given)
    if end != len(body):
        raise invalid("body", f"has {len(body) - end} bytes that belong to no tensor")
    outputs = None if not head.outputs else [RequestedOutput(o.name, o.parameters) for o in head.outputs]
    return InferRequest(
        model_name, inputs, request_id=head.id, parameters=head.parameters or {}, request_outputs=outputs
    )


def _json_end(json_length: bytes | None, size: int) -> int:
    if json_length is None:
        return size
    if not json_length.isdigit() or len(json_length) > 19 or not 0 < int(json_length) <= size:
        raise invalid("Inference-Header-Content-Length", f"must be a number from 1 to the {size} bytes of the body")
    return int(json_length)


def rank_request(request: InferRequest) -> RankRequest:
    """What the tensors `user_id`, `item_ids` and, optionally, `device` and `timestamp` ask for.

    Raises:
        RefusedError: 422 with the tensor and the reason.
    """
    given = {tensor.name: tensor for tensor in request.inputs}
    unknown = sorted(given.keys() - _DATATYPES.keys())
    missing = sorted(_DATATYPES.keys() - given.keys() - OPTIONAL_INPUTS)
    if unknown or missing or len(given) != len(request.inputs):
        names = [name[:100] for name in sorted(given)[:10]]
        raise invalid("inputs", f"must be user_id, item_ids and optionally device, timestamp, each once; got {names}")
    values = {name: _values(tensor) for name, tensor in given.items()}
    for name in values.keys() - {"item_ids"}:
        if len(values[name]) != 1:
            raise invalid(name, f"shape must be [1], got {given[name].shape}")
    context = {name: values[name][0] for name in OPTIONAL_INPUTS & values.keys()}
    try:
        return convert({"user_id": values["user_id"][0], "item_ids": values["item_ids"], "context": context or None})
    except RefusedError as refused:
        raise invalid((refused.field or "").removeprefix("context."), refused.reason) from None


def _values(tensor: InferInput) -> list[Any]:
    name, datatype, shape = tensor.name, _DATATYPES[tensor.name], tensor.shape
    if tensor.datatype != datatype:
        raise invalid(name, f"datatype must be {datatype}, got {tensor.datatype[:100]}")
    if len(shape) != 1:
        raise invalid(name, f"must have one dimension, got shape {shape[:10]}")
    try:
        values = tensor.as_numpy().tolist() if tensor._raw_data is not None else list(tensor.data)
        if datatype == "BYTES":
            values = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values]
    except UnicodeDecodeError:
        raise invalid(name, "is not valid UTF-8") from None
    except (InvalidInput, ValueError, TypeError, OverflowError, struct.error) as error:
        raise invalid(name, f"the data can't be read as {datatype} of shape {shape}") from error
    if len(values) != shape[0]:
        raise invalid(name, f"shape {shape}, but {len(values)} values")
    return values


@dataclass(frozen=True)
class _Wanted:
    name: str
    binary: bool


def _wanted(request: InferRequest) -> list[_Wanted]:
    """The outputs that a request names, in its order, or all; the request's own choice of binary data stands first."""
    binary = _flag(request.parameters or {}, "binary_data_output") if not request.from_grpc else False
    if not request.request_outputs:
        return [_Wanted(name, binary) for name in _OUTPUT_TYPES]
    wanted = []
    for output in request.request_outputs:
        if output.name not in _OUTPUT_TYPES:
            raise invalid("outputs", f"there are {' and '.join(_OUTPUT_TYPES)}, no {output.name[:100]!r}")
        own = output.parameters or {}
        wanted.append(_Wanted(output.name, _flag(own, "binary_data") if "binary_data" in own else binary))
    if len({output.name for output in wanted}) < len(wanted):
        raise invalid("outputs", "each may be named once")
    return wanted


def _flag(parameters: Any, name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise invalid(f"parameters.{name}", "must be true or false")
    return value


class Outputs:
    """The outputs that a request wants, checked before it is ranked."""

    def __init__(self, request: InferRequest) -> None:
        self._wanted = _wanted(request)

    def of(self, ranking: Ranking) -> list[InferOutput]:
        """For KServe's gRPC service."""
        arrays = _arrays(ranking)
        outputs = []
        for wanted in self._wanted:
            values = arrays[wanted.name]
            output = InferOutput(wanted.name, list(values.shape), _OUTPUT_TYPES[wanted.name])
            output.set_data_from_numpy(values, binary_data=False)
            outputs.append(output)
        return outputs

    def for_rest(self, ranking: Ranking, *, binary: bool = True) -> tuple[list[dict[str, Any]], bytes]:
        """The tensors' part of the JSON, and the bytes that follow it; without `binary` all is in the JSON."""
        arrays, tensors, parts = _arrays(ranking), [], []
        for wanted in self._wanted:
            values, datatype = arrays[wanted.name], _OUTPUT_TYPES[wanted.name]
            tensor: dict[str, Any] = {"name": wanted.name, "shape": list(values.shape), "datatype": datatype}
            if binary and wanted.binary:
                parts.append(values.astype(values.dtype.newbyteorder("<")).tobytes())
                tensor["parameters"] = {"binary_data_size": len(parts[-1])}
            else:
                tensor["data"] = values.tolist()
            tensors.append(tensor)
        return tensors, b"".join(parts)


def _arrays(ranking: Ranking) -> dict[str, NDArray[Any]]:
    return {"item_ids": ranking.item_ids, "scores": ranking.scores}
