"""How much a function's entries, or a namespace's, may take up in the store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .errors import ConfigurationError

__all__ = ["EVICTIONS", "NO_BOUNDS", "Bounds", "Eviction", "Limits", "bounded", "checked_limits", "size_of"]

Eviction: TypeAlias = Literal["lru", "worth"]
EVICTIONS = ("lru", "worth")

_UNITS = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_SIZE = re.compile(r"([0-9]+)\s*([kmgt]?b)?", re.IGNORECASE | re.ASCII)
MOST = 1 << 50  # beyond it a double is no exact count of bytes any more; and no server has it


def size_of(text: str) -> int | None:
    """The bytes of ``"512mb"`` or ``"2 GB"``, in powers of 1,024; None if it is not a size."""
    found = _SIZE.fullmatch(text.strip())
    return None if found is None else int(found[1]) * _UNITS[(found[2] or "").lower()]


def _number(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST:
        raise ConfigurationError(f"{name}= takes a whole number above 0, or None for no bound")
    return int(value)


def _bytes(name: str, value: object) -> int | None:
    if not isinstance(value, str):
        return _number(name, value)
    size = size_of(value)
    if size is None:
        raise ConfigurationError(f"{name}= takes a number of bytes, or a string such as '512mb' (kb, mb, gb, tb)")
    return _number(name, size)


@dataclass(frozen=True)
class Limits:
    """Bounds on all entries of a namespace together, for ``configure(limits={"stock_data": Limits(...)})``.

    Args:
        maxsize: How many entries; None for no bound.
        maxbytes: Their stored bytes, a number or a string such as ``"2gb"``; None for no bound.

    Raises:
        ConfigurationError: A bound is not above 0.
    """

    maxsize: int | None = None
    maxbytes: int | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "maxsize", _number("Limits(maxsize)", self.maxsize))
        object.__setattr__(self, "maxbytes", _bytes("Limits(maxbytes)", self.maxbytes))

    @property
    def size(self) -> int:
        """`maxbytes` as a number; 0 for no bound."""
        assert not isinstance(self.maxbytes, str)
        return self.maxbytes or 0


def checked_limits(given: object) -> Mapping[str, Limits]:
    """The setting ``limits=``. Raises ConfigurationError if it is no mapping of namespaces to `Limits`."""
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and isinstance(limits, Limits) for name, limits in given.items()
    ):
        raise ConfigurationError('limits= takes a mapping such as {"stock_data": Limits(maxbytes="2gb")}')
    return given


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the scripts keep one function within; 0 is no bound of its own.

    Attributes:
        maxsize: Entries.
        maxbytes: Bytes stored.
        evict: Which entry goes first.
        largest: Bytes of one value beyond which it is not stored at all.
        limits: Those of its namespace.
    """

    maxsize: int = 0
    maxbytes: int = 0
    evict: Eviction = "lru"
    largest: int = 0
    limits: Limits | None = None

    def __bool__(self) -> bool:
        return bool(self.maxsize or self.maxbytes or self.limits)

    @property
    def kind(self) -> str:
        """As the scripts are told it; empty where nothing is bounded."""
        return self.evict if self else ""

    def shared(self, shards: int) -> Bounds:
        """What each shard of a function is kept within, so that all of them together are within these bounds.

        Raises:
            ConfigurationError: There are more shards than entries allowed.
        """
        if shards == 1:
            return self
        if 0 < self.maxsize < shards:
            raise ConfigurationError(f"maxsize={self.maxsize:,} leaves no entry to some of {shards:,} shards")
        size = self.maxbytes // shards
        return Bounds(self.maxsize // shards, size, self.evict, _largest(size, self.limits), self.limits)


NO_BOUNDS = Bounds()


def bounded(maxsize: object, maxbytes: object, evict: Eviction, limits: Limits | None = None) -> Bounds:
    """The bounds of a function, by its options and its namespace's limits.

    Raises:
        ConfigurationError: A bound is not above 0.
    """
    number, size = _number("maxsize", maxsize) or 0, _bytes("maxbytes", maxbytes) or 0
    return Bounds(number, size, evict, _largest(size, limits), limits)


def _largest(size: int, limits: Limits | None) -> int:
    """Bytes that one entry may have; 0 where nothing bounds it."""
    return min((bound for bound in (size, 0 if limits is None else limits.size) if bound), default=0)
