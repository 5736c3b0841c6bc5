"""Arrow tables, batches, arrays, schemas: Arrow's own stream format, uncompressed, as one buffer.

What is read is validated in full before anything looks at it: Arrow trusts offsets otherwise.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from redis_memo._codecs_buffers import Joined
from redis_memo._codecs_rules import NotTyped, Rule, register
from redis_memo.errors import UnreadableEntry

if TYPE_CHECKING:
    from redis_memo._codecs_stream import Decoder, Encoder

__all__ = ["get_column", "get_table", "put_column", "put_table"]

MUCH: Final = 1 << 20  # bytes of a table of which Arrow is not asked for a copy
_BATCH_COMPRESSION: Final = 3  # fields of the tables in Arrow's Message.fbs
_DICTIONARY_DATA: Final = 1
_MESSAGE_HEADER: Final = 2


def put_table(enc: Encoder, table: Any) -> None:
    """Write a table, or a record batch."""
    if _is_changed(table.schema):
        raise NotTyped
    try:
        table.validate(full=True)  # as when it is read; a date64 of half a day, made by a view, is none
    except pa.ArrowInvalid:
        raise NotTyped from None
    if not table.num_rows and isinstance(table, pa.Table) and all(column.num_chunks for column in table.columns):
        # Of an empty table Arrow writes no batch, so no dictionary either; and a column without any chunk ends the
        # process in some of its conversions.
        table = pa.RecordBatch.from_arrays(list(map(_only, table.columns)), schema=table.schema)
    if table.nbytes >= MUCH and not any(map(_has_parts, table.schema.types)):
        enc.scattered(Joined(_pieces(table)))
        return
    data = _stream(table)
    if any(pa.types.is_nested(field.type) for field in table.schema):
        if not _is_sound(_read(data)):
            if any("dictionary" in str(field.type) for field in table.schema):  # of which Arrow would make another one
                raise NotTyped
            data = _stream(_moved(table))
        if not _is_sound(_read(data)):
            raise NotTyped
    if not _keeps_dictionaries(table, data):
        data = _stream(*_apart(table))
    enc.blob(memoryview(data).cast("B"))


class _Pieces(list[memoryview]):
    """A file to Arrow, which hands it the memory of its columns and no copy."""

    closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.append(view)
        return len(view)

    def flush(self) -> None:
        """There is nothing to do."""


def _pieces(table: Any) -> list[memoryview]:
    pieces = _Pieces()
    with pa.ipc.new_stream(pa.PythonFile(pieces, mode="w"), table.schema) as writer:
        writer.write(table)
    return pieces


def _stream(*tables: Any) -> Any:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write(table)
    return sink.getvalue()


def _read(data: Any) -> Any:
    with pa.ipc.open_stream(data) as reader:  # copies nothing
        return reader.read_all()


def _moved(table: Any) -> Any:
    """The same, in memory of its own, where each list begins at the beginning."""
    columns = []
    for column in table.columns:
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        copied = [pa.concat_arrays([chunk, chunk.slice(0, 0)]) for chunk in chunks]
        columns.append(pa.chunked_array(copied, column.type) if isinstance(column, pa.ChunkedArray) else copied[0])
    return type(table).from_arrays(columns, schema=table.schema)


def get_table(dec: Decoder) -> Any:
    """Read a table."""
    buffer = pa.py_buffer(bytes(dec.blob()))
    _inspect(buffer)
    table = _read(buffer)
    if any(map(_nests_dictionaries, table.schema.types)):
        raise UnreadableEntry("an Arrow dictionary is made of dictionaries")
    table.validate(full=True)
    if not _is_sound(table):
        raise UnreadableEntry("an Arrow list is damaged")
    return table


def _is_sound(table: Any) -> bool:
    """Whether each list begins within its elements.

    Of an empty one the stream format has an offset that need not be, as it stood where the array was a part of another,
    and no elements. Arrow calls that valid, and ends the process when it looks for them.
    """
    return all(_begins_within(chunk) for column in table.columns for chunk in column.chunks)


def _begins_within(array: Any) -> bool:
    kind = array.type
    if not len(array) and (pa.types.is_list(kind) or pa.types.is_map(kind) or pa.types.is_large_list(kind)):
        offsets = memoryview(array.buffers()[1] or b"").cast("B")
        if any(offsets[: 8 if pa.types.is_large_list(kind) else 4]):
            return False
    return all(map(_begins_within, _within(array)))


def _within(array: Any) -> list[Any]:
    """The arrays that an array is made of."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return [array.dictionary]
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        return [array.field(at) for at in range(kind.num_fields)]
    return [array.values] if kind.num_fields else []


def _has_parts(kind: Any) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_dictionary(kind))


def _keeps_dictionaries(table: Any, data: Any) -> bool:
    """Whether each piece of a column comes back with its own dictionary.

    The stream has another one only where it differs from the one before, and to Arrow 0.0 is -0.0, and a NaN any other.
    """
    if isinstance(table, pa.RecordBatch) or not any(map(_may_differ_unseen, table.schema.types)):
        return True
    for column, back in zip(table.columns, _read(data).columns, strict=True):
        at = 0
        for piece in filter(len, column.chunks):
            came = next(filter(len, back.slice(at, 1).chunks))
            if list(map(_bits, _dictionaries(piece))) != list(map(_bits, _dictionaries(came))):
                return False
            at += len(piece)
    return True


def _apart(table: Any) -> list[Any]:
    """The pieces of a table, and between them an empty one with empty dictionaries, from which all others differ."""
    nothing = pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in table.schema.types], schema=table.schema)
    return [each for batch in table.to_batches() for each in (nothing, batch)][1:]


def _may_differ_unseen(kind: Any) -> bool:
    described = str(kind)
    return "dictionary" in described and ("float" in described or "double" in described)


