"""A paced link: a TCP proxy that moves 1 Gbit/s each way and takes so many seconds for it.

``python -m bench.link NEAR FAR SECONDS`` listens on one port of loopback and connects to the other. It is a process of its own,
so that it shares no interpreter with what is measured. All connections share the link, as they would share a cable.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time

BYTES_PER_SECOND = 1e9 / 8
CHUNK = 1 << 16
SLACK = 80e-6  # how late a sleep may end: the rest of a wait is spent looking at the clock
AHEAD = 64  # chunks that are on their way at most, as a network's buffers would hold them


class Cable:
    """One direction of the link: says when bytes that are sent now have arrived."""

    def __init__(self, delay: float) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._delay = delay

    def arrival(self, length: int) -> float:
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + length / BYTES_PER_SECOND
            return self._free_at + self._delay


def _sleep_until(moment: float) -> None:
    if (left := moment - time.monotonic() - SLACK) > 0:
        time.sleep(left)
    while time.monotonic() < moment:
        pass


def _pipe(cable: Cable, source: socket.socket, target: socket.socket) -> None:
    """Move what one side sends to the other, each chunk at its time; reading goes on while chunks are on their way."""
    under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(AHEAD)

    def deliver() -> None:
        try:
            while True:
                moment, chunk = under_way.get()
                _sleep_until(moment)
                if not chunk:
                    break
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()

    threading.Thread(target=deliver, daemon=True).start()
    try:
        while chunk := source.recv(CHUNK):
            under_way.put((cable.arrival(len(chunk)), chunk))
    except OSError:
        pass
    under_way.put((time.monotonic(), b""))


def main(near: int, far: int, delay: float) -> None:
    """Serve until killed."""
    there, back = Cable(delay), Cable(delay)
    with socket.create_server(("127.0.0.1", near), backlog=128) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", far))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pipe, args=(there, client, server), daemon=True).start()
            threading.Thread(target=_pipe, args=(back, server, client), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
