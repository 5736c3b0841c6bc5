"""Operations that no caller waits for: what keeps indexes, bounds and namespaces in order. As those in `_ops`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._bounds import Bounds

__all__ = [
    "Counted", "Enroll", "Enrolled", "Mend", "Mended", "Strike", "TakeTurn", "Tidy", "Touch", "Trim", "Trimmed",
    "Usage", "Used",
]  # fmt: skip


class Touch(NamedTuple):
    """Tell of entries that were used, by how often, in the order of their last use; and of what was counted: `Kept`."""

    prefix: str
    bounds: Bounds
    uses: Mapping[str, int]
    counted: Mapping[str, float]


class Mend(NamedTuple):
    """Look for some of a function's entries that its index does not tell of: `Mended`."""

    prefix: str
    bounds: Bounds
    cursor: bytes = b"0"
    since: bytes = b""


class Mended(NamedTuple):
    """Where to go on (None: it was all), and how many entries had to go."""

    following: Mend | None
    evicted: int


class Usage(NamedTuple):
    """What a function's entries take up: `Used`."""

    prefix: str


class Used(NamedTuple):
    """Answer to `Usage`.

    Attributes:
        current: Entries that have not expired.
        entries: Entries that count for the bounds, among them what expired a moment ago; None where none are kept.
        size: Their bytes.
        oldest: When the one that goes next was used last, in microseconds of the server's clock; None if there is none.
    """

    current: int
    entries: int | None
    size: int
    oldest: int | None


class Trim(NamedTuple):
    """Evict some entries, as many or as large as told, none that was used after a moment: `Trimmed`."""

    prefix: str
    number: int
    size: int
    until: int


class Trimmed(NamedTuple):
    """Answer to `Trim`: entries deleted, entries and bytes that count no more, and as of `Used`."""

    evicted: int
    entries: int
    size: int
    oldest: int | None


class TakeTurn(NamedTuple):
    """Take the turn at what one process at a time does for a namespace; False if another has it. 0 s: give it back."""

    registry: str
    seconds: float


class Counted(NamedTuple):
    """What all processes have counted of a function: a dict. With ``forget`` it is set to nothing."""

    prefix: str
    forget: bool = False


class Enroll(NamedTuple):
    """Note that a namespace has this function; returns (a moment, functions nobody noted for long, to be tidied).

    Not in the function's slot, hence an operation of its own, as the next two. With ``""`` nothing is noted. So are
    namespaces, in their own list.
    """

    registry: str
    prefix: str


class Enrolled(NamedTuple):
    """All prefixes noted for a namespace."""

    registry: str


class Strike(NamedTuple):
    """Note no longer that a namespace has this function, unless it was noted since that moment."""

    registry: str
    prefix: str
    moment: int


class Tidy(NamedTuple):
    """Unlist calls of a function whose entries have expired; returns how many are still listed."""

    prefix: str