def _dictionaries(array: Any) -> list[Any]:
    inner = [each for part in _within(array) for each in _dictionaries(part)]
    return [array.dictionary, *inner] if pa.types.is_dictionary(array.type) else inner


def _bits(array: Any) -> bytes:
    return bytes(_stream(pa.table([array], names=[""])))


def _is_changed(schema: Any) -> bool:
    """Whether what is read would be of another schema, or of an extension's class."""
    serialized = memoryview(schema.serialize()).cast("B")
    kinds = schema.types
    return _names_extension(serialized) or any(map(_has_named_map, kinds)) or any(map(_nests_dictionaries, kinds))


def _nests_dictionaries(kind: Any) -> bool:
    """Whether the values of a dictionary are a dictionary's, of which Arrow's stream format makes others."""
    if pa.types.is_dictionary(kind):
        return pa.types.is_dictionary(kind.value_type) or _nests_dictionaries(kind.value_type)
    return any(_nests_dictionaries(kind.field(at).type) for at in range(kind.num_fields))


def _names_extension(message: Any) -> bool:
    """Whether a schema names an extension: reading it runs that one's code if it is registered here.

    Whoever finds the name in the message has found all of them, since it stands there as it is.
    """
    return b"ARROW:extension:name" in bytes(message)


def _has_named_map(kind: Any) -> bool:
    """Whether a map's fields have names of their own, which Arrow's stream format does not keep."""
    if pa.types.is_dictionary(kind):
        return _has_named_map(kind.value_type)
    if pa.types.is_map(kind) and (kind.key_field.name, kind.item_field.name) != ("key", "value"):
        return True
    return any(_has_named_map(kind.field(at).type) for at in range(kind.num_fields))


def _field(message: memoryview, table: int, number: int) -> int | None:
    """Where a flatbuffer's table has a field, or None."""
    vtable = table - struct.unpack_from("<i", message, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", message, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", message, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _follow(message: memoryview, at: int | None) -> int:
    if at is None:
        raise UnreadableEntry("an Arrow message is damaged")
    return at + int(struct.unpack_from("<I", message, at)[0])


def _inspect(buffer: Any) -> None:
    """Refuse what we never write.

    A body that claims to be compressed could claim any size, and Arrow would allocate it. A schema that names an
    extension would run its code.
    """
    for message in pa.ipc.MessageReader.open_stream(buffer):
        if message.type == "schema" and _names_extension(message.metadata):
            raise UnreadableEntry("an Arrow schema names an extension")
        if message.type not in ("record batch", "dictionary"):
            continue
        metadata = memoryview(message.metadata).cast("B")
        batch = _follow(metadata, _field(metadata, _follow(metadata, 0), _MESSAGE_HEADER))
        if message.type == "dictionary":
            batch = _follow(metadata, _field(metadata, batch, _DICTIONARY_DATA))
        if _field(metadata, batch, _BATCH_COMPRESSION) is not None:
            raise UnreadableEntry("an Arrow message is compressed")


def put_column(enc: Encoder, column: Any) -> None:
    """Write an array or a chunked array as a table of one column."""
    put_table(enc, pa.table([column], names=[""]))


def get_column(dec: Decoder) -> Any:
    """Read a chunked array."""
    return get_table(dec).column(0)


def _get_batch(dec: Decoder) -> Any:
    table = get_table(dec)
    if not table.num_rows:  # to_batches() has no empty one
        return pa.RecordBatch.from_arrays(list(map(_only, table.columns)), schema=table.schema)
    (batch,) = table.to_batches()
    return batch


def _only(column: Any) -> Any:
    """The array that a column is; or an empty one of those that it is."""
    if column.num_chunks > 1 and len(column):
        raise UnreadableEntry("an array is in pieces")
    return column.chunk(0) if column.num_chunks else pa.nulls(0, column.type)


def _get_array(dec: Decoder) -> Any:
    return _only(get_column(dec))


def _put_scalar(enc: Encoder, value: Any) -> None:
    put_column(enc, pa.repeat(value, 1) if value.is_valid else pa.nulls(1, value.type))


def _get_scalar(dec: Decoder) -> Any:
    column = get_column(dec)
    if len(column) != 1:
        raise UnreadableEntry("a scalar is damaged")
    return column[0]


def _put_schema(enc: Encoder, schema: Any) -> None:
    if _is_changed(schema):
        raise NotTyped
    enc.blob(memoryview(schema.serialize()).cast("B"))


def _get_schema(dec: Decoder) -> Any:
    message = bytes(dec.blob())
    if _names_extension(message):
        raise UnreadableEntry("an Arrow schema names an extension")
    return pa.ipc.read_schema(pa.py_buffer(message))


def _put_type(enc: Encoder, kind: Any) -> None:
    _put_schema(enc, pa.schema([pa.field("", kind)]))


register(Rule("pa.Table", put_table, get_table), pa.Table)
register(Rule("pa.RecordBatch", put_table, _get_batch), pa.RecordBatch)
register(Rule("pa.ChunkedArray", put_column, get_column), pa.ChunkedArray)
register(Rule("pa.Array", put_column, _get_array), pa.Array, subclasses=True)
register(Rule("pa.Scalar", _put_scalar, _get_scalar), pa.Scalar, subclasses=True)
register(Rule("pa.Schema", _put_schema, _get_schema), pa.Schema)
register(
    Rule(
        "pa.Field",
        lambda enc, value: _put_schema(enc, pa.schema([value])),
        lambda dec: _get_schema(dec).field(0),
    ),
    pa.Field,
)
register(Rule("pa.DataType", _put_type, lambda dec: _get_schema(dec).field(0).type), pa.DataType, subclasses=True)
