"""What the core's flows need to know of one decorated function and of its entries; free of I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._large import Bytes, Envelope
    from ._ops import Computed, Place, Sealed
    from .errors import StoreError, UnreadableEntry

__all__ = ["Filling", "Look", "Reading", "Spec", "Standing"]


class Standing(Enum):
    """What an entry is good for now."""

    FRESH = auto()
    DUE = auto()  # to be served, and computed anew behind the caller
    FALLBACK = auto()  # to be served where computing it anew fails
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Look:
    """An opened entry of a function whose entries age.

    Attributes:
        value: What is stored; None where it is over.
        standing: What it is good for.
        stale: Whether it is past its soft expiry.
        rest: Seconds for which nobody computes it anew after that failed.
        envelope: As it was read.
        seconds: What it took to compute.
    """

    value: Any
    standing: Standing
    stale: bool
    rest: float
    envelope: Envelope
    seconds: float


class Reading(Protocol):
    """An entry that is being read in parts."""

    needs: tuple[Any, ...]
    stamp: Any
    value: Any

    def take(self, pieces: Sequence[Bytes]) -> None:
        """Go on with the parts that were needed. Raises UnreadableEntry."""


class Filling(Protocol):
    """What this process may keep of an entry that is about to be read; made before it is."""

    def take(self, value: Any, envelope: Envelope, left: float) -> Any:
        """Keep it, unless something came between; returns the value. The entry has so many seconds left."""


class Spec(Protocol):
    """What the flows need to know of one decorated function; all of it is free of I/O."""

    lease: float
    max_wait: float
    ages: bool  # whether entries have a soft expiry, or are computed anew before it
    patience: float | None  # seconds a caller gives the function where there is an entry to fall back on
    first: int  # bytes of an entry that are read first, where it is to be read in parts
    limit: float | None  # seconds a caller gives the function in any case

    @property
    def function(self) -> str:
        """The same for all calls of one function."""

    def filling(self) -> Filling | None:
        """To be asked before an entry is read; None where nothing of it is to be kept in this process."""

    def hit(self, entry: str, envelope: Envelope) -> Any:
        """The value in an envelope, counted as a hit. Raises UnreadableEntry."""

    def look(self, entry: str, envelope: Envelope, now: float, chance: float) -> Look:
        """An envelope opened, and what it is good for. Raises UnreadableEntry."""

    def columns(self, entry: str, start: Bytes, names: Sequence[object]) -> Reading:
        """The entry that begins so, to be read in parts. Raises UnreadableEntry."""

    def whole(self, value: Any, names: Sequence[object]) -> Any:
        """Those columns of a frame that was read as a whole."""

    def standing(self, stamp: Any, now: float, chance: float) -> Standing:
        """What an entry with such a stamp is good for."""

    def serve(self, look: Look) -> Any:
        """Its value, counted as a hit."""

    def rescue(self, look: Look) -> Any:
        """Its value, for a call that ran the function in vain."""

    def miss(self) -> None:
        """Count a miss."""

    def seal(self, place: Place, computed: Computed, now: float) -> Sealed | None:
        """The envelope to store (``ttl`` 0: to share only), or None where there can be none."""

    def seal_failure(self, entry: str, error: Exception) -> bytes:
        """What the function raised, for the waiters elsewhere; empty where it cannot be carried."""

    def unseal_failure(self, entry: str, note: bytes) -> Exception | None:
        """What the function raised elsewhere, or None where that cannot be told."""

    def failed(self, error: StoreError) -> None:
        """Count and report an operation that failed; raises it where the user asked for that."""

    def unreadable(self, error: UnreadableEntry) -> None:
        """Count and report an entry that could not be read."""

    def stored(self, sealed: Sealed) -> None:
        """Count a result that was stored."""

    def refused(self) -> None:
        """Count a result that was not stored."""

    def refreshed(self) -> None:
        """Count a run of the function behind its callers."""

    def refresh_failed(self, error: BaseException) -> None:
        """Report that such a run failed."""

    def late(self, seconds: float) -> Exception:
        """What to raise where the function took longer than its callers give it; if it runs, it is behind them now."""

    def not_begun(self) -> Exception:
        """Report that too many runs of it that nobody waits for any more go on; what to raise."""

    def leave(self) -> None:
        """Say that the function runs behind its caller, who may change its arguments meanwhile."""

    def changed(self) -> bool:
        """Whether the function is run with other arguments than its key was made of, as far as it could be: reported.

        Behind a caller they are looked at with each question, otherwise when the run began.
        """
