"""Values that are alike, read by one `struct`: dicts of scalars under the same keys, as one function returns hundreds.

The first stream of a length is read as any other, and teaches a form: which of its bytes are counts, keys, tags and
lengths, and where between them numbers and texts lie. A stream with the same such bytes is of that form, and its values
are what the reader would find there one by one. All others are read by the reader.
"""

from __future__ import annotations

import struct
from typing import Any, Final, Self

from redis_memo._codecs import loads

__all__ = ["Alike"]

MOST = 256  # lengths of streams whose forms are kept

_DICT, _TEXT = ord("m"), ord("s")
_NUMBERS: Final = {ord("i"): "q", ord("d"): "d"}
_CONSTANTS: Final = {ord("N"): None, ord("T"): True, ord("F"): False}


class _Form:
    """What streams of one length may have in common."""

    __slots__ = ("_blank", "_fields", "_fixed", "_texts", "_unpack")

    def __init__(
        self, layout: str, fixed: list[bytes], blank: dict[str, Any], fields: list[str], texts: list[str]
    ) -> None:
        self._unpack = struct.Struct(layout).unpack
        self._fixed = tuple(fixed)
        self._blank = blank
        self._fields = fields
        self._texts = texts

    @classmethod
    def of(cls, meta: bytes) -> Self | None:
        """The form of a stream that can be read; None where it is no small dict of scalars."""
        if meta[0] != _DICT:
            return None
        layout, fixed = ["<"], []
        blank: dict[str, Any] = {}
        fields, texts = [], []
        since, at = 0, 2  # from where on bytes are fixed, and where the next node begins
        for _ in range(meta[1]):
            if meta[at] != _TEXT:
                return None
            stop = at + 2 + meta[at + 1]
            key = str(meta[at + 2 : stop], "utf-8", "surrogatepass")
            tag, at = meta[stop], stop + 1
            if tag in _CONSTANTS:
                blank[key] = _CONSTANTS[tag]
                continue
            if tag == _TEXT:
                at += 1
                size, field = meta[at - 1], f"{meta[at - 1]}s"
                texts.append(key)
            elif tag in _NUMBERS:
                size, field = 8, _NUMBERS[tag]
            else:
                return None
            layout += [f"{at - since}s", field]
            fixed.append(meta[since:at])
            blank[key] = None
            fields.append(key)
            since = at = at + size
        layout.append(f"{at - since}s")
        fixed.append(meta[since:at])
        return cls("".join(layout), fixed, blank, fields, texts)

    def read(self, meta: bytes) -> dict[str, Any] | None:
        """The value, which nobody else has; None where the stream is not of this form."""
        parts = self._unpack(meta)
        if parts[::2] != self._fixed:
            return None
        value = self._blank.copy()
        value.update(zip(self._fields, parts[1::2], strict=True))
        try:
            for key in self._texts:
                value[key] = str(value[key], "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None
        return value


class Alike:
    """Reads values of which many are alike."""

    def __init__(self) -> None:
        self._forms: dict[int, _Form | None] = {}

    def loads(self, meta: bytes, *, trusted: bool) -> Any:
        """As `_codecs.loads`, of a value without buffers."""
        form = self._forms.get(len(meta))
        value = None if form is None else form.read(meta)
        if value is None:
            value = loads(meta, (), trusted=trusted)
            if len(meta) not in self._forms and len(self._forms) < MOST:
                self._forms[len(meta)] = _Form.of(meta)  # it was read, so that lengths within it are true
        return value
