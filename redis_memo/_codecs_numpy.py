"""numpy: arrays of every dtype, scalars, dtypes.

An array is its dtype, its shape, and its elements in C order (in Fortran order if it has that and not C's). What is
contiguous is not copied when written, and copied exactly once when read.
"""

# ruff: noqa: SLF001 - the public attributes of a masked array set what they show

from __future__ import annotations

import functools
import math
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from redis_memo._codecs_items import NAMED_ITEMS, PACKERS, get_items, put_items
from redis_memo._codecs_rules import FLAWS, NotTyped, Rule, attributes_lost, refuse, register, type_name
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis_memo._codecs_buffers import Buffer
    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["fixed", "get_array", "get_dtype", "numbers", "put_array", "put_dtype", "raw", "writable"]

_DTYPE: Final = re.compile(r"[<>|=]?[A-Za-z?]\d{0,18}(\[[\w/]{1,32}\])?")
_MOST_NOTHINGS: Final = 1 << 20  # elements without a byte, of which an entry can claim any number
_NUMBERS: Final = frozenset(("f8", "f4", "i8", "i4", "i2", "u8", "u4", "u2"))
_MAX_PADDING: Final = 4  # how many times its fields a structure may be: what a claimed item size can make us allocate
_DOMAIN: Final = (np.ndarray, np.recarray, np.matrix, np.memmap)


# dtypes

_STRING_DTYPE: Final[Any] = getattr(np.dtypes, "StringDType", None)


def put_dtype(enc: Encoder, dtype: Any) -> None:
    """Write a dtype: what makes it equal, and what equality overlooks (alignment, titles, metadata, record type)."""
    if dtype.isbuiltin == 1:  # numpy's very own: there is nothing more to it
        enc.out += b"="
        enc.text(_NAMES[dtype.num])
        return
    metadata = dtype.metadata
    if metadata is not None:
        enc.out += b"@"
        enc.put(dict(metadata))
    if _STRING_DTYPE is not None and isinstance(dtype, _STRING_DTYPE):
        has_na = hasattr(dtype, "na_object")
        if has_na and not _is_plain_na(dtype.na_object):
            raise NotTyped
        enc.out += b"T" if dtype.coerce else b"t"
        enc.put(has_na)
        enc.put(dtype.na_object if has_na else None)
    elif dtype.subdtype is not None:
        enc.out += b"("
        put_dtype(enc, dtype.base)
        enc.put(tuple(map(int, dtype.shape)))
    elif dtype.names is not None:
        _put_structure(enc, dtype)
    elif dtype.isbuiltin == 2 or not type(dtype).__module__.startswith("numpy"):
        raise NotTyped  # made by another library
    else:
        enc.out += b"="
        enc.text(_name(dtype))


def _name(dtype: Any) -> str:
    text: str = dtype.str
    if np.dtype(text).char != dtype.char:
        text = text[0].replace("|", "=") + dtype.char  # longlong where long is as long
    return text


_NAMES: Final = {dtype.num: _name(dtype) for dtype in map(np.dtype, np.typecodes["All"])}


def _is_plain_na(na: object) -> bool:
    """Whether numpy's questions to what stands for a missing string (is it NaN? is it a string?) run nobody's code."""
    if type(na) in (type(None), str):
        return True
    pandas = sys.modules.get("pandas")
    if pandas is not None and na is getattr(pandas, "NA", pandas):  # its class has no name that lasts
        return True
    return isinstance(na, float) and math.isnan(na)


def _put_structure(enc: Encoder, dtype: Any) -> None:
    fields = [dtype.fields[name] for name in dtype.names]
    titles = tuple(field[2] if len(field) > 2 else None for field in fields)
    if not set(map(type, titles)) <= {str, type(None)}:
        raise NotTyped
    enc.out += b"{"
    enc.put(
        (
            dtype.names,
            tuple(int(field[1]) for field in fields),
            titles if any(title is not None for title in titles) else None,
            dtype.itemsize,
            dtype.isalignedstruct,
            dtype.type is np.record,
        )
    )
    for field in fields:
        put_dtype(enc, field[0])


