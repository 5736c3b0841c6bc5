"""P5: an interrupt in a thread that calls holds up no call after it."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import inspect
import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from redis_memo import _node, connect, redis_cached

from .conftest import SECRET, Server, until

PACKAGE = str(Path(_node.__file__).parent)


WITHIN = {threading.__file__, concurrent.futures._base.__file__}


class Interrupt(BaseException):
    """What a signal's handler raises, as for a job that exceeds its limit."""


class Interrupted:
    """Interrupts a call at one of the places at which CPython runs a signal's handler, or the collector may run.

    They are where a function begins, and where one has returned; those of `threading` that it calls are among them.

    Args:
        at: At which.
        act: What then happens.
        within: A module, or the folder of all of them, whose functions are meant.
    """

    def __init__(self, at: int, act: Callable[[], object], within: str) -> None:
        self._at = at
        self._act = act
        self._within = within
        self.passed = 0

    def __enter__(self) -> Interrupted:
        sys.setprofile(self._pass)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _pass(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("c_call", "c_exception") or not self._is_meant(frame):
            return
        if event == "return" and frame.f_code.co_flags & inspect.CO_GENERATOR:
            return  # a handler would run in the one that goes on
        self.passed += 1
        if self.passed - 1 == self._at:
            sys.setprofile(None)
            self._act()

    def _is_meant(self, frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code.co_filename in WITHIN:
            frame = frame.f_back
        return frame is not None and frame.f_code.co_filename.startswith(self._within)


def interrupt() -> None:
    raise Interrupt


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
        with Interrupted(at, interrupt, _node.__file__) as interrupted, contextlib.suppress(Interrupt):
            double(1)
        assert returns(lambda: double(1)) == 2
        if interrupted.passed <= at:
            break
    assert double.cache_info().misses == 1
    cache.close()


def test_p5_an_interrupted_miss_holds_up_no_other_call(valkey_server: Server, namespace: str) -> None:
    cache = connect(valkey_server.url, secret=SECRET)

    @redis_cached(namespace=namespace, ttl="1h", cache=cache)
    def double(x: int) -> int:
        return 2 * x

    double(0)
    for at in itertools.count():
        with Interrupted(at, interrupt, PACKAGE) as interrupted, contextlib.suppress(Interrupt):
            double(at + 1)
        assert returns(lambda at=at: double(-at - 1)) == -2 * at - 2
        if interrupted.passed <= at:
            break
    assert at > 200
    cache.close()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # of one that nobody had got yet
@pytest.mark.usefixtures("broken_handshakes")
def test_p4_p5_an_interrupted_waiter_holds_up_nobody(valkey_server: Server, namespace: str) -> None:
    """Neither the one that computes for it, nor what wakes all who wait for other processes."""
    ours, theirs = (connect(valkey_server.url, secret=SECRET) for _ in range(2))
    begun: dict[int, threading.Event] = collections.defaultdict(threading.Event)
    go_on: dict[int, threading.Event] = collections.defaultdict(threading.Event)

    def double(x: int) -> int:
        begun[x].set()
        assert go_on[x].wait(10)
        return 2 * x

    mine, others = (
        redis_cached(namespace=namespace, name="double", ttl="1h", cache=each)(double) for each in (ours, theirs)
    )
    listener = ours.engine.backend.listener
    for leader in (mine, others):  # of this process, and of what could be another one
        for at in itertools.count(1):
            key = at if leader is mine else -at
            answers: list[int] = []
            computing = threading.Thread(target=lambda key=key: answers.append(leader(key)), daemon=True)
            computing.start()
            assert begun[key].wait(10)
            with Interrupted(at, interrupt, PACKAGE) as interrupted, contextlib.suppress(Interrupt):
                timer = threading.Timer(0.01 if at % 8 else 0.0, go_on[key].set)
                timer.start()
                assert mine(key) == 2 * key
            go_on[key].set()
            computing.join(10)
            assert answers == [2 * key], "hangs"
            if interrupted.passed <= at:
                break
        assert at > 100
    subscription = listener.subscribe("any")
    until(subscription.ready.done)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("near", [None, True])
def test_p5_a_call_amid_another_is_answered(valkey_server: Server, namespace: str, near: bool | None) -> None:
    """A finaliser's, or that of a signal's handler: whatever lock the call holds that it interrupts."""
    cache = connect(valkey_server.url, secret=SECRET)

    @redis_cached(namespace=namespace, ttl="1h", cache=cache, near=near)
    def double(x: int) -> int:
        return 2 * x

    def calls(at: int) -> tuple[int, bool]:
        amid: list[int] = []
        with Interrupted(at, lambda: amid.append(double(-at)), PACKAGE) as interrupted:
            assert double(at) == 2 * at
        assert amid in ([], [-2 * at])
        return interrupted.passed, not amid

    for at in itertools.count(1 + bool(near), 2):
        cache.close()  # the next call connects
        passed, over = returns(lambda at=at: calls(at))
        if over:
            break
    assert passed > 300
    cache.close()
