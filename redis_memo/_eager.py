"""Waiting for what is about to come: awake, for about as long as it takes to fall asleep and be woken.

A server on the same machine answers in some 20 us, and waking a thread that sleeps takes longer than that, up to
several times as long where an idle core has stopped meanwhile. Who stays awake for as long as the waking would take
never waits, nor computes, much longer than with the better choice of the two (Karlin, Li, Manasse, Owicki: "Empirical
Studies of Competitive Spinning for a Shared-Memory Multiprocessor", SOSP '91). Whoever else wants the core gets it
(`sched_yield`). Where that happens, or the answer takes longer, there is nothing to be won, and it is hardly tried
again for commands of that kind: at most once in 32 exchanges. (A hit is answered before most scripts have begun.)
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._bulk import Piece

__all__ = ["Eager"]

AWAKE = 100e-6  # seconds
SELDOM = 31  # exchanges after one in vain that are not tried, at most
_KIND = 16  # bytes in which stand how many words a command has, and the first of them


class Eager:
    """The first bytes of answers, where they come soon.

    Args:
        sock: Plain and with a time limit, so that its descriptor does not block.
        buffer: Where the bytes are to go.
    """

    __slots__ = ("_buffers", "_descriptor", "_kinds")

    def __init__(self, sock: socket.socket, buffer: bytearray) -> None:
        self._descriptor = sock.fileno()
        self._buffers = [buffer]
        self._kinds: dict[bytes, list[int]] = {}  # of each: exchanges not to be tried now, and after the next in vain

    @classmethod
    def of(cls, sock: socket.socket, buffer: bytearray) -> Eager | None:
        """None where there is more to receiving than reading, as with TLS, or no way to let others go first."""
        able = type(sock) is socket.socket and hasattr(os, "sched_yield") and hasattr(os, "readv")
        return cls(sock, buffer) if able else None

    def receive(self, sent: Sequence[Piece]) -> int:
        """How many bytes came; 0 if none came so soon, if it was not tried, or if the other side has hung up.

        Args:
            sent: One command in one piece, or anything else, which is one more kind.

        Raises:
            OSError: The connection is broken.
        """
        kind = bytes(sent[0][:_KIND]) if len(sent) == 1 and type(sent) is list else b""  # no `Batch`
        seldom = self._kinds.get(kind)
        if seldom is None:
            seldom = self._kinds[kind] = [0, 0]
        elif seldom[0]:
            seldom[0] -= 1
            return 0
        clock, let_others, read = time.perf_counter, os.sched_yield, os.readv
        until = clock() + AWAKE
        count = 0
        while not count:
            let_others()
            try:  # noqa: SIM105 - which takes as long as the look
                count = read(self._descriptor, self._buffers)
            except BlockingIOError:
                pass
            if clock() > until:  # also where it came so soon, but somebody else had the core for longer
                seldom[0] = seldom[1]
                seldom[1] = min(2 * seldom[1] + 1, SELDOM)
                return count
        seldom[1] >>= 1
        return count
