"""What goes wrong, on demand: a TCP proxy on loopback that spoils what passes through it, and interrupts at any line."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Literal, TypeVar

from redis_memo import connect, redis_cached

from .conftest import SECRET

T = TypeVar("T")
THREADS, TASKS = 50, 200

Mode = Literal["pass", "delay", "cut", "swallow", "garbage", "bytewise", "trickle", "twice", "refuse"]

GARBAGE = b"$3\r\nabc\r\n?\x00\xff" + b"!" * 50


class Proxy:
    """Stands between a client and a server.

    The modes, of which the server's replies are the victims:

    - ``pass``: nothing is spoilt.
    - ``delay``: each reply comes ``seconds`` later.
    - ``cut``: the connection ends in the middle of a reply.
    - ``swallow``: nothing arrives any more, in either direction, and nobody is told; a connection that lost
      something stays like that.
    - ``garbage``: in the middle of a reply comes something else.
    - ``bytewise``: a reply comes in pieces of one byte.
    - ``trickle``: the same, with ``seconds`` between them.
    - ``twice``: each reply comes twice.
    - ``refuse``: nobody listens, and connections are reset.

    Args:
        port: Of the server, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._mode: Mode = "pass"
        self.seconds = 0.0
        self.accepted = 0
        self._changed = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._listen()

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        # Whoever delays a reply lets it go.
        self._changed.set()
        self._changed = threading.Event()
        if mode == "refuse":
            self.end(self._listener)
            self.cut()
        elif before == "refuse":
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
            self._listen()

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            self.end(each)

    def close(self) -> None:
        """End everything, and wait until it has ended."""
        self._closed = True
        self._changed.set()
        self.end(self._listener)
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def end(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def _thread(self, function, *args) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        self._thread(self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                self.end(client)
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, server}
            lost = threading.Event()
            self._thread(self._pump, client, server, lost, False)
            self._thread(self._pump, server, client, lost, True)
            if self._closed or self._mode == "refuse":
                self.cut()

    def _pump(self, source: socket.socket, target: socket.socket, lost: threading.Event, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if lost.is_set() or self._mode == "swallow":
                    lost.set()
                    continue
                if not replies or self._mode == "pass":
                    target.sendall(data)
                elif not self._spoil(data, target):
                    break
        if replies and lost.is_set():
            return  # the client is not to hear of it
        self.end(source)
        self.end(target)
        with self._lock:
            self._sockets -= {source, target}

    def _spoil(self, data: bytes, target: socket.socket) -> bool:
        """Pass on a reply in the manner of the mode; False ends the connection."""
        mode, changed = self._mode, self._changed
        if mode == "delay":
            changed.wait(self.seconds)
        elif mode == "cut":
            target.sendall(data[: len(data) // 2])
            return False
        elif mode == "garbage":
            half = len(data) // 2
            data = data[:half] + GARBAGE + data[half:]
        elif mode == "twice":
            data += data
        elif mode in ("bytewise", "trickle"):
            for at in range(len(data)):
                target.sendall(data[at : at + 1])
                if mode == "trickle":
                    changed.wait(self.seconds)
            return True
        target.sendall(data)
        return True


@contextlib.contextmanager
def answering(answer: Callable[[bytes], Iterable[bytes]]) -> Iterator[str]:
    """A server whose replies are the test's: ``answer`` is given what was received. The block gets its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    sockets, threads = [listener], []

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                for reply in answer(data):
                    client.sendall(reply)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                sockets.append(client)
                threads.append(threading.Thread(target=serve, args=(client,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    finally:
        Proxy.end(listener)
        accepting.join()
        for each in sockets:
            Proxy.end(each)
        for thread in threads:
            thread.join()


class Calls:
    """A function, decorated for threads and for tasks, whose result tells which call it belongs to."""

    def __init__(self, cache, namespace: str, **options) -> None:
        self.runs = 0
        self.before = lambda: None

        def fetch(x):
            self.runs += 1
            self.before()
            return {"x": x, "pad": str(x) * 50}

        async def afetch(x):
            return fetch(x)

        self.cache = cache
        self.fetch = redis_cached(namespace=namespace, ttl=60, cache=cache, name="fetch", **options)(fetch)
        self.afetch = redis_cached(namespace=namespace, ttl=60, cache=cache, name="fetch", **options)(afetch)

    def threads(self, each: int = 2) -> None:
        """Call from many threads at once, and look at every result."""

        def some(number: int) -> None:
            for turn in range(each):
                x = (number + turn) % 20
                assert self.fetch(x) == {"x": x, "pad": str(x) * 50}

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(some, range(THREADS)))

    def tasks(self, each: int = 2) -> None:
        """The same from many tasks of one loop."""

        async def some(number: int) -> None:
            for turn in range(each):
                x = (number + turn) % 20
                assert await self.afetch(x) == {"x": x, "pad": str(x) * 50}

        async def all_of_them() -> None:
            await asyncio.gather(*map(some, range(TASKS)))

        asyncio.run(all_of_them())

    def hits(self) -> bool:
        before = self.runs
        self.fetch(1)
        asyncio.run(self.afetch(1))
        return self.runs == before


@contextlib.contextmanager
def calls_through(url: str, namespace: str, *, timeout: float = 0.3, **settings) -> Iterator[Calls]:
    options = {name: settings.pop(name) for name in ("on_error", "maxsize") if name in settings}
    cache = connect(url, secret=SECRET, timeout=timeout, **settings)
    yield Calls(cache, namespace, **options)
    cache.close()


def interrupted_at(place: int, run: Callable[[], T], file: str, error: BaseException) -> T:
    """Run something and raise an error, as a signal handler may, before the given one of the lines it executes in a file."""
    lines = itertools.count()

    def at_line(_frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and next(lines) == place:
            raise error
        return at_line

    before = sys.gettrace()
    sys.settrace(lambda frame, _event, _argument: at_line if frame.f_code.co_filename == file else None)
    try:
        return run()
    finally:
        sys.settrace(before)
