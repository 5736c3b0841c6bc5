"""Values of the libraries that hold matrices, tensors and images; ``strategies`` takes them in where they are installed.

``CHECKS`` maps a library's top-level module to the comparison of two of its objects: it is given the walk of
``strategies`` and reports there.
"""

from __future__ import annotations

import random
import warnings
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

try:
    import scipy.sparse as sp
except ImportError:
    sp = None
try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]
try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

__all__ = ["CHECKS", "STRATEGIES", "matrices"]

STRATEGIES: dict[str, st.SearchStrategy[Any]] = {}
CHECKS: dict[str, Any] = {}


# scipy


def _check_sparse(walk: Any, one: Any, other: Any, where: str) -> None:
    walk.true(one.shape == other.shape and one.dtype == other.dtype and one.format == other.format, f"{where}: kind")
    walk.true(one.maxprint == other.maxprint and one.nnz == other.nnz, f"{where}: maxprint")
    if one.format in ("csr", "csc", "bsr"):
        used = int(one.indptr[-1])
        for name, length in (("indptr", None), ("indices", used), ("data", used)):
            walk.ndarray(getattr(one, name)[:length], getattr(other, name), f"{where}.{name}")
        for name in ("has_sorted_indices", "has_canonical_format"):
            walk.true(getattr(one, name) == getattr(other, name), f"{where}.{name}")
    elif one.format == "coo":
        walk.items(list(one.coords), list(other.coords), f"{where}.coords")
        walk.ndarray(one.data, other.data, f"{where}.data")
        walk.true(one.has_canonical_format == other.has_canonical_format, f"{where}.has_canonical_format")
    elif one.format == "dia":
        walk.ndarray(one.offsets, other.offsets, f"{where}.offsets")
        walk.ndarray(one.data, other.data, f"{where}.data")
    elif one.format == "lil":
        walk.ndarray(one.rows, other.rows, f"{where}.rows")
        walk.ndarray(one.data, other.data, f"{where}.data")
    else:
        walk.items(list(one._dict.items()), list(other._dict.items()), where)


if sp is not None:
    CHECKS["scipy"] = _check_sparse
    _sparse_dtypes = st.sampled_from(["?", "i1", "u2", "i4", "i8", "f4", "f8", "c8", "c16", "longdouble"]).map(np.dtype)

    @st.composite
    def _coordinates(draw: Any, *, dims: int = 2, dtypes: Any = _sparse_dtypes) -> Any:
        """A matrix in coordinates, with duplicates, zeros that are stored, and empty axes."""
        shape = draw(hnp.array_shapes(min_dims=dims, max_dims=dims, min_side=0, max_side=6))
        count = draw(st.integers(0, 9)) if all(shape) else 0
        noise = np.random.default_rng(draw(st.integers(0, 99)))
        index = draw(st.sampled_from(["i4", "i8"]))
        coords = tuple(noise.integers(0, length, count).astype(index) for length in shape)
        data = noise.integers(0, 4, count).astype(draw(dtypes))
        made = sp.coo_array((data, coords), shape=shape)
        made.coords = coords
        return made

    def _other_index(made: Any, index: str) -> Any:
        made.indices, made.indptr = made.indices.astype(index), made.indptr.astype(index)
        return made

    def _unsorted(made: Any) -> Any:
        """The same content with the entries of each row the other way round."""
        for start, stop in zip(made.indptr[:-1], made.indptr[1:], strict=True):
            for part in (made.indices, made.data):
                part[start:stop] = part[start:stop][::-1].copy()
        for flag in ("_has_sorted_indices", "_has_canonical_format"):
            vars(made).pop(flag, None)
        return made

    def _flavours(name: str, made: Any) -> Any:
        return st.sampled_from(["array", "matrix"]).map(lambda flavour: getattr(sp, f"{name}_{flavour}")(made))

    def _format(name: str) -> Any:
        return _coordinates().flatmap(lambda made: _flavours(name, made))

    def _with_room(made: Any) -> Any:
        """Arrays with room for entries to come, as scipy leaves them."""
        made.indices, made.data = (np.concatenate([part, part[:1]]) for part in (made.indices, made.data))
        return made

    def _spelled(made: Any) -> Any:
        if 0 not in made.shape:
            made[0, 0] = 7
            made[-1, -1] = 0
        made.maxprint = 7
        return made

    _rows = _format("csr") | _format("csc")
    matrices = {
        "scipy.compressed": _rows
        | st.builds(_other_index, _rows, st.sampled_from(["i4", "i8"]))
        | _rows.map(_with_room)
        | _rows.map(_unsorted)
        | _coordinates(dims=1).map(sp.csr_array)
        | st.builds(
            lambda made, rows, columns: sp.kron(made, np.ones((rows, columns), made.dtype), "bsr"),
            _coordinates(dtypes=st.sampled_from(["f8", "i4"])).filter(lambda made: made.nnz > 0),
            st.integers(1, 3),
            st.integers(1, 3),
        )
        | _format("bsr"),
        "scipy.coo": _coordinates() | _format("coo") | _coordinates(dims=1) | _coordinates(dims=3),
        "scipy.dia": _format("dia")
        | st.just(sp.dia_array((np.arange(6.0).reshape(2, 3), [0, -1]), shape=(5, 4)))
        | st.just(sp.dia_matrix((4, 4), dtype="i2")),
        "scipy.lil": _format("lil") | _format("lil").map(_spelled),
        "scipy.dok": _format("dok") | _format("dok").map(_spelled) | _coordinates(dims=1).map(sp.dok_array),
    }
    STRATEGIES |= matrices


# Pillow


