"""Answers that come at once are waited for awake (`redis_memo._eager`), and only where that wins something."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from redis_memo._bulk import Pipeline
from redis_memo._eager import SELDOM, Eager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis_memo._bulk import Piece

WORD = b"+PONG\r\n"
PING = [b"*1\r\n$4\r\nPING\r\n"]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, other = socket.socketpair()
    with ours, other:
        ours.settimeout(5)
        yield ours, other


def of(sock: socket.socket) -> tuple[Eager, bytearray]:
    buffer = bytearray(64)
    eager = Eager.of(sock, buffer)
    assert eager is not None
    return eager, buffer


def test_what_is_there_is_received_as_it_is(ends: tuple[socket.socket, socket.socket]) -> None:
    """P1: the bytes are those that were sent, no more and no fewer."""
    ours, other = ends
    eager, buffer = of(ours)
    other.sendall(WORD)
    while not (count := eager.receive(PING)):  # a busy machine may hold it up once
        pass
    assert buffer[:count] == WORD
    other.sendall(b"x" * 100)
    while not (count := eager.receive(PING)):
        pass
    assert count == 64
    assert ours.recv(100) == b"x" * 36


def test_who_waits_in_vain_hardly_tries_again(ends: tuple[socket.socket, socket.socket]) -> None:
    """P5: a server that is far away, or a crowded machine, is not paid for by each call."""
    ours, other = ends
    eager, _ = of(ours)
    for _ in range(SELDOM * 12):
        assert eager.receive(PING) == 0
    other.sendall(WORD)
    asleep = 0
    while not eager.receive(PING):
        asleep += 1
    assert asleep <= SELDOM
    # From then on it is tried as before.
    tries = 0
    for _ in range(SELDOM * 4):
        other.sendall(WORD)
        tries += bool(eager.receive(PING))
    assert tries > SELDOM


@pytest.mark.parametrize(
    "other_kind", [[b"*11\r\n$7\r\nEVALSHA\r\n$40\r\n"], Pipeline([b"*2\r\n$3\r\nGET\r\n$80\r\n"])]
)
def test_who_waits_in_vain_for_one_kind_of_answer_still_waits_for_others(
    ends: tuple[socket.socket, socket.socket], other_kind: list[Piece]
) -> None:
    """P5: a store takes longer than a hit, and so do many hits; between them a hit is as fast as among hits."""
    ours, other = ends
    eager, _ = of(ours)
    read = [b"*2\r\n$3\r\nGET\r\n$80\r\n"]
    tries = 0
    for _ in range(SELDOM * 4):
        assert eager.receive(other_kind) == 0
        other.sendall(WORD)
        if eager.receive(read):
            tries += 1
        else:  # a busy machine may hold it up once
            ours.recv(64)
    assert tries > SELDOM


def test_the_other_side_has_hung_up(ends: tuple[socket.socket, socket.socket]) -> None:
    """P5: that is for whoever waits asleep to find out; it is no endless loop here."""
    ours, other = ends
    eager, _ = of(ours)
    other.close()
    assert eager.receive(PING) == 0
    assert ours.recv(1) == b""


def test_what_is_encrypted_is_no_matter_of_reading(ends: tuple[socket.socket, socket.socket]) -> None:
    """P5: bytes of TLS that are taken from below it would end the connection."""
    ours, _ = ends
    wrapped = ssl.create_default_context().wrap_socket(ours, server_hostname="here", do_handshake_on_connect=False)
    with wrapped:
        assert Eager.of(wrapped, bytearray(64)) is None