def get_dtype(dec: Decoder) -> np.dtype[Any]:
    """Read a dtype."""
    kind = dec.byte()
    if kind == ord("@"):
        metadata = dec.exact(dict)
        return np.dtype(get_dtype(dec), metadata=metadata)
    if kind == ord("="):
        return _plain_dtype(dec.text())
    if kind == ord("("):
        return np.dtype((get_dtype(dec), _ints(dec.exact(tuple))))
    if kind == ord("{"):
        return _get_structure(dec)
    if kind not in b"Tt":
        raise UnreadableEntry("a dtype is damaged")
    has_na, na_object = dec.exact(bool), dec.get()
    if not _is_plain_na(na_object):
        raise UnreadableEntry("a dtype is damaged")
    options = {"na_object": na_object} if has_na else {}
    return _STRING_DTYPE(coerce=kind == ord("T"), **options)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=256)
def _plain_dtype(text: str) -> np.dtype[Any]:
    if _DTYPE.fullmatch(text) is None:  # "i4,i4" would be a structure, "(9,)i4" a subarray
        raise UnreadableEntry("a dtype is damaged")
    return np.dtype(text)


def _get_structure(dec: Decoder) -> np.dtype[Any]:
    names, offsets, titles, itemsize, aligned, record = dec.exact(tuple)
    _ints((*_ints(offsets), itemsize))
    for texts in (names, titles or ()):
        if type(texts) is not tuple or not set(map(type, texts)) <= {str, type(None)}:
            raise UnreadableEntry("a dtype is damaged")
    if type(aligned) is not bool or type(record) is not bool:
        raise UnreadableEntry("a dtype is damaged")
    formats = [get_dtype(dec) for _ in names]
    parts = {"names": list(names), "formats": formats, "offsets": list(offsets), "itemsize": itemsize}
    if titles is not None:
        parts["titles"] = list(titles)
    dtype = np.dtype(parts, align=aligned)  # type: ignore[call-overload]
    return np.dtype((np.record, dtype)) if record else dtype


def _ints(numbers: Any) -> tuple[int, ...]:
    if type(numbers) is not tuple or not set(map(type, numbers)) <= {int}:
        raise UnreadableEntry("a dtype is damaged")
    return numbers


# Elements


def fixed(dtype: Any) -> bool:
    """Whether the elements are plain bytes."""
    return not dtype.hasobject and (_STRING_DTYPE is None or not isinstance(dtype, _STRING_DTYPE))


def numbers(dtype: Any) -> str:
    """What kind of numbers the elements are, for whoever compresses them; moments have a name of their own."""
    text: str = dtype.str
    if text[0] != "<":
        return ""
    if dtype.kind in "mM":
        return "M8" if dtype.kind == "M" else "i8"
    return text[1:] if text[1:] in _NUMBERS else ""


def raw(array: Any) -> Buffer:
    """The bytes of a C-contiguous array of a fixed dtype."""
    if not array.nbytes:
        return b""
    # The buffer protocol knows neither datetimes nor float16 structures: show the bytes instead.
    view: memoryview = array.reshape(-1).view(np.ndarray).view(np.uint8).data
    return view


def writable(array: Any) -> memoryview:
    """The memory of a new C-contiguous array of a fixed dtype, to be filled."""
    return memoryview(raw(array) if array.nbytes else bytearray())


def _put_elements(enc: Encoder, array: Any) -> None:
    """Write the elements of a C-contiguous array."""
    if not array.dtype.itemsize and array.size > _MOST_NOTHINGS:
        raise NotTyped
    if fixed(array.dtype):
        enc.column(raw(array), numbers(array.dtype))
    elif array.dtype.names is not None:
        if array.dtype.itemsize > _MAX_PADDING * _field_bytes(array.dtype):
            raise NotTyped
        for name in array.dtype.names:
            put_array(enc, array[name])
    else:
        put_items(enc, array.reshape(-1).tolist())


def _field_bytes(dtype: Any) -> int:
    return sum(dtype.fields[name][0].itemsize for name in dtype.names)


