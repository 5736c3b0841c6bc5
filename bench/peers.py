"""Other memoizers, each with its defaults; what is set besides is what its user has to set, and why stands beside it."""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiocache
import aiocache.serializers
import cachier
import cashews
import diskcache
import dogpile.cache
import joblib
import redis_cache

from .subjects import TTL, AsyncSubject, Subject


class Cashews(AsyncSubject):
    """Pickles; calls of one process that come together share one computation."""

    name = distribution = "cashews"

    def open(self) -> None:
        self.cache = cashews.Cache()
        self.cache.setup(self.place.url)

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        return self.cache(ttl=TTL)(function)

    async def aclose(self) -> None:
        await self.cache.close()


class CashewsLock(Cashews):
    """With its lock against stampedes."""

    name = "cashews, lock=True"

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        return self.cache(ttl=TTL, lock=True)(function)


class Aiocache(AsyncSubject):
    """Its default for Redis is JSON, which takes no frames and no dates: the pickle serializer is one argument."""

    name = distribution = "aiocache"
    decorator: Callable[..., Any] = aiocache.cached

    def open(self) -> None:
        self.memoized: list[Any] = []

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        where = urlsplit(self.place.url)
        found = type(self).decorator(
            ttl=TTL,
            cache=aiocache.Cache.REDIS,
            endpoint=where.hostname,
            port=where.port,
            db=self.place.db,
            serializer=aiocache.serializers.PickleSerializer(),
        )(function)
        self.memoized.append(found)
        return found

    async def aclose(self) -> None:
        for one in self.memoized:
            await one.cache.close()


class AiocacheStampede(Aiocache):
    """With its lock against stampedes."""

    name = "aiocache, cached_stampede"
    decorator = aiocache.cached_stampede


class Dogpile(Subject):
    """Pickles; one computation among the threads of a process."""

    name = distribution = "dogpile.cache"
    arguments: dict[str, Any] = {}  # noqa: RUF012

    def open(self) -> None:
        self.region = dogpile.cache.make_region().configure(
            "dogpile.cache.redis", expiration_time=TTL, arguments={"url": self.place.url, **self.arguments}
        )

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        @functools.wraps(function)
        def own(*args: Any) -> Any:  # it hangs methods on the function that it is given, which others are given too
            return function(*args)

        return self.region.cache_on_arguments()(own)


class DogpileDistributed(Dogpile):
    """With its lock over all processes."""

    name = "dogpile.cache, distributed_lock"
    arguments = {"distributed_lock": True, "thread_local_lock": False}  # noqa: RUF012


class Cachier(Subject):
    """Pickles; who meets a computation under way looks once a second whether it has ended."""

    name = distribution = "cachier"

    def open(self) -> None:
        self.client = self.place.client()

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        return cachier.cachier(backend="redis", redis_client=self.client)(function)

    def close(self) -> None:
        self.client.close()


class PythonRedisCache(Subject):
    """Its default is JSON, for values and for keys; values are pickled here, as the rest of its users' types need it."""

    name = distribution = "python-redis-cache"

    def open(self) -> None:
        self.client = self.place.client()
        self.cache = redis_cache.RedisCache(
            redis_client=self.client, serializer=pickle.dumps, deserializer=pickle.loads, key_serializer=json.dumps
        )

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        return self.cache.cache(ttl=TTL)(function)

    def close(self) -> None:
        self.client.close()


class Joblib(Subject):
    """Files: a folder per entry."""

    name = "joblib.Memory"
    distribution = "joblib"
    on_server = False

    def open(self) -> None:
        self.memory = joblib.Memory(self.place.folder, verbose=0)

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        return self.memory.cache(function)

    def forget(self, memoized: Any, *args: Any) -> None:
        memoized.call_and_shelve(*args).clear()

    def stored(self) -> int:
        return sum(path.stat().st_size for path in self.place.folder.rglob("output.pkl"))


class Diskcache(Subject):
    """SQLite, and files for what is large."""

    name = distribution = "diskcache"
    on_server = False

    def open(self) -> None:
        self.cache = diskcache.Cache(str(self.place.folder))

    def decorate(self, function: Callable[..., Any], name: str) -> Any:  # noqa: ARG002
        return self.cache.memoize(expire=TTL)(function)

    def forget(self, memoized: Any, *args: Any) -> None:
        self.cache.delete(memoized.__cache_key__(*args))

    def stored(self) -> int:
        return sum(path.stat().st_size for path in self.place.folder.rglob("*") if path.suffix == ".val")

    def close(self) -> None:
        self.cache.close()


PEERS: list[type[Subject]] = [Cashews, Aiocache, Dogpile, Cachier, PythonRedisCache, Joblib, Diskcache]
GUARDED: list[type[Subject]] = [CashewsLock, AiocacheStampede, DogpileDistributed]
"""Those of them that have a guard against stampedes which is not their default."""
