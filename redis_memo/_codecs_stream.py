"""The stream that typed values are written to and read from: primitives, sharing, and the tables of rules.

A value becomes one byte string and a tuple of buffers. The byte string is a sequence of nodes; a node is one tag byte
and a body, little-endian throughout. Blobs of 4 KiB and more, and columns of numbers from 512 bytes on, do not go into
it: they are referred to by length and follow, in order, as buffers, so that an array's memory is not copied here.

::

    node    = tag body
    size    = u8 (< 0xFE) | 0xFF u64
    blob    = size bytes | 0xFE u64              the second form takes the next buffer
    "x" u8 name body                             a rule found by name: stdlib, numpy, pandas ...
    "U" u8 name node                             a type of the user's (``register_type``)
    "p" blob size                                a pickle, and how many buffers it takes
    "V" blob blob node                           a pickle, and the library and version that alone can read it
    "@" size                                     an object that came before

A tag's meaning never changes: what has to be stored differently gets a new tag, so that old entries stay readable.

Sharing is kept as pickle keeps it: every object with an identity worth keeping has an index. Mutable containers get
theirs when they begin (they can contain themselves), everything else when it is complete. Writer and reader count
alike; nothing about it is stored.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from redis_memo._codecs_buffers import Awaited, Buffer, Needs, Scattered, Source, fill
from redis_memo._codecs_rules import BY_NAME, PUT, READ, Cyclic, Rule, TooDeep, find_rule, load_rules
from redis_memo.errors import UnreadableEntry, UnsupportedType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "COLUMN",
    "DEEPEST",
    "MOULDS",
    "OUT_OF_BAND",
    "PUT_PICKLE",
    "Decoder",
    "Encoder",
    "mould",
    "put_other",
]

OUT_OF_BAND: Final = 4096
COLUMN: Final = 512  # bytes of numbers that are compressed by what they are, and not with all that is around them
_MOST_COLUMNS: Final = 8  # so short ones: each takes some 50 us, and there may be one for each key of a dict
MAX_DEPTH: Final = 200
DEEPEST: Final = 8  # of tables within tables
# What hashing may cost: so much for any entry, and so much more for each of its bytes.
_HASHES: Final = 1 << 22
_HASHES_PER_BYTE: Final = 64

_U64: Final = struct.Struct("<Q")
_PENDING: Final = object()  # stands for an object that has an index but does not exist yet


# Streams that say nothing but how their buffers make up a value, and what makes it of those without reading the stream
# again. Results of one function are often alike in all but their numbers.
MOULDS: Final[dict[bytes, Callable[[Sequence[Buffer | Source]], Any]]] = {}
_MOST_MOULDS: Final = 256
_LONGEST_MOULD: Final = 4096


def mould(data: bytes, make: Callable[[Sequence[Buffer | Source]], Any]) -> None:
    """Let ``make`` make the values that have such a stream; all that it keeps is beyond the reach of their owners."""
    if len(data) <= _LONGEST_MOULD:
        if len(MOULDS) >= _MOST_MOULDS:
            MOULDS.clear()
        MOULDS[data] = make


class Encoder:
    """Writes one value."""

    __slots__ = (
        "allow_pickle", "as_it_lies", "buffers", "classes", "depth", "keep", "kinds", "memo", "out", "pickled",
        "records", "tables",
    )  # fmt: skip

    def __init__(self, *, allow_pickle: bool, records: bool = True, as_it_lies: bool = True) -> None:
        self.out = bytearray()
        self.buffers: list[Buffer | Scattered] = []
        self.kinds: list[str] = []
        # id -> index of what is complete or can be referred to already, or minus the depth at which it was begun.
        self.memo: dict[int, int] = {}
        self.keep: list[object] = []  # all that has an index: keeps temporaries alive, so that no id is used twice
        self.classes: dict[type, int] = {}
        self.depth = 0
        self.allow_pickle = allow_pickle
        self.pickled = False
        self.records = records
        self.as_it_lies = as_it_lies
        self.tables = 0  # that are being written, each within another one

    def put(self, value: object) -> None:
        """Write one node."""
        PUT.get(type(value), put_other)(self, value)

    def size(self, number: int) -> None:
        """Write a count or a length."""
        if number < 0xFE:
            self.out.append(number)
        else:
            self.out += b"\xff" + _U64.pack(number)

    def text(self, text: str) -> None:
        """Write a short string that is no value of its own: a name."""
        self.blob(text.encode("utf-8", "surrogatepass"))

    def blob(self, data: Buffer, kind: str = "") -> None:
        """Write bytes, or where they are many refer to them; a memoryview must be of format B and contiguous.

        ``kind`` says what numbers they are, for compression: ``"f8"``, ``"4f8"`` (four columns); little-endian.
        """
        if len(data) >= OUT_OF_BAND:
            self._buffer(data, kind)
        else:
            self.size(len(data))
            self.out += data

    def column(self, data: Buffer, kind: str) -> None:
        """As `blob`, of an array or of columns of a frame: a year of daily prices is to be a buffer, too."""
        if kind and len(data) >= COLUMN and len(self.buffers) < _MOST_COLUMNS:
            self._buffer(data, kind)
        else:
            self.blob(data, kind)

    def scattered(self, data: Scattered, kind: str = "") -> None:
        """As `blob`."""
        if len(data) >= OUT_OF_BAND:
            self._buffer(data, kind)
        else:
            self.blob(data.read())

    def _buffer(self, data: Buffer | Scattered, kind: str) -> None:
        self.out += b"\xfe" + _U64.pack(len(data))
        self.buffers.append(data)
        self.kinds.append(kind)

    def seen(self, value: object) -> bool:
        """Refer back to an object that was written before; otherwise say that it was not."""
        index = self.memo.get(id(value))
        if index is None:
            return False
        if index < 0:
            raise Cyclic
        self.out += b"@"
        self.size(index)
        return True

    def put_apart(self, value: object) -> None:
        """Write a node that a reader can pass over: how long it is, how many buffers and objects there are in it."""
        at, buffers, kept, classes = len(self.out), len(self.buffers), len(self.keep), len(self.classes)
        self.put(value)
        node = self.out[at:]
        del self.out[at:]
        self.size(len(node))
        self.size(len(self.buffers) - buffers)
        self.size(len(self.keep) - kept)
        self.size(len(self.classes) - classes)
        self.out += node

    def begin(self, value: object) -> None:
        """Give a mutable container its index; its content follows."""
        self.memo[id(value)] = len(self.keep)
        self.keep.append(value)
        self.enter()

    def enter(self) -> None:
        """Go one level down."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooDeep

    def open(self, value: object) -> None:
        """Note that an object is being written which cannot be referred to before it is complete."""
        self.enter()
        self.memo[id(value)] = -self.depth

    def close(self, value: object) -> None:
        """Give an object its index, now that it is complete."""
        self.memo[id(value)] = len(self.keep)
        self.keep.append(value)
        self.depth -= 1

    def put_class(self, cls: type, *parts: object) -> None:
        """Write which class of the user's an object belongs to: once in full, then by number."""
        number = self.classes.get(cls)
        if number is not None:
            self.size(number + 1)
            return
        self.classes[cls] = len(self.classes)
        self.size(0)
        self.text(cls.__module__)
        self.text(cls.__qualname__)
        self.put(parts)

    def _rewind(self, sizes: Sequence[int], levels: tuple[int, int]) -> None:
        """Forget what was written since a rule was begun; ``levels`` are its depth and the tables around it."""
        length, buffers, kept, known, classes = sizes
        del self.out[length:], self.buffers[buffers:], self.kinds[buffers:], self.keep[kept:]
        for _ in range(len(self.memo) - known):
            self.memo.popitem()  # the latest one
        for _ in range(len(self.classes) - classes):
            self.classes.popitem()
        self.depth, self.tables = levels

    def put_by(self, rule: Rule, value: object) -> None:
        """Write an object by its rule; by pickle where the rule cannot bring it back exactly."""
        sizes = len(self.out), len(self.buffers), len(self.keep), len(self.memo), len(self.classes)
        levels = self.depth, self.tables
        self.out += rule.head
        try:
            if rule.early:
                self.begin(value)
                rule.put(self, value)
                self.depth -= 1
            else:
                self.open(value)
                rule.put(self, value)
                self.close(value)
        except (Cyclic, TooDeep, MemoryError, RecursionError, UnsupportedType):
            raise
        except Exception:  # noqa: BLE001 - whatever a library raises over an odd object of its own, pickle is left
            self._rewind(sizes, levels)
            PUT_PICKLE[0](self, value)


