"""Key rules for pyarrow: by type and content. Chunks, slices, offsets and what lies under nulls do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redis_memo._keys import LIBRARIES
from redis_memo._keys_numpy import content as numpy_content
from redis_memo._keys_walk import Walk, blob, digest, joined, named, number, pairs, text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["content", "strings", "type_key"]


def type_key(kind: pa.DataType, walk: Walk) -> bytes:
    """Encode an Arrow type. Field metadata does not count, as in ``DataType.equals``."""
    if isinstance(kind, pa.BaseExtensionType):
        name = getattr(kind, "extension_name", type(kind).__name__)
        return named("arrow extension", text(name), type_key(kind.storage_type, walk))
    if pa.types.is_dictionary(kind):
        inner = (type_key(kind.index_type, walk), type_key(kind.value_type, walk))
        return named("arrow dictionary", *inner, b"T" if kind.ordered else b"F")
    if pa.types.is_run_end_encoded(kind):
        return named("arrow run-end", type_key(kind.run_end_type, walk), type_key(kind.value_type, walk))
    if kind.num_fields:
        fields = [_field(kind.field(position), walk) for position in range(kind.num_fields)]
        # The identifier numbers of Arrow's kinds are frozen by its C++ interface; a list's size is not in its fields.
        size = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        extra = walk.encode((kind.id, size, pa.types.is_map(kind) and kind.keys_sorted))
        codes = walk.encode(list(kind.type_codes)) if pa.types.is_union(kind) else b"N"
        return named("arrow nested", extra, codes, joined(b"t", len(fields), fields))
    return text(str(kind))  # the names of Arrow's own plain types: int64, timestamp[us, tz=Asia/Kolkata]


def _field(field: pa.Field, walk: Walk) -> bytes:
    return text(field.name) + type_key(field.type, walk) + (b"T" if field.nullable else b"F")


def _one(value: Any) -> Any:
    """One array, whatever chunks there are."""
    if not isinstance(value, pa.ChunkedArray):
        return value
    if value.num_chunks == 1:
        return value.chunk(0)
    return pa.concat_arrays(value.chunks) if value.num_chunks else pa.nulls(0, value.type)


def strings(value: Any) -> bytes:
    """Encode text by the number of characters of each, -1 for a missing one, and all characters together."""
    value = _one(value.cast(pa.large_string()))
    lengths = pc.fill_null(pc.utf8_length(value), -1).to_numpy(zero_copy_only=False).astype("<i8")
    return named("strings", number(len(value)), _digest(lengths), blob(_characters(value)))


def _characters(value: Any) -> memoryview:
    if value.null_count:  # a null may have characters
        value = pc.drop_null(value)
    offsets, data = value.buffers()[1:]
    if not len(value) or data is None:
        return memoryview(b"")
    first, last = np.frombuffer(offsets, dtype="<i8", count=len(value) + 1, offset=8 * value.offset)[[0, -1]].tolist()
    return memoryview(data)[first:last]


def _digest(array: np.ndarray[Any, Any]) -> bytes:
    return b"#" + digest(memoryview(cast("Any", np.ascontiguousarray(array).reshape(-1).view(np.uint8))))


def content(value: Any, walk: Walk) -> bytes:
    """Encode the elements of an Arrow array or chunked array."""
    kind = value.type
    if isinstance(kind, pa.BaseExtensionType):
        chunks = value.chunks if isinstance(value, pa.ChunkedArray) else [value]
        return content(pa.chunked_array([chunk.storage for chunk in chunks], type=kind.storage_type), walk)
    if pa.types.is_dictionary(kind):
        return content(_looked_up(value), walk)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view":
        return strings(value)
    array = _one(value)
    count = number(len(array))
    if pa.types.is_null(kind):
        return count
    if pa.types.is_run_end_encoded(kind):
        return content(_taken(array, np.arange(len(array))), walk)
    if pa.types.is_union(kind):
        codes = _numbers(array, 1, "i1")
        members = [content(_member(array, place, codes), walk) for place in range(kind.num_fields)]
        return named("arrow", count, _digest(codes), *members)
    missing = pc.is_null(array).to_numpy(zero_copy_only=False) if array.null_count else None
    nulls = b"N" if missing is None else _digest(np.packbits(missing))
    if pa.types.is_boolean(kind):
        return named("arrow", count, nulls, _digest(pc.fill_null(array, False).to_numpy(zero_copy_only=False)))
    if pa.types.is_struct(kind):
        parts = [_part(array.field(place), missing) for place in range(kind.num_fields)]
        return named("arrow", count, nulls, *(content(part, walk) for part in parts))
    if kind.num_fields:
        return named("arrow", count, nulls, *_lists(array, walk))
    if _width(kind):
        return named("arrow", count, nulls, _fixed(array, missing, walk))
    return named("arrow", count, walk.encode(array.to_pylist()))


def _part(array: Any, missing: np.ndarray[Any, Any] | None) -> Any:
    """A part of a struct, nothing where the struct is null."""
    if missing is None:
        return array
    if pa.types.is_union(array.type) or pa.types.is_run_end_encoded(array.type):
        return _taken(array, np.flatnonzero(~missing))  # flatten() would give it nulls of its own, and end the process
    return pa.StructArray.from_arrays([array], [""], mask=pa.array(missing)).flatten()[0]


def _looked_up(value: Any) -> Any:
    """What the indices of a dictionary stand for."""
    kind = value.type.value_type
    try:
        return value.cast(kind)
    except pa.ArrowNotImplementedError:  # of what is nested
        chunks = value.chunks if isinstance(value, pa.ChunkedArray) else [value]
        found = [_plain(chunk.dictionary).take(chunk.indices) for chunk in chunks]
        return pa.chunked_array(found, type=None if found else kind)


def _plain(array: Any) -> Any:
    """The same elements as an array of which some can be taken: runs spelled out, views as what they show."""
    if pa.types.is_run_end_encoded(array.type):
        return _taken(array, np.arange(len(array)))
    shown = {"string_view": pa.large_string(), "binary_view": pa.large_binary()}.get(str(array.type))
    return array if shown is None else array.cast(shown)


def _taken(array: Any, places: Any) -> Any:
    """Some elements."""
    if pa.types.is_run_end_encoded(array.type):
        ends = array.run_ends.to_numpy()
        return _taken(array.values, np.searchsorted(ends, array.offset + places, "right"))
    kind = str(array.type)
    if kind.count("fixed_size_list") < 2 and "run_end" not in kind:
        return _plain(array).take(pa.array(places, pa.int64()))
    # Of nested runs Arrow takes none, and of a slice of lists of one length in lists of one length others than those
    # that are asked for, some beyond their memory (Arrow 26).
    return pa.concat_arrays([array.slice(place, 1) for place in places] or [array.slice(0, 0)])


def _member(array: Any, place: int, codes: np.ndarray[Any, Any]) -> Any:
    """The elements of a union that are of one of its types."""
    rows = np.flatnonzero(codes == array.type.type_codes[place])
    if array.type.mode == "dense":
        rows = _numbers(array, 2, "<i4")[rows]
    return _taken(array.field(place), rows)


def _numbers(array: Any, which: int, dtype: str) -> Any:
    """One of the buffers of an array."""
    if not len(array):  # nor need there be a buffer
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[which], dtype, array.offset + len(array))[array.offset :]


def _lists(array: Any, walk: Walk) -> list[bytes]:
    """Encode the lengths of lists, and their elements."""
    kind = array.type
    if pa.types.is_map(kind):
        entries = array.values
        array = pa.Array.from_buffers(
            pa.list_(entries.type), len(array), array.buffers()[:2], offset=array.offset, children=[entries]
        )
    elif pa.types.is_fixed_size_list(kind) and not kind.list_size:  # of which Arrow divides by their size
        return []
    if not len(array):  # what it says about where its elements begin can be wrong, and is believed
        return [_digest(np.empty(0, "<i8")), content(array.values.slice(0, 0), walk)]
    lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return [_digest(lengths), content(array.flatten(), walk)]


def _width(kind: pa.DataType) -> int:
    try:
        return int(kind.bit_width) // 8
    except ValueError:
        return 0


def _fixed(array: Any, missing: np.ndarray[Any, Any] | None, walk: Walk) -> bytes:
    """Encode elements of one width from their memory, nothing in the place of nulls."""
    width, data = _width(array.type), array.buffers()[1]
    if pa.types.is_floating(array.type):
        dtype = np.dtype(f"<f{width}")
    else:
        dtype = np.dtype(f"<i{width}" if width in (1, 2, 4, 8) else f"V{width}")
    if data is None or not len(array):
        return b"N"
    elements = np.frombuffer(data, dtype=dtype, count=len(array), offset=array.offset * width)
    if missing is not None:
        elements = elements.copy()
        elements[missing] = np.zeros((), dtype)[()]
    return numpy_content(elements, walk)


# -------------------------------------------------------------------------------------------------------------- rules


def _array(value: Any, walk: Walk) -> bytes:
    walk.work += len(value)
    # Where the chunks end does not matter; that there may be several is another class with other methods.
    kind = "pyarrow.ChunkedArray" if isinstance(value, pa.ChunkedArray) else "pyarrow.Array"
    return named(kind, type_key(value.type, walk), content(value, walk))


def _table(value: Any, walk: Walk) -> bytes:
    columns: Iterable[Any] = value.columns
    parts = [_field(field, walk) + content(column, walk) for field, column in zip(value.schema, columns, strict=True)]
    walk.work += value.num_rows * value.num_columns
    kind = "pyarrow.Table" if isinstance(value, pa.Table) else "pyarrow.RecordBatch"
    # What pandas made of it is in the metadata: which columns are the index, for one.
    metadata = pairs(list((value.schema.metadata or {}).items()), walk)
    return named(kind, number(value.num_rows), joined(b"t", len(parts), parts), joined(b"d", len(metadata), metadata))


def _scalar(value: Any, walk: Walk) -> bytes:
    array = pa.repeat(value, 1) if value.is_valid else pa.nulls(1, value.type)
    return named("pyarrow.Scalar", type_key(value.type, walk), content(array, walk))


def _schema(value: Any, walk: Walk) -> bytes:
    fields = [_field(field, walk) for field in value]
    metadata = pairs(list((value.metadata or {}).items()), walk)
    return named("pyarrow.Schema", joined(b"t", len(fields), fields), joined(b"d", len(metadata), metadata))


LIBRARIES.register(pa.Array, _array, subclasses=True)
LIBRARIES.register(pa.ChunkedArray, _array, subclasses=True)
LIBRARIES.register(pa.Table, _table)
LIBRARIES.register(pa.RecordBatch, _table)
LIBRARIES.register(pa.Scalar, _scalar, subclasses=True)
LIBRARIES.register(pa.Schema, _schema)
LIBRARIES.register(pa.Field, lambda value, walk: named("pyarrow.Field", _field(value, walk)))
LIBRARIES.register(pa.DataType, lambda value, walk: named("pyarrow.DataType", type_key(value, walk)), subclasses=True)
LIBRARIES.register(pa.Buffer, lambda value, _walk: named("pyarrow.Buffer", blob(memoryview(value).cast("B"))))
