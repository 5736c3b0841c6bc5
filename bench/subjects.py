"""Contestants: something that memoizes a function, in a place of its own. Ourselves, code that people write by hand."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import inspect
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pandas as pd
import redis
import zstandard

import redis_memo

from .functions import PAIRS
from .results import OURS, Kind
from .servers import Place

TTL = 600


class Subject:
    """A contestant whose functions are plain ones.

    A subclass says how it memoizes; the rest is how it is measured. One that is asynchronous overrides that.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind] = "peer"
    distribution: ClassVar[str | None] = None
    on_server: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        self.place = place
        self.open()

    def open(self) -> None:
        """Connect."""
        raise NotImplementedError

    def decorate(self, function: Callable[..., Any], name: str) -> Any:
        """Memoize a function."""
        raise NotImplementedError

    def close(self) -> None:
        """Disconnect."""

    def memoize(self, name: str) -> Any:
        """Memoize one of `bench.functions`."""
        return self.decorate(PAIRS[name][0], name)

    def forget(self, memoized: Any, *args: Any) -> None:  # noqa: ARG002
        """Delete the entry of a call; here: all there is."""
        with self.place.client() as client:
            client.flushdb()

    def stored(self) -> int:
        """Bytes that it keeps: of strings and of the values of hashes, which is all that anybody here uses."""
        total = 0
        with self.place.client() as client:
            for key in client.scan_iter(count=1000):
                if client.type(key) == b"string":
                    total += client.strlen(key)
                elif client.type(key) == b"hash":
                    total += sum(map(len, client.hvals(key)))
        return total

    def call(self, memoized: Any, *args: Any) -> Any:
        """Call once and return the result."""
        return memoized(*args)

    def time(self, memoized: Any, *args: Any, number: int = 1) -> float:
        """Seconds that a call takes, on average over several in a row."""
        began = time.perf_counter()
        for _ in range(number):
            memoized(*args)
        return (time.perf_counter() - began) / number

    def latencies(self, memoized: Any, *args: Any, number: int) -> list[float]:
        """Seconds that each of several calls takes."""
        clock, found = time.perf_counter, []
        for _ in range(number):
            began = clock()
            memoized(*args)
            found.append(clock() - began)
        return found

    def count(self, memoized: Any, *args: Any, begin: float, seconds: float) -> int:
        """How many calls fit into a time that begins at a moment of the monotonic clock."""
        calls = 0
        _sleep_until(begin)
        while time.monotonic() < begin + seconds:
            memoized(*args)
            calls += 1
        return calls

    def rush(self, memoized: Any, *args: Any, callers: int, begin: float) -> tuple[float, int]:
        """Call at one moment from many threads: when the last has its result, and how many got an error."""
        errors: list[Exception] = []

        def caller() -> None:
            _sleep_until(begin)
            try:
                memoized(*args)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=caller, daemon=True) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic(), len(errors)


class AsyncSubject(Subject):
    """A contestant whose functions are coroutine functions: measured inside of a running loop."""

    def __init__(self, place: Place) -> None:
        self.loop = asyncio.new_event_loop()
        super().__init__(place)

    def memoize(self, name: str) -> Any:
        return self.decorate(PAIRS[name][1], name)

    def close(self) -> None:
        self.loop.run_until_complete(self.aclose())
        self.loop.close()

    async def aclose(self) -> None:
        """Disconnect."""

    def call(self, memoized: Any, *args: Any) -> Any:
        return self.loop.run_until_complete(memoized(*args))

    def time(self, memoized: Any, *args: Any, number: int = 1) -> float:
        async def batch() -> float:
            began = time.perf_counter()
            for _ in range(number):
                await memoized(*args)
            return (time.perf_counter() - began) / number

        return self.loop.run_until_complete(batch())

    def latencies(self, memoized: Any, *args: Any, number: int) -> list[float]:
        async def batch() -> list[float]:
            clock, found = time.perf_counter, []
            for _ in range(number):
                began = clock()
                await memoized(*args)
                found.append(clock() - began)
            return found

        return self.loop.run_until_complete(batch())

    def count(self, memoized: Any, *args: Any, begin: float, seconds: float) -> int:
        async def hits() -> int:
            calls = 0
            _sleep_until(begin)
            while time.monotonic() < begin + seconds:
                await memoized(*args)
                calls += 1
            return calls

        return self.loop.run_until_complete(hits())

    def rush(self, memoized: Any, *args: Any, callers: int, begin: float) -> tuple[float, int]:
        async def all_at_once() -> list[Any]:
            await asyncio.sleep(begin - time.monotonic())
            return await asyncio.gather(*(memoized(*args) for _ in range(callers)), return_exceptions=True)

        said = self.loop.run_until_complete(all_at_once())
        return time.monotonic(), sum(isinstance(one, BaseException) for one in said)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


