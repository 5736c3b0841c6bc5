"""Small values that are alike, read by one `struct`: what a function returns is often the same in all but its numbers.

The form of a stream is which of its bytes are counts, keys, tags and lengths; between them lie numbers, texts and
moments. Where the reader has read several streams of one length, the last of them teaches its form. Another one of the
same form, which is the same in all those bytes, holds what the reader would find there one by one; all others are read
by the reader.
"""

from __future__ import annotations

import struct
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["learn", "read"]

LONGEST: Final = 4096  # bytes of a stream
_MOST: Final = 512  # lengths of which something is known
_OFTEN: Final = 8  # streams of a length before the first is learned from: that takes as long as reading some ten
_OF_A_LENGTH: Final = 4
_FIELDS: Final = 256
_ALL_FIELDS: Final = 1 << 15  # of all forms together: some 10 MB
_DEEPEST: Final = 32  # of containers within each other: Python's parser gives up at 200

_NUMBERS: Final = {ord("i"): ("q", 8), ord("d"): ("d", 8)}
_CONSTANTS: Final = {ord("N"): "None", ord("T"): "True", ord("F"): "False"}
_MOMENT: Final = struct.Struct("<HBBBBBIB")
_DAY: Final = struct.Struct("<HBB")


def _moment(state: bytes) -> datetime:
    *parts, fold = _MOMENT.unpack(state)
    return datetime(*parts, fold=fold)  # noqa: DTZ001 - as the function returned it


def _day(state: bytes) -> date:
    return date(*_DAY.unpack(state))


class _Unlike(Exception):  # noqa: N818 - a signal, never seen outside
    """Something in a stream has no place in a form."""


class _Form(NamedTuple):
    """What streams of one length may have in common.

    Attributes:
        unpack: What parts a stream has: by turns one that is fixed and a field, from the first to the last fixed one.
        fixed: What those are that are.
        make: The value, of its fields.
    """

    unpack: Callable[[bytes], tuple[Any, ...]]
    fixed: tuple[bytes, ...]
    make: Callable[..., Any]

    @classmethod
    def of(cls, data: bytes) -> Self | None:
        """The form of a stream that can be read, if it has one."""
        sketch = _Sketch(data)
        try:
            source = sketch.node(_DEEPEST)
            names: dict[str, Any] = {"text": str, "moment": _moment, "day": _day}
            names |= {f"k{number}": key for number, key in enumerate(sketch.keys)}
            arguments = ", ".join(f"v{number}" for number in range(len(sketch.fixed)))
            exec(f"def make({arguments}): return {source}", names)  # noqa: S102 - built from numbers alone
        except (_Unlike, RecursionError):  # the caller may be deep down the stack already
            return None
        layout, fixed = sketch.finish()
        return cls(struct.Struct(layout).unpack, tuple(fixed), names["make"])


class _Sketch:
    """A form in the making: what in a stream is fixed, and how the value is written in Python."""

    def __init__(self, data: bytes) -> None:
        self.keys: list[str] = []
        self.fixed: list[bytes] = []
        self._data = data
        self._layout = ["<"]
        self._at = self._since = 0

    def finish(self) -> tuple[str, list[bytes]]:
        self._fix()
        return "".join(self._layout), self.fixed

    def _fix(self) -> None:
        part = self._data[self._since : self._at]
        self._layout.append(f"{len(part)}s")
        self.fixed.append(part)

    def _field(self, layout: str, size: int) -> str:
        """The next bytes are not fixed; returns what they are called."""
        name = f"v{len(self.fixed)}"
        if len(self.fixed) >= _FIELDS:
            raise _Unlike
        self._fix()
        self._layout.append(layout)
        self._at = self._since = self._at + size
        return name

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _text(self) -> str:
        size = self._byte()
        return f"text({self._field(f'{size}s', size)}, 'utf-8', 'surrogatepass')"

    def _key(self, siblings: int) -> str:
        if self._byte() != ord("s"):
            raise _Unlike
        if siblings == 1:  # as of a quote of one symbol; nothing can be there twice
            return self._text()
        size = self._byte()
        self._at += size
        self.keys.append(self._data[self._at - size : self._at].decode("utf-8", "surrogatepass"))
        return f"k{len(self.keys) - 1}"

    def node(self, levels: int) -> str:
        """The next value as an expression; ``levels`` is how deep it may be nested."""
        tag = self._byte()
        if tag in _NUMBERS:
            return self._field(*_NUMBERS[tag])
        if tag == ord("s"):
            return self._text()
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag == ord("m") and levels:
            count = self._byte()
            return f"{{{', '.join([f'{self._key(count)}: {self.node(levels - 1)}' for _ in range(count)])}}}"
        if tag == ord("l") and levels:
            return f"[{', '.join([self.node(levels - 1) for _ in range(self._byte())])}]"
        if tag == ord("D"):
            moment = f"moment({self._field('12s', 12)})"
            if self._byte() == ord("N"):
                return moment
        if tag == ord("a"):
            return f"day({self._field('4s', 4)})"
        raise _Unlike


_FORMS: Final[dict[int, tuple[_Form, ...]]] = {}
_seen: dict[int, int] = {}


def read(data: bytes) -> Any:
    """The value in a stream without buffers, which nobody else has, if its form is known; else None."""
    for unpack, fixed, make in _FORMS.get(len(data), ()):
        parts = unpack(data)
        if parts[::2] == fixed:
            try:
                return make(*parts[1::2])
            except (ValueError, OverflowError):  # a text or a moment is none
                return None
    return None


def learn(data: bytes) -> None:
    """Learn the form of a stream that could be read, should there be more like it; less and less often."""
    size = len(data)
    if size > LONGEST or data[0] not in b"ml":
        return
    if len(_seen) >= _MOST and size not in _seen:
        _forget()
    seen = _seen[size] = _seen.get(size, 0) + 1
    known = _FORMS.get(size, ())
    if seen < _OFTEN or seen & (seen - 1) or len(known) >= _OF_A_LENGTH:
        return
    form = _Form.of(data)
    if form is None:
        return
    if sum([len(each.fixed) for forms in [(form,), *list(_FORMS.values())] for each in forms]) > _ALL_FIELDS:
        _forget()
    else:
        _FORMS[size] = (*known, form)


def _forget() -> None:
    _seen.clear()
    _FORMS.clear()
