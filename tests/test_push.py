"""P3: a caller hears nothing that was sent before it began to listen, though others of its process listened already."""

from __future__ import annotations

import queue

import pytest

from redis_memo._push import Listener

from .conftest import until


class Wire:
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        self.inbox: queue.Queue[list[object]] = queue.Queue()
        self.sent: list[bytes] = []

    def send(self, command: bytes) -> None:
        self.sent.append(command)

    def wait(self, seconds: float) -> bool:
        try:
            self.next = self.inbox.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def receive(self) -> list[object]:
        return [self.next]

    def close(self) -> None:
        pass


CONFIRMED = [b"subscribe", b"k", 1]


def test_what_was_sent_before_is_for_those_who_listened_before() -> None:
    wire = Wire()
    listener = Listener(lambda: wire)
    first = listener.subscribe("k")
    wire.inbox.put(CONFIRMED)
    until(first.ready.done)
    second = listener.subscribe("k")
    wire.inbox.put([b"message", b"k", b"filled:old"])
    wire.inbox.put(CONFIRMED)
    until(second.ready.done)
    assert not second.news.done()
    wire.inbox.put([b"message", b"k", b"filled:new"])
    until(second.news.done)
    assert second.again() == [b"filled:new"]
    assert first.again() == [b"filled:old", b"filled:new"]
    listener.close()


def test_a_confirmation_is_for_one_who_asked() -> None:
    """Two that ask together: the first confirmation is the first one's."""
    wire = Wire()
    listener = Listener(lambda: wire)
    first = listener.subscribe("k")
    until(lambda: wire.sent)
    second = listener.subscribe("k")
    wire.inbox.put(CONFIRMED)
    until(first.ready.done)
    wire.inbox.put([b"message", b"k", b"filled:old"])
    until(first.news.done)
    assert not second.ready.done()
    wire.inbox.put(CONFIRMED)
    until(second.ready.done)
    assert not second.news.done()
    listener.close()


@pytest.mark.parametrize("nonsense", [[b"message", [], b"x"], [b"message", b"k", 1]], ids=["channel", "message"])
def test_p4_p5_a_message_of_another_kind_ends_the_connection_and_not_the_listening(
    nonsense: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire())
        return wires[-1]

    listener = Listener(connect, ordered=False)
    subscription = listener.subscribe("k")
    until(lambda: wires)
    wires[0].inbox.put(CONFIRMED)
    wires[0].inbox.put(nonsense)
    until(lambda: len(wires) == 2)
    assert subscription.news.done(), "whoever waits asks the store"
    subscription.again()
    wires[1].inbox.put(CONFIRMED)
    wires[1].inbox.put([b"message", b"k", b"failed:x"])
    until(subscription.news.done)
    assert subscription.again() == [b"failed:x"]
    assert "listening for results failed" in caplog.text
    listener.close()
