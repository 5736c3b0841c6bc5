"""The hits of many calls of one function: what is the same for all of them is looked at once.

A call comes to the key and the value that `_invocation.Invocation` comes to alone, and counts as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from . import _clock as clock
from . import _ops as ops
from ._codecs import loads
from ._envelope import SMALL
from ._many_ops import NO_HIT
from .errors import ConfigurationError, StoreError, UnreadableEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ._function import Memo

__all__ = ["DIGEST", "Hits"]

DIGEST = slice(-ops.DIGEST, None)  # where a call's digest stands in the key of its entry


class Hits:
    """As of `_many_ops.Hits`.

    Args:
        memo: The function.
        arguments: Of the call with such a number, positional ones and keywords.
    """

    def __init__(self, memo: Memo, arguments: Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
        self._memo = memo
        self._arguments = arguments
        self._prefix = memo.prefix if memo.shards == 1 else None

    @classmethod
    def of(cls, memo: Memo, arguments: Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]]) -> Self | None:
        """None where a hit takes more: its age counts, or the moment it is for, or this process keeps values itself."""
        if memo.near is not None or memo.ages or clock.is_set() or clock.moment() is not None:
            return None
        try:
            memo.follow()
            if memo.policy is None:
                memo.lifetime()
            return cls(memo, arguments)
        except ConfigurationError:  # each call says it
            return None

    def entry(self, number: int) -> str:
        """The key of a call's entry; raises what the call would."""
        memo = self._memo
        args, kwargs = self._arguments(number)
        digest = memo.callkey.digest(memo.bind(*args, **kwargs), args, kwargs)
        return (self._prefix or memo.prefix_of(digest)) + digest

    def values(self, entries: Collection[str], found: Mapping[str, Any]) -> list[Any]:
        """Of each entry its value, decoded anew for each; `NO_HIT` where there is none that can be read."""
        memo = self._memo
        notes = memo.notes
        values: list[Any] = []
        add = values.append
        hits, seconds = 0, 0.0
        try:
            sealer = memo.engine.sealer
            for entry in entries:
                envelope = found[entry]
                if type(envelope) is not bytes:
                    add(NO_HIT)
                    continue
                try:
                    small = sealer.small(entry, envelope) if len(envelope) <= SMALL else None
                    if small is not None:
                        compute, meta, trusted = small
                        add(loads(meta, (), trusted=trusted))
                    else:
                        opened = sealer.open(entry, envelope)
                        compute = opened.stamp.compute
                        add(loads(opened.meta, opened.buffers, trusted=opened.trusted))
                except UnreadableEntry:  # the flow comes to the same, and says it
                    add(NO_HIT)
                    continue
                hits += 1
                seconds += compute
                if notes:
                    memo.note(entry[DIGEST], entry[DIGEST])
        except StoreError:  # there is no sealer: so, too
            return [NO_HIT for _ in entries]
        finally:
            memo.stats.hit(seconds, number=hits)
        return values