class Ours(Subject):
    """redis_memo with its defaults."""

    name = OURS
    kind = "ours"
    settings: ClassVar[dict[str, Any]] = {}

    def open(self) -> None:
        self.cache = redis_memo.connect(self.url(), **self.settings)

    def url(self) -> str:
        """Where its entries are."""
        return self.place.url

    def decorate(self, function: Callable[..., Any], name: str) -> Any:
        return redis_memo.redis_cached(namespace="bench", name=name, ttl=TTL, cache=self.cache)(function)

    def forget(self, memoized: Any, *args: Any) -> None:
        call = inspect.signature(memoized).bind(*args)
        self.call(lambda: memoized.invalidate(**call.arguments))

    def close(self) -> None:
        self.cache.close()


class OursSigned(Ours):
    """redis_memo with a secret: every entry carries a keyed tag, and is opened only if that holds."""

    name = f"{OURS}, with a secret"
    settings: ClassVar[dict[str, Any]] = {"secret": "a secret that only the benchmark knows"}


class OursEmbedded(Ours):
    """redis_memo as it starts without any setting: its own server, over a Unix socket."""

    name = f"{OURS}, embedded"
    on_server = False

    def url(self) -> str:
        return f"embedded://{self.place.folder}"


class OursAsync(AsyncSubject, Ours):
    """redis_memo on an event loop."""

    name = f"{OURS}, async"

    async def aclose(self) -> None:
        self.cache.close()


class ByHand(Subject):
    """Code around redis-py: a key, a GET, and a SET after a miss."""

    kind: ClassVar[Kind] = "code"

    def open(self) -> None:
        self.client: redis.Redis = self.place.client()

    def close(self) -> None:
        self.client.close()

    @staticmethod
    def dumps(value: Any) -> bytes:
        """Make bytes of a value."""
        raise NotImplementedError

    @staticmethod
    def loads(data: bytes) -> Any:
        """Make a value of bytes."""
        raise NotImplementedError

    def decorate(self, function: Callable[..., Any], name: str) -> Any:
        def wrapper(*args: Any) -> Any:
            key = f"cache:{name}:{hashlib.md5(repr(args).encode(), usedforsecurity=False).hexdigest()}"
            found = self.client.get(key)
            if found is not None:
                return self.loads(found)  # type: ignore[arg-type]
            value = function(*args)
            self.client.set(key, self.dumps(value), ex=TTL)
            return value

        return wrapper


class Pickle(ByHand):
    """The fastest of them: pickle's protocol 5, nothing compressed."""

    name = "pickle 5"

    @staticmethod
    def dumps(value: Any) -> bytes:
        return pickle.dumps(value, protocol=5)

    @staticmethod
    def loads(data: bytes) -> Any:
        return pickle.loads(data)


class Zstd(ByHand):
    """A pickle, compressed with zstd -3."""

    name = "pickle, zstd -3"

    @staticmethod
    def dumps(value: Any) -> bytes:
        return zstandard.ZstdCompressor(level=3).compress(pickle.dumps(value))

    @staticmethod
    def loads(data: bytes) -> Any:
        return pickle.loads(zstandard.ZstdDecompressor().decompress(data))


class Gzip(ByHand):
    """A pickle, compressed with gzip -6."""

    name = "pickle, gzip -6"

    @staticmethod
    def dumps(value: Any) -> bytes:
        return gzip.compress(pickle.dumps(value), compresslevel=6)

    @staticmethod
    def loads(data: bytes) -> Any:
        return pickle.loads(gzip.decompress(data))


class Records(ByHand):
    """What services do to frames today: a list of dicts, pickled, compressed with gzip -6."""

    name = "to_dict, gzip -6"

    @staticmethod
    def dumps(value: Any) -> bytes:
        if isinstance(value, pd.DataFrame):
            item = {"type": "dataframe", "data": value.to_dict("records"), "index": value.index}
        else:
            item = {"type": "object", "data": value}
        return gzip.compress(pickle.dumps(item), compresslevel=6)

    @staticmethod
    def loads(data: bytes) -> Any:
        item = pickle.loads(gzip.decompress(data))
        return pd.DataFrame(item["data"], index=item["index"]) if item["type"] == "dataframe" else item["data"]


BY_HAND: list[type[Subject]] = [Pickle, Zstd, Gzip, Records]
