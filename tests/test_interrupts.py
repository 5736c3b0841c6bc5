"""P5: an interrupt in a thread that calls holds up no call after it."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from redis_memo import _node, connect, redis_cached

from .conftest import SECRET, Server


class Interrupt(BaseException):
    """What a signal's handler raises, as for a job that exceeds its limit."""


class Interrupted:
    """Interrupts a call at one of the places, within `_node`, at which CPython runs a signal's handler.

    They are where a function begins, and where one has returned; those of `threading` that it calls are among them.

    Args:
        at: At which.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self.passed = 0

    def __enter__(self) -> Interrupted:
        sys.setprofile(self._pass)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _pass(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("c_call", "c_exception") or not _is_meant(frame):
            return
        if event == "return" and frame.f_code.co_flags & inspect.CO_GENERATOR:
            return  # a handler would run in the one that goes on
        self.passed += 1
        if self.passed - 1 == self._at:
            sys.setprofile(None)
            raise Interrupt


def _is_meant(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename == _node.__file__


def returns(function: Callable[[], Any]) -> Any:
    """What another thread is answered; fails if it is not."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(function()), daemon=True)
    thread.start()
    thread.join(10)
    assert answers, "hangs"
    return answers[0]


def test_p5_an_interrupt_while_a_call_connects_holds_up_no_later_one(valkey_server: Server, namespace: str) -> None:
    cache = connect(valkey_server.url, secret=SECRET, timeout=0.5)

    @redis_cached(namespace=namespace, ttl="1h", cache=cache)
    def double(x: int) -> int:
        return 2 * x

    double(1)
    for at in itertools.count():
        cache.close()  # the next call connects
        with Interrupted(at) as interrupted, contextlib.suppress(Interrupt):
            double(1)
        assert returns(lambda: double(1)) == 2
        if interrupted.passed <= at:
            break
    assert double.cache_info().misses == 1
    cache.close()