def _get_elements(dec: Decoder, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Read them as a new array. Nothing is allocated before it is clear that the data are there."""
    length = math.prod(shape)
    if not dtype.itemsize and length > _MOST_NOTHINGS:
        raise UnreadableEntry("an array of nothing is too long")
    if fixed(dtype):
        if dec.measure() != length * dtype.itemsize or min(shape, default=0) < 0:
            raise UnreadableEntry("an array is not as long as it should be")
        array: Any = np.ndarray(shape, dtype)  # np.empty would make S1 of S0
        dec.fill(writable(array))
        return array
    if dtype.names is not None:
        return _get_fields(dec, dtype, shape)
    items = get_items(dec)
    if len(items) != length or min(shape, default=0) < 0:
        raise UnreadableEntry("an array is not as long as it should be")
    array = np.empty(length, dtype)
    if dtype.char != "O" and not _are_strings(items, dtype):
        raise UnreadableEntry("an array of strings holds something else")
    for place, item in enumerate(items):  # assigning the list would look into nested sequences
        array[place] = item
    return array.reshape(shape)


def _are_strings(items: list[Any], dtype: Any) -> bool:
    """Whether an array of strings can be filled with these: it would ask anything else for its ``__str__``."""
    if set(map(type, items)) <= {str}:
        return True
    na = getattr(dtype, "na_object", "")
    if isinstance(na, float):
        return all(type(item) is str or (isinstance(item, float) and math.isnan(item)) for item in items)
    return all(type(item) is str or item is na for item in items)


def _get_fields(dec: Decoder, dtype: Any, shape: tuple[int, ...]) -> Any:
    columns = [get_array(dec) for _ in dtype.names]
    for name, column in zip(dtype.names, columns, strict=True):
        part = dtype.fields[name][0]
        if column.shape != shape + part.shape or column.dtype != part.base:
            raise UnreadableEntry("a structured array does not add up")
    if not columns or dtype.itemsize > _MAX_PADDING * _field_bytes(dtype):
        raise UnreadableEntry("a structured array does not add up")
    array = np.zeros(shape, dtype)
    for name, column in zip(dtype.names, columns, strict=True):
        array[name] = column
    return array


# Arrays


def put_array(enc: Encoder, array: Any) -> None:
    """Write an array's dtype, shape, order and elements."""
    put_dtype(enc, array.dtype)
    enc.size(array.ndim)
    for length in array.shape:
        enc.size(length)
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    enc.out.append(fortran)
    if fortran:
        array = array.T
    elif not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    _put_elements(enc, array)


def get_array(dec: Decoder, kinds: str = "") -> Any:
    """Read a new, writable array.

    Args:
        dec: Where from.
        kinds: Of dtypes that it may have; empty for any. Where numbers are meant, planted objects would be asked for
            theirs by methods of their own (P6).
    """
    dtype = get_dtype(dec)
    if kinds and dtype.kind not in kinds:
        raise UnreadableEntry("an array is of another kind than it should be")
    shape = tuple(dec.size() for _ in range(dec.count()))
    if dec.byte():
        return _get_elements(dec, dtype, shape[::-1]).T
    return _get_elements(dec, dtype, shape)


# What else than its elements numpy keeps of a memmap, and what is stored of a masked array in its own way.
_OWN: Final = frozenset({
    "_mmap", "filename", "offset", "mode",
    "_mask", "_fill_value", "_hardmask", "_sharedmask", "_isfield", "_baseclass", "_optinfo", "_basedict",
})  # fmt: skip


def _array_flaw(value: Any) -> str | None:
    """Arrays are pickled without their attributes, but for what the class itself gives to each of them."""
    cls: Any = type(value)
    family: Any = np.ma.MaskedArray if isinstance(value, np.ma.MaskedArray) else np.ndarray
    if cls is np.ndarray or (cls.__reduce_ex__, cls.__reduce__) != (family.__reduce_ex__, family.__reduce__):
        return None
    own = _attributes(value)
    if all(each.keys() <= _OWN for each in own):
        return None
    make, arguments = value.__reduce__()[:2]
    fresh = _attributes(make(*arguments))
    found = [attributes_lost(cls, each, kept=_OWN, fresh=new) for each, new in zip(own, fresh, strict=True)]
    return next(filter(None, found), None)


def _attributes(value: Any) -> list[dict[str, object]]:
    """An array's attributes; masked arrays note some in dicts of their own."""
    own = vars(value)
    return [own, own.get("_optinfo") or {}, own.get("_basedict") or {}]


def _scalar_flaw(value: Any) -> str | None:
    cls: Any = type(value)
    plain = value.dtype.type
    if cls is plain or cls.__reduce__ is not np.generic.__reduce__:
        return None
    return f"would come back as {type_name(plain)}, which its class is a subclass of"


def _put_ndarray(enc: Encoder, value: Any) -> None:
    cls = type(value)
    if cls is not np.ndarray and (flaw := _array_flaw(value)) is not None:
        refuse(value, flaw)
    enc.out.append(_DOMAIN.index(cls))
    put_array(enc, value.view(np.ndarray))


def _get_ndarray(dec: Decoder) -> Any:
    cls = _DOMAIN[dec.byte()]
    array = get_array(dec)
    return array if cls is np.ndarray else array.view(cls)


def _put_masked(enc: Encoder, value: Any) -> None:
    if (flaw := _array_flaw(value)) is not None:
        refuse(value, flaw)
    if value._baseclass is not np.ndarray:
        raise NotTyped
    enc.put(value._data)
    enc.put(None if value._mask is np.ma.nomask else value._mask)
    enc.put(None if value._fill_value is None else np.asarray(value._fill_value))
    enc.put(bool(value._hardmask))


def _get_masked(dec: Decoder) -> Any:
    data, mask = dec.some(np.ndarray), dec.some(np.ndarray, type(None))
    fill, hard = dec.get(), dec.exact(bool)
    if mask is not None and mask.dtype.hasobject:
        raise UnreadableEntry("a masked array is damaged")
    value = np.ma.MaskedArray(data, mask=np.ma.nomask if mask is None else mask, hard_mask=hard, copy=False)
    if fill is not None:
        if not isinstance(fill, np.ndarray) or fill.shape:
            raise UnreadableEntry("a masked array is damaged")
        # The setter would give it the dtype of the array; the defaults of numpy itself have another one.
        value._fill_value = fill  # type: ignore[attr-defined]
    return value


# Scalars

_SCALARS: Final = tuple({dtype.type for dtype in map(np.dtype, np.typecodes["All"])} - {np.object_})
_TEXTS: Final = (np.str_, np.bytes_)


def _put_scalar(enc: Encoder, value: Any) -> None:
    cls = type(value)
    if cls is np.str_:
        enc.out += b"s"
        enc.put(str.__getitem__(value, slice(None)))  # str(value) loses trailing zeros
    elif cls is np.bytes_:
        enc.out += b"b"
        enc.put(bytes.__getitem__(value, slice(None)))
    else:
        enc.out += b"a"
        array = np.empty((), value.dtype)
        array[()] = value
        put_array(enc, array)


def _get_scalar(dec: Decoder) -> Any:
    kind = dec.byte()
    if kind == ord("a"):
        array = get_array(dec)
        if array.shape:
            raise UnreadableEntry("a scalar is damaged")
        return array[()]
    return np.str_(dec.exact(str)) if kind == ord("s") else np.bytes_(dec.exact(bytes))


def _put_scalars(enc: Encoder, items: Sequence[Any]) -> bool:
    dtype = items[0].dtype
    if dtype.kind in "mM" and any(item.dtype != dtype for item in items):
        return False
    enc.out += b"x\x0anp.scalars"
    put_array(enc, np.array(items, dtype))
    return True


def _get_scalars(dec: Decoder) -> list[Any]:
    array = get_array(dec)
    if array.ndim != 1 or array.dtype.kind in "SUVO":
        raise UnreadableEntry("a column of scalars is damaged")
    return list(array)


register(Rule("np.dtype", put_dtype, get_dtype), np.dtype, subclasses=True)
register(Rule("np.ndarray", _put_ndarray, _get_ndarray), *_DOMAIN)
register(Rule("np.ma.MaskedArray", _put_masked, _get_masked), np.ma.MaskedArray)
register(
    Rule("np.ma.masked", lambda _enc, _value: None, lambda _dec: np.ma.masked),
    type(np.ma.masked),
)
register(Rule("np.generic", _put_scalar, _get_scalar), *_SCALARS, np.record)
FLAWS.register(np.ndarray, _array_flaw, subclasses=True)
FLAWS.register(np.generic, _scalar_flaw, subclasses=True)
PACKERS.update({cls: _put_scalars for cls in _SCALARS if not issubclass(cls, (np.flexible, np.object_))})
NAMED_ITEMS[b"np.scalars"] = _get_scalars