# Set by _codecs, which knows pickle; here only to close the circle.
PUT_PICKLE: Final[list[Callable[[Encoder, Any], None]]] = []


def put_other(enc: Encoder, value: object) -> None:
    """Write an object of a type that has no tag byte of its own."""
    if enc.seen(value):
        return
    rule = find_rule(type(value))
    if rule is None:
        PUT_PICKLE[0](enc, value)
    else:
        enc.put_by(rule, value)


class Decoder:
    """Reads one value. Any exception at all that it raises means that the entry is unreadable."""

    __slots__ = (
        "_buffers", "_room", "_taken", "classes", "columns", "data", "end", "filled", "loaded", "memo", "pos", "spare",
        "tables", "trusted",
    )  # fmt: skip

    def __init__(
        self, data: bytes, buffers: Sequence[Buffer | Source], *, trusted: bool, columns: Sequence[object] | None = None
    ) -> None:
        self.data = data
        self.pos = 0
        self.end = len(data)
        self._buffers = buffers
        self._taken = 0
        self.memo: list[Any] = []
        self.classes: list[tuple[Any, ...]] = []
        self.loaded: dict[tuple[int, object], tuple[Any, Any]] = {}  # by number and by what was asked of the class
        self.trusted = trusted
        self.tables = 0  # that are being read, each within another one
        self.columns = columns  # of the outermost value, a frame, only these are read
        self.filled: list[memoryview] | None = None  # what buffers were read into, for whoever asks
        self._room = self.end + sum(map(len, buffers))
        # How many objects may still be looked at to hash keys and elements of sets, each as often as it is reached.
        self.spare = _HASHES + _HASHES_PER_BYTE * self._room

    def get(self) -> Any:
        """Read one node."""
        tag = self.data[self.pos]
        self.pos += 1
        return READ[tag](self)

    def exact(self, *classes: type) -> Any:
        """Read one node, which has to be of one of these very classes.

        What a constructor is given goes through here or :meth:`some`. Constructors convert: ``Fraction("1E999999999")``
        takes for ever, ``pandas`` opens the file that a zone's name leads to, ``np.str_`` calls ``__str__``.
        """
        value = self.get()
        if type(value) not in classes:
            raise UnreadableEntry("a part is not of the type that it should be")
        return value

    def some(self, *classes: type) -> Any:
        """Read one node, which has to be an instance of one of these classes."""
        value = self.get()
        if not isinstance(value, classes):
            raise UnreadableEntry("a part is not of the type that it should be")
        return value

    def size(self) -> int:
        """Read a length that something else will be compared with; see :meth:`count` for what is allocated."""
        number = self.data[self.pos]
        self.pos += 1
        if number < 0xFE:
            return number
        if number == 0xFE:
            raise UnreadableEntry("a length is damaged")
        self.pos += 8
        return int(_U64.unpack_from(self.data, self.pos - 8)[0])

    def count(self) -> int:
        """Read how many nodes follow: each takes a byte at least, so more than what is left cannot be true."""
        number = self.size()
        if number > self.end - self.pos:
            raise UnreadableEntry("the entry is shorter than it claims")
        return number

    def byte(self) -> int:
        """Read one byte."""
        self.pos += 1
        return self.data[self.pos - 1]

    def take(self, length: int) -> bytes:
        """Read so many bytes."""
        start = self.pos
        self.pos = start + length
        if self.pos > self.end:
            raise UnreadableEntry("the entry is shorter than it claims")
        return self.data[start : self.pos]

    def text(self) -> str:
        """Read a name."""
        return str(self.blob(), "utf-8", "surrogatepass")

    def blob(self) -> bytes | memoryview:
        """Read bytes, or the view of a buffer that stands for them; the caller copies what it keeps."""
        if self.data[self.pos] != 0xFE:
            return self.take(self.size())
        (length,) = _U64.unpack_from(self.data, self.pos + 1)
        self.pos += 9
        return self.buffer(length)

    def _take(self, length: int | None) -> Buffer | Source:
        """The next buffer; each is taken once, so a small entry cannot multiply a large one."""
        buffer = self._buffers[self._taken]
        if length is not None and len(buffer) != length:
            raise UnreadableEntry("a buffer is not as long as it should be")
        self._taken += 1
        return buffer

    def buffer(self, length: int | None = None) -> memoryview:
        """Take the next buffer as bytes that are not to be written to."""
        buffer = self._take(length)
        return memoryview(buffer if isinstance(buffer, (bytes, bytearray, memoryview)) else buffer.read()).cast("B")

    def owned(self) -> bytearray:
        """Take the next buffer as memory that nobody else has."""
        buffer = self._take(None)
        memory = bytearray(len(buffer))
        fill(memoryview(memory), buffer)
        return memory

    def fill(self, target: memoryview) -> None:
        """Read a blob that is as long as ``target`` into it; a buffer is decompressed right there."""
        if self.data[self.pos] != 0xFE:
            target[:] = self.take(self.size())
            return
        (length,) = _U64.unpack_from(self.data, self.pos + 1)
        self.pos += 9
        fill(target, self._take(length))
        if self.filled is not None:
            self.filled.append(target)

    def measure(self) -> int:
        """How long the blob is that follows, without reading it."""
        if self.data[self.pos] == 0xFE:
            return len(self._buffers[self._taken])
        at = self.pos
        length, self.pos = self.size(), at
        return length

    def room(self) -> int:
        """Bytes of all that there is to read: what takes a byte each cannot be more."""
        return self._room

    def measure_buffers(self, count: int) -> list[int]:
        """How long the next buffers are."""
        return list(map(len, self._buffers[self._taken : self._taken + count]))

    def lengths(self) -> list[int]:
        """How long all buffers are."""
        return list(map(len, self._buffers))

    def require(self, first: int, wanted: Sequence[int]) -> None:
        """See to it that some of the buffers from the next one on are there, in one go."""
        buffers = [self._buffers[self._taken + first + number] for number in wanted]
        missing = [buffer.number for buffer in buffers if isinstance(buffer, Awaited)]
        if missing:
            raise Needs(missing)

    def pass_buffer(self) -> None:
        """Pass over a blob that is a buffer."""
        self.pos += 9
        self._taken += 1

    def get_apart(self, *, wanted: bool) -> Any:
        """Read what `Encoder.put_apart` wrote, or pass over it: then what refers to a part of it cannot be read."""
        length, buffers, objects, classes = self.size(), self.size(), self.size(), self.size()
        if buffers > len(self._buffers) - self._taken:
            raise UnreadableEntry("the entry is shorter than it claims")
        if wanted:
            self.require(0, range(buffers))
            return self.get()
        # A byte may be a row of each table that is around it.
        if classes or objects > (1 + DEEPEST) * (length + sum(self.measure_buffers(buffers))):
            raise UnreadableEntry("it cannot be read in parts")
        self.take(length)
        self._taken += buffers
        self.memo += [_PENDING] * objects
        return None

    def reserve(self) -> int:
        """Give an index to an object that is about to be made."""
        self.memo.append(_PENDING)
        return len(self.memo) - 1

    def remember(self, slot: int, value: Any) -> None:
        """Let what follows refer to an object."""
        self.memo[slot] = value

    def known(self, indexes: Sequence[int]) -> list[Any]:
        """Objects that came before, by indexes that are not negative."""
        values = list(map(self.memo.__getitem__, indexes))
        if id(_PENDING) in set(map(id, values)):
            raise UnreadableEntry("an object refers to itself before it exists")
        return values

    def get_class(self) -> tuple[int, tuple[Any, ...]]:
        """Read which class an object belongs to: its number, and ``(module, qualified name, parts)``."""
        number = self.size()
        if number:
            return number - 1, self.classes[number - 1]
        slot = len(self.classes)
        self.classes.append(())
        found = (self.text(), self.text(), self.exact(tuple))
        if not set(map(type, found[2])) <= {str}:
            raise UnreadableEntry("a class is damaged")
        self.classes[slot] = found
        return slot, found

    def finish(self) -> None:
        """Check that nothing is left over."""
        if self.pos != self.end or self._taken != len(self._buffers):
            raise UnreadableEntry("the entry is longer than it should be")


def _get_named(dec: Decoder) -> Any:
    name = dec.take(dec.byte())
    rule = BY_NAME.get(name)
    if rule is None:
        load_rules(name.decode("ascii").partition(".")[0])
        rule = BY_NAME[name]
    if rule.early:
        return rule.get(dec, dec.reserve())
    value = rule.get(dec)
    dec.memo.append(value)
    return value


def _get_reference(dec: Decoder) -> Any:
    value = dec.memo[dec.size()]
    if value is _PENDING:
        raise UnreadableEntry("an object refers to itself before it exists")
    return value


READ[ord("x")] = _get_named
READ[ord("@")] = _get_reference