def _check_image(walk: Any, one: Any, other: Any, where: str) -> None:
    walk.true(one == other, f"{where}: image")
    walk.check(one.info, other.info, f"{where}.info")
    walk.true(getattr(one, "note", None) == getattr(other, "note", None), f"{where}.note")
    if one.mode in ("P", "PA"):
        walk.true(one.getpalette(None) == other.getpalette(None), f"{where}: palette")
        walk.true(
            one.palette.mode == other.palette.mode and one.palette.colors == other.palette.colors, f"{where}: colors"
        )
        walk.check(one.palette.palette, other.palette.palette, f"{where}.palette")
        walk.true(one.convert("RGBA") == other.convert("RGBA"), f"{where}: looks")
    walk.true(not other.readonly, f"{where}: not writable")


if Image is not None:
    CHECKS["PIL"] = _check_image
    _MODES = [
        "1", "L", "P", "LA", "La", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B",
    ]  # fmt: skip

    @st.composite
    def _images(draw: Any) -> Any:
        mode, size = draw(st.sampled_from(_MODES)), draw(st.tuples(st.integers(0, 40), st.integers(0, 40)))
        blank = Image.new(mode, size)
        made = Image.frombytes(mode, size, random.Random(draw(st.integers(0, 99))).randbytes(len(blank.tobytes())))
        if mode in ("P", "PA") and draw(st.booleans()):
            kind = draw(st.sampled_from(["RGB", "RGBA"]))
            made.putpalette(list(range(len(kind) * draw(st.integers(0, 60)))), kind)
        made.info = draw(
            st.sampled_from([{}, {"dpi": (72, 72), "icc_profile": b"abc", "transparency": 3, "loop": [1]}])
        )
        return made

    def _noted(made: Any) -> Any:
        made.note = {"symbol": "INFY"}
        return made

    STRATEGIES["PIL.Image"] = (
        _images()
        | _images().filter(lambda made: made.mode == "RGB" and 0 not in made.size).map(lambda made: made.quantize(9))
        | _images().map(_noted)
    )


# torch


def _check_tensor(walk: Any, one: Any, other: Any, where: str) -> None:
    if not isinstance(one, torch.Tensor):
        walk.true(one == other, where)
        return
    walk.true(one.dtype == other.dtype and one.shape == other.shape, f"{where}: kind")
    walk.true(one.requires_grad == other.requires_grad and other.is_leaf, f"{where}.requires_grad")
    dense = one.is_contiguous() or _axes(one) is not None
    walk.true(_axes(one) == _axes(other) if dense else other.is_contiguous(), f"{where}: layout")
    walk.true(_bits(one) == _bits(other), where)
    walk.check(one.grad, other.grad, f"{where}.grad")
    walk.check(vars(one), vars(other), f"{where}.__dict__")


def _axes(tensor: Any) -> Any:
    """In which order the axes lie, those of length one aside; None where there are gaps."""
    order = sorted(range(tensor.ndim), key=lambda axis: (-tensor.stride(axis), axis))
    if tensor.is_contiguous():
        return "contiguous"
    return [axis for axis in order if tensor.shape[axis] > 1] if tensor.permute(order).is_contiguous() else None


def _bits(tensor: Any) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg()
    # Copied in any case: a lone element may have any stride, and torch takes it for contiguous and does not view it.
    flat = torch.empty(plain.numel(), dtype=plain.dtype).copy_(plain.reshape(-1))
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


if torch is not None:
    CHECKS["torch"] = _check_tensor
    with warnings.catch_warnings():  # said once in a process: that such halves are experimental
        warnings.simplefilter("ignore")
        torch.empty(0, dtype=torch.complex32)
    _TORCH_DTYPES = [
        getattr(torch, name)
        for name in (
            "bool", "uint8", "uint16", "uint64", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32",
            "float64", "complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2",
        )
        if hasattr(torch, name)
    ]  # fmt: skip

    @st.composite
    def _tensors(draw: Any) -> Any:
        dtype = draw(st.sampled_from(_TORCH_DTYPES))
        shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
        count = int(np.prod(shape)) * dtype.itemsize
        raw = np.random.default_rng(draw(st.integers(0, 99))).integers(
            0, 2 if dtype == torch.bool else 256, count, np.uint8
        )
        made = torch.from_numpy(raw).view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
        layout = draw(st.sampled_from(["C", "T", "gaps", "wide", "last"]))
        if layout == "T":
            made = made.permute(draw(st.permutations(range(made.ndim))))
        elif layout == "gaps" and made.ndim:
            made = torch.stack([made, made], -1)[..., 0]
        elif layout == "wide":
            made = made.expand(2, *made.shape)
        elif layout == "last" and made.ndim == 4:
            made = made.contiguous(memory_format=torch.channels_last)
        if dtype.is_floating_point and dtype.itemsize > 1 and draw(st.booleans()):
            made = draw(st.sampled_from([torch.nn.Parameter, torch.Tensor.requires_grad_]))(made.detach())
            if draw(st.booleans()):
                made.grad = torch.ones_like(made).detach()
        return made

    def _conjugate(made: Any) -> Any:
        return made.conj() if made.is_complex() and made.dtype != torch.complex32 else made

    STRATEGIES |= {
        "torch.Tensor": _tensors() | _tensors().map(_conjugate) | st.just(torch.nn.Buffer(torch.ones(3))),
        "torch.dtype": st.sampled_from(_TORCH_DTYPES),
        "torch.Size": st.lists(st.integers(0, 9), max_size=4).map(torch.Size),
        "torch.device": st.sampled_from(["cpu", "cuda:1", "meta"]).map(torch.device),
    }
