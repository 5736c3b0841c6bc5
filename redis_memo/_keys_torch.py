"""Key rules for torch: tensors by dtype, shape, device and elements; not by how they lie in memory.

Where gradients flow is no part of a value, whether they are wanted (``requires_grad``) is.
"""

from __future__ import annotations

from typing import Any

import torch

from redis_memo._keys import LIBRARIES
from redis_memo._keys_code import identity
from redis_memo._keys_numpy import content as numpy_content
from redis_memo._keys_walk import Walk, joined, named, pairs, refuse, text

__all__: list[str] = []


def _content(tensor: Any, walk: Walk) -> bytes:
    # numpy does not have all the small types, but larger ones that hold each of their values.
    if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
        tensor = tensor.to(torch.float32)
    elif tensor.is_complex() and tensor.dtype.itemsize < 8:
        tensor = tensor.to(torch.complex64)
    return numpy_content(tensor.resolve_conj().resolve_neg().numpy(), walk)


def _parts(tensor: Any, walk: Walk) -> list[bytes]:
    """Encode the elements of a tensor of any layout."""
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()
        return [_content(tensor.indices(), walk), _content(tensor.values(), walk)]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    else:
        return [_content(tensor, walk)]
    return [walk.encode(tuple(parts[-1].shape)), *(_content(part, walk) for part in parts)]


def _tensor(value: Any, walk: Walk) -> bytes:
    cls = type(value)
    if value.device.type == "meta":
        refuse(cls, "has no elements: it is on the device meta")
    if value.is_nested or value.is_quantized:
        refuse(cls, "is nested or quantized: pass its parts")
    walk.work += value.numel()
    here = value.detach().cpu()
    own = pairs(list(vars(value).items()), walk)
    return named(
        "torch.Tensor",
        identity(cls, walk),
        text(str(value.dtype)),
        text(str(value.layout)),
        text(str(value.device)),
        walk.encode(tuple(value.shape)),
        b"T" if value.requires_grad else b"F",
        joined(b"d", len(own), own),
        *_parts(here, walk),
    )


def _by_text(value: Any, _walk: Walk) -> bytes:
    return named("torch", text(type(value).__name__), text(str(value)))


LIBRARIES.register(torch.Tensor, _tensor, subclasses=True)
for _cls in (torch.dtype, torch.device, torch.layout, torch.memory_format):
    LIBRARIES.register(_cls, _by_text)
