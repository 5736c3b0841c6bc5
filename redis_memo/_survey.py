"""Some columns of a large frame, and of its bytes those only.

The frame is read as often as it asks for buffers that are not there yet: first its index, then the columns of each
kind. What is fetched is checked against the digests in the part that was read first, so that it is of one value.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

from ._codecs import loads
from ._codecs_buffers import Awaited, Needs
from ._envelope import CHUNKS
from .errors import NoSuchColumn, UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._envelope import Sealer, Span
    from ._zstd import Bytes

__all__ = ["FIRST", "Columns", "some_columns"]

FIRST: Final = 256 << 10  # bytes that are read first: a small entry as a whole, of a large one what says where all lies
PENDING: Final = object()


def some_columns(value: Any, names: Sequence[object]) -> Any:
    """Some columns of a frame that was read as a whole; it need not come from a stream that can be read in parts.

    Raises:
        NoSuchColumn: The frame has no such column, or it is no frame.
    """
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or type(value) is not pandas.DataFrame:
        raise NoSuchColumn("what is stored is no frame of pandas' own class, and has no columns to be read alone")
    return importlib.import_module("redis_memo._codecs_pandas").some_columns(value, names)


class Columns:
    """A frame that is being read in parts.

    Args:
        sealer: Opens its envelope.
        key: Of its entry.
        start: The first `FIRST` bytes of what is stored there, or all of it.
        columns: Names of columns.

    Attributes:
        needs: What has to be fetched before there is a value.
        stamp: As of an envelope's `Entry`.
        value: The frame, once nothing is needed.

    Raises:
        UnreadableEntry: The envelope, or a part of it, cannot be read; so :meth:`take`.
        NoSuchColumn: The frame has no such column.
    """

    def __init__(self, sealer: Sealer, key: str, start: Bytes, columns: Sequence[object]) -> None:
        self._columns = columns
        self.needs: tuple[Span, ...] = ()
        self.value: Any = PENDING
        if len(start) < FIRST and start[CHUNKS] == bytes(4):
            entry = sealer.open(key, start)
            self.stamp = entry.stamp
            self.value = loads(entry.meta, entry.buffers, trusted=entry.trusted, columns=columns)
            return
        self._survey = sealer.survey(key, start)
        self.stamp = self._survey.stamp
        self._buffers = self._survey.buffers()
        self._fetched: dict[int, Bytes] = {}
        self._read()

    def take(self, pieces: Sequence[Bytes]) -> None:
        """Go on with what was needed."""
        self._fetched.update(zip(self._wanted, pieces, strict=True))
        self._read()

    def _read(self) -> None:
        survey = self._survey
        buffers = [
            survey.packed(numbers, [self._fetched[number] for number in numbers])
            if all(number in self._fetched for number in numbers)
            else Awaited(at, size)
            for at, (size, numbers) in enumerate(self._buffers)
        ]
        try:
            self.value = loads(survey.meta, buffers, trusted=survey.trusted, columns=self._columns)
            self.needs = ()
        except Needs as needs:
            self._wanted = [number for at in needs.numbers for number in self._buffers[at][1]]
            if self._fetched.keys() >= set(self._wanted):
                raise UnreadableEntry("it asks again for what was read") from None
            self.needs = tuple(survey.spans[number] for number in self._wanted)
