"""What a namespace knows of its functions: a list on the server of their prefixes, by which all of it is invalidated.

A function is noted there before its first write, now and then after that, and after each reconnection, as the server
may be another one. The list lies in a slot of its own. So on a cluster it may be on a server that does not answer:
that holds up no other server's functions, if it has them already.
"""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

from . import _ops as ops
from ._identity import namespace_prefix, registry
from .errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._backend import Backend
    from ._leases import Leases

__all__ = ["WRITES", "Namespaces", "nothing_was_listed"]

ENROLL_EVERY = 30.0
WRITES = frozenset({ops.Acquire, ops.Seize, ops.Put})


class Namespaces:
    """What this process has noted in the namespaces of one store.

    Args:
        backend: The store.
        leases: Whose thread does what nobody waits for.
    """

    def __init__(self, backend: Backend, leases: Leases) -> None:
        self._backend = backend
        self._leases = leases
        self._enrolled: dict[str, tuple[int, float]] = {}

    def due(self, prefix: str, namespace: str) -> ops.Enroll | None:
        """What to note before a write of a function."""
        generation, at = self._enrolled.get(prefix, (-1, 0.0))
        if generation == self._backend.generation and time.monotonic() - at < ENROLL_EVERY:
            return None
        return ops.Enroll(registry(namespace), prefix)

    @contextlib.contextmanager
    def excused(self, enroll: ops.Enroll) -> Iterator[None]:
        """Within it a note may fail that can."""
        try:
            yield
        except StoreError:
            if not self._spared(enroll):
                raise

    def _spared(self, enroll: ops.Enroll) -> bool:
        return self._backend.spread and enroll.prefix in self._enrolled

    def noted(self, enroll: ops.Enroll, answer: tuple[int, list[str]]) -> None:
        """Take in the answer to what was noted."""
        self._enrolled[enroll.prefix] = (self._backend.generation, time.monotonic())
        # Functions that nobody wrote to for long, such as closures that are gone, have nobody else to tidy them up.
        moment, forgotten = answer
        for prefix in forgotten:
            strike = ops.Strike(enroll.registry, prefix, moment)
            self._leases.later(functools.partial(self._tidy, strike))

    def _tidy(self, strike: ops.Strike) -> None:
        if self._backend.perform(ops.Tidy(strike.prefix)) == 0:
            self._backend.perform(strike)

    def functions(self, namespace: str, enrolled: Iterable[str]) -> list[str]:
        """The prefixes of a namespace's functions: those that the server knows of, and those that this process does."""
        known = {prefix for prefix in self._enrolled if prefix.startswith(namespace_prefix(namespace))}
        return sorted({*enrolled, *known})

    # Several operations in one exchange.

    def before(self, several: list[Any], namespace: str) -> list[ops.Enroll]:
        """What to note before them: each shard of the function that is written to."""
        prefixes = dict.fromkeys(op.place.prefix for op in several if type(op) in WRITES)
        due = (self.due(prefix, namespace) for prefix in prefixes)
        return [enroll for enroll in due if enroll is not None]

    def noted_late(self, enrolls: list[ops.Enroll], noted: list[Any], several: list[Any], answers: list[Any]) -> None:
        """Where the note failed, so did the writes: an invalidation of the namespace would not find them."""
        for enroll, answer in zip(enrolls, noted, strict=True):
            if not isinstance(answer, StoreError):
                self.noted(enroll, answer)
            elif not self._spared(enroll):
                for number, op in enumerate(several):
                    if type(op) in WRITES and op.place.prefix == enroll.prefix:
                        answers[number] = type(answer)(*answer.args)


def nothing_was_listed(answer: object) -> bool:
    """Whether the server has lost what it had of the function, the note in the namespace's list perhaps too."""
    return answer is True or (type(answer) is ops.Leased and answer.first)
