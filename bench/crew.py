"""Processes beside the one that measures: one alone, or several that do the same thing at the same moment.

They are forked from a process that has imported everything and done nothing, so that none begins with what another one
left behind, and none spends its first second on imports.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from . import functions
from .servers import Place
from .subjects import Subject

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["bench.peers", "bench.hits"])

SOON = 0.05  # seconds from an order to its moment: all have heard it by then
PATIENCE = 30.0  # seconds after which whoever has not answered hangs


def beside(target: Callable[..., None], *args: Any) -> tuple[ForkServerProcess, Connection]:
    """Start a process that runs ``target(pipe, *args)``, and return it with the other end of the pipe."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_quietly, args=(target, theirs, *args), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def silence() -> None:
    """Hide what peers log and warn of: the page says what matters of it, that a value is not stored."""
    logging.disable()
    warnings.simplefilter("ignore")


def _quietly(target: Callable[..., None], pipe: Connection, *args: Any) -> None:
    silence()
    target(pipe, *args)


class StuckError(Exception):
    """A process does not answer; the crew is of no use any more."""


class Crew:
    """Processes that wait for orders."""

    def __init__(self, size: int) -> None:
        self._members = [beside(_member) for _ in range(size)]
        self.order(size, "ready")

    def order(self, size: int, name: str, *args: Any) -> list[Any]:
        """Have the first ones do something at one moment, and return what each answers.

        Raises:
            StuckError: One of them takes longer than half a minute.
            RuntimeError: One of them failed; the text says with what.
        """
        begin = time.monotonic() + SOON
        members = self._members[:size]
        for _, pipe in members:
            pipe.send((name, begin, args))
        answers = []
        for _, pipe in members:
            if not pipe.poll(max(0.0, begin + PATIENCE - time.monotonic())):
                raise StuckError
            answers.append(pipe.recv())
        if failed := [error for error, _ in answers if error]:
            raise RuntimeError(failed[0])
        return [answer for _, answer in answers]

    def close(self) -> None:
        """End them."""
        for process, pipe in self._members:
            pipe.close()
            process.kill()
            process.join()


@contextmanager
def crew(size: int) -> Iterator[Crew]:
    """A crew that is gone afterwards."""
    found = Crew(size)
    try:
        yield found
    finally:
        found.close()


class _Post:
    """What a member knows: contestants that it has opened, by class."""

    def __init__(self) -> None:
        self._subjects: dict[type[Subject], tuple[Subject, dict[str, Any]]] = {}

    def ready(self, begin: float) -> None:
        """Say that it is there."""

    def open(self, begin: float, kind: type[Subject], place: Place, name: str, args: tuple[Any, ...]) -> None:  # noqa: ARG002
        """Open a contestant, and hit once."""
        if kind not in self._subjects:
            self._subjects[kind] = kind(place), {}
        subject, memoized = self._subjects[kind]
        memoized[name] = memoized.get(name) or subject.memoize(name)
        subject.call(memoized[name], *args)

    def count(self, begin: float, kind: type[Subject], name: str, args: tuple[Any, ...], seconds: float) -> int:
        """Hit for a while, one call after the other."""
        subject, memoized = self._subjects[kind]
        return subject.count(memoized[name], *args, begin=begin, seconds=seconds)

    def rush(
        self, begin: float, kind: type[Subject], name: str, args: tuple[Any, ...], callers: int
    ) -> tuple[float, int]:
        """Call from many threads or tasks at once: seconds until the last has its result, and errors."""
        subject, memoized = self._subjects[kind]
        end, errors = subject.rush(memoized[name], *args, callers=callers, begin=begin)
        return end - begin, errors

    def learn(self, begin: float, case: str, value: Any) -> None:  # noqa: ARG002
        """Know a value that ``produce`` returns."""
        functions.values[case] = value


def _member(pipe: Connection) -> None:
    post = _Post()
    while True:
        try:
            name, begin, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = "", getattr(post, name)(begin, *args)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}", None
        pipe.send(answer)
