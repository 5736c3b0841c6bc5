"""The frame of the canonical encoding: tags, lengths, digests, and the walk over what a value holds.

Every encoding starts with a tag and says where it ends, so that no encoding is the beginning of another one:
encodings that stand next to each other need no separator, and a tuple of them is as unambiguous as each. What is
longer than 64 bytes is replaced by its digest (a Merkle tree), which bounds the result and makes a value that is
reached along many paths cost as much as one that is reached along one.

One-byte tags in use::

    N T F .  None, True, False, Ellipsis      i J  integers, huge ones as digest     f c  float, complex
    s S      text, long text as digest        b B  bytes, long ones as digest        a A  bytearray, likewise
    l t      list, tuple                      v w  the same, packed                  d O  dict, OrderedDict
    e z      set, frozenset                   @    everything else, by name
    #        digest of a longer encoding      ^    a function or class whose encoding is under way
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias

from blake3 import blake3

from redis_memo._threads import WORTH, hasher, threads
from redis_memo.errors import KeyingError

__all__ = [
    "LEAVES",
    "RULES",
    "SMALL",
    "Leaf",
    "Rule",
    "Walk",
    "blob",
    "digest",
    "joined",
    "length",
    "named",
    "number",
    "pairs",
    "real",
    "refuse",
    "sized",
    "text",
    "type_name",
    "whole",
]

# Deep enough for data that people write; two Python frames a level stay below the default recursion limit of 1000.
MAX_DEPTH = 200
_INLINE = 64  # longer encodings become digests
SMALL = 4096  # elements that are joined before they are hashed
_MEMO_FROM = 64  # encoding this many parts again would cost more than remembering
_CLOSED = 1 << 62

#: Eight bytes of a count.
length = struct.Struct("<Q").pack
_pack_real = struct.Struct("<d").pack
_NAN = struct.pack("<Q", 0x7FF8000000000000)


# ------------------------------------------------------------------------------------------------------------ frames


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """Digest data: 32 bytes of blake3."""
    if len(data) >= WORTH:
        return hasher(data, threads()).digest()
    return blake3(data).digest()


def sized(short: bytes, long: bytes, data: bytes | bytearray | memoryview) -> bytes:
    """Frame data with its length, or, where it is long, its digest."""
    size = len(data)
    if size <= _INLINE:
        return b"%b%c%b" % (short, size, bytes(data))
    return long + length(size) + digest(data)


def blob(data: bytes | bytearray | memoryview) -> bytes:
    """Encode bytes."""
    return sized(b"b", b"B", data)


_texts: dict[str, bytes] = {}


def text(value: str) -> bytes:
    """Encode exactly a ``str``. Symbols and column names come again and again: short ones are remembered."""
    known = _texts.get(value)
    if known is not None:
        return known
    # Lone surrogates have no UTF-8; with surrogatepass two of them still differ from the character they would make.
    data = sized(b"s", b"S", value.encode("utf-8", "surrogatepass"))
    if len(value) <= _INLINE:
        if len(_texts) >= 8192:
            _texts.clear()
        _texts[value] = data
    return data


def number(value: int) -> bytes:
    """Encode exactly an ``int``: hexadecimal, because decimal digits are limited to 4300 and take quadratic time."""
    if -(1 << 192) < value < 1 << 192:
        return b"i%x;" % value
    return b"J" + digest(b"%x" % value)


def real(value: float) -> bytes:
    """Eight bytes of a float, the same for every NaN."""
    return _pack_real(value) if value == value else _NAN  # noqa: PLR0124 - only NaN differs from itself


def named(name: str, *parts: bytes) -> bytes:
    """Frame the encodings ``parts`` under a name of at most 255 bytes."""
    label = name.encode()
    return b"@%c%b%b%b" % (len(label), label, length(len(parts)), b"".join(parts))


def whole(data: bytes) -> bytes:
    """Replace a long encoding by its digest."""
    return data if len(data) <= _INLINE else b"#" + digest(data)


def joined(tag: bytes, count: int, parts: Iterable[bytes]) -> bytes:
    """Frame ``count`` encodings. Many are hashed as they come, to the same digest ``whole`` would give."""
    head = tag + length(count)
    if count <= SMALL:
        return whole(head + b"".join(parts))
    hasher = blake3(head)
    pending: list[bytes] = []
    for part in parts:
        pending.append(part)
        if len(pending) == SMALL:
            hasher.update(b"".join(pending))
            pending.clear()
    hasher.update(b"".join(pending))
    return b"#" + hasher.digest()


def pairs(items: Iterable[tuple[object, object]], walk: Walk) -> list[bytes]:
    """Encode the items of a mapping, sorted by their encoding: keys need not be comparable, and no hash seed shows."""
    encode = walk.encode
    result = []
    for key, value in items:
        result.append(encode(key) + encode(value))  # a comprehension would be one more Python frame
    result.sort()
    return result


# ------------------------------------------------------------------------------------------------------------ refusal


def type_name(cls: type) -> str:
    """Name a class as people know it."""
    module = getattr(cls, "__module__", None)
    return cls.__qualname__ if module == "builtins" or not isinstance(module, str) else f"{module}.{cls.__qualname__}"


def refuse(cls: type, reason: str) -> NoReturn:
    """Raise the error for an object of class ``cls`` that cannot become part of a key."""
    name = type_name(cls)
    raise KeyingError(f"{name} {reason}", type_name=name) from None


# --------------------------------------------------------------------------------------------------------------- walk


class Walk:
    """One walk over one call's arguments.

    Attributes:
        work: Parts encoded so far. What took much work is remembered by identity, so that ``l = [l, l]`` a hundred
            times over takes a hundred steps. This changes no result: the same object has the same encoding.
    """

    __slots__ = ("_depth", "_find", "_low", "_memo", "_open", "work")

    def __init__(self, find: Callable[[type], Rule]) -> None:
        self._find = find
        self._depth = 0
        # Held by reference: an id is unique only as long as its object lives.
        self._memo: dict[int, tuple[object, bytes]] = {}
        # Functions and classes whose encoding is under way: the number of each, and the lowest one it refers to.
        self._open: dict[int, tuple[object, int, int]] = {}
        self._low = _CLOSED
        self.work = 0

    def encode(self, value: Any) -> bytes:
        """Encode any value, or raise KeyingError."""
        cls = type(value)
        leaf = LEAVES.get(cls)
        if leaf is not None:
            return leaf(value)
        known = self._memo.get(id(value))
        if known is not None:
            return known[1]
        if self._depth >= MAX_DEPTH:
            refuse(cls, f"is nested deeper than {MAX_DEPTH} levels or contains itself")
        rule = RULES.get(cls) or self._find(cls)
        before, low = self.work, self._low
        self._low = _CLOSED
        self._depth += 1
        data = rule(value, self)
        self._depth -= 1
        self.work += 1
        if len(data) > _INLINE:
            data = b"#" + digest(data)
        if self._low == _CLOSED:
            self._low = low
            if self.work - before >= _MEMO_FROM:
                self._memo[id(value)] = (value, data)
        elif low < self._low:
            self._low = low
        return data

    def cyclic(self, value: Any, body: Callable[[Any, Walk], bytes]) -> bytes:
        """Encode something that may lead back to itself: a recursive function closes over its own name.

        A way back is encoded as the distance to where ``value`` was entered, which does not depend on what led there.
        Members of one cycle stay open until its first one is done: each is walked once, whoever refers to it.
        """
        entry = self._open.get(id(value))
        if entry is not None:
            self._low = min(self._low, entry[2])
            return b"^%x;" % (len(self._open) - entry[1])
        position, low = len(self._open), self._low
        self._low = _CLOSED
        self._open[id(value)] = (value, position, position)
        data = body(value, self)
        if self._low >= position:
            for key in list(self._open)[position:]:
                del self._open[key]
            self._low = _CLOSED
        else:
            self._open[id(value)] = (value, position, self._low)
        self._low = min(self._low, low)
        return whole(data)


Leaf: TypeAlias = Callable[[Any], bytes]
Rule: TypeAlias = Callable[[Any, Walk], bytes]

#: Rules for exactly these classes, whose objects hold no other objects.
LEAVES: dict[type, Leaf] = {}
#: Rules for exactly these classes, and the content of objects of their subclasses.
RULES: dict[type, Rule] = {}
