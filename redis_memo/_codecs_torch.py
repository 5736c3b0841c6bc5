"""torch: tensors and parameters on the CPU, and the small types that describe them.

A tensor is its dtype, its elements in the order in which they lie, and which axis is which, so that ``channels_last``
and a transposed matrix come back as they were. Elements that numpy has no type for (``bfloat16``, the eight-bit floats)
travel as whole numbers of their size.
"""

# ruff: noqa: SLF001 - hooks have no public name

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from redis_memo._codecs_numpy import get_array, put_array
from redis_memo._codecs_rules import FLAWS, NotTyped, Rule, refuse, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__: list[str] = []

_BY_NAME: Final[dict[str, Any]] = {
    str(dtype).removeprefix("torch."): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)
}
_NUMPY: Final = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
# A dtype that numpy does not have, and the whole numbers that carry it.
_CARRIED: Final = {
    "bfloat16": "int16", "complex32": "int32", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8",
    "float8_e4m3fnuz": "uint8", "float8_e5m2fnuz": "uint8", "float8_e8m0fnu": "uint8",
}  # fmt: skip
_CARRIERS: Final = {name: name for name in _NUMPY if name in _BY_NAME} | {
    name: carrier for name, carrier in _CARRIED.items() if name in _BY_NAME
}


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _flaw(tensor: Any) -> str | None:
    """What of a tensor exists only in this process, or only beside this device."""
    if tensor.device.type != "cpu":
        return f"is on the device {tensor.device.type}; return tensor.cpu()"
    if tensor.grad_fn is not None:
        return "is part of a graph that gradients flow through; return tensor.detach()"
    if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
        return "has hooks; return tensor.detach()"
    return None


# Tensors


def _lie(tensor: Any) -> tuple[bytes, Any]:
    """In which order the axes of a tensor lie in memory, and the contiguous tensor that it is in that order."""
    order = sorted(range(tensor.ndim), key=lambda axis: (-tensor.stride(axis), axis))
    lying = tensor.permute(order)
    if not tensor.is_contiguous() and lying.is_contiguous():
        return bytes(order), lying
    return b"", tensor.contiguous()


def _put_tensor(enc: Encoder, value: Any) -> None:
    flaw = _flaw(value)
    if flaw is not None:
        refuse(value, flaw)
    name = _name(value.dtype)
    carrier = _CARRIERS.get(name)
    if carrier is None or value.layout is not torch.strided or value.is_nested or value.is_quantized:
        raise NotTyped
    order, lying = _lie(value.detach().resolve_conj().resolve_neg())
    enc.text(name)
    enc.put(type(value) is torch.nn.Parameter)
    enc.put(value.requires_grad)
    enc.blob(order)
    put_array(enc, (lying if carrier == name else lying.view(_BY_NAME[carrier])).numpy())
    enc.put(value.grad)
    enc.put(vars(value) or None)


def _get_tensor(dec: Decoder) -> Any:
    name, parameter, graded = dec.text(), dec.exact(bool), dec.exact(bool)
    order, array = bytes(dec.blob()), get_array(dec)
    carrier = _CARRIERS[name]
    if array.dtype != np.dtype(carrier) or not array.flags.c_contiguous:
        raise UnreadableEntry("a tensor is damaged")
    if carrier == "bool" and int(array.view(np.uint8).max(initial=0)) > 1:
        raise UnreadableEntry("a tensor is damaged")
    tensor = torch.from_numpy(array)  # memory that nobody else has
    if carrier != name:
        tensor = tensor.view(_BY_NAME[name])
    if order:
        if sorted(order) != list(range(tensor.ndim)):
            raise UnreadableEntry("a tensor is damaged")
        tensor = tensor.permute([order.index(axis) for axis in range(tensor.ndim)])
    if parameter:
        tensor = torch.nn.Parameter(tensor, requires_grad=graded)
    elif graded:
        tensor.requires_grad_()
    gradient, own = dec.some(torch.Tensor, NoneType), dec.exact(dict, NoneType)
    if gradient is not None:
        tensor.grad = gradient
    if own is not None:
        if not set(map(type, own)) <= {str}:
            raise UnreadableEntry("a tensor is damaged")
        vars(tensor).update(own)
    return tensor


def _get_size(dec: Decoder) -> Any:
    lengths = dec.exact(tuple)
    if not set(map(type, lengths)) <= {int}:
        raise UnreadableEntry("a shape is damaged")
    return torch.Size(lengths)


register(Rule("torch.Tensor", _put_tensor, _get_tensor), torch.Tensor, torch.nn.Parameter)
register(Rule("torch.dtype", lambda enc, value: enc.text(_name(value)), lambda dec: _BY_NAME[dec.text()]), torch.dtype)
register(Rule("torch.Size", lambda enc, value: enc.put(tuple(value)), _get_size), torch.Size)
register(
    Rule("torch.device", lambda enc, value: enc.text(str(value)), lambda dec: torch.device(dec.text())), torch.device
)
FLAWS.register(torch.Tensor, _flaw, subclasses=True)
