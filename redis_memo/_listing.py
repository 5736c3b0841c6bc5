"""What a server holds, read from our own index keys; in batches, and without holding the server up.

Namespaces are found by SCAN, in steps; the functions of one in its registry, the entries of one in its index. A listing
goes on where the last one ended, by a cursor that names a place and not a number, so that entries that come and go
meanwhile move nothing. Where an index was evicted (``allkeys-*``), entries are there that no index knows:
`unlisted` finds them by SCAN.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ._envelope import CHUNKS, HEAD, MAGIC, TAG
from ._failures import translated
from ._identity import namespace_prefix
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._cache import Cache

__all__ = [
    "FunctionRow", "Row", "Total", "asking", "count_matching", "entry_rows", "functions", "namespaces", "prefixes",
    "server_time", "software", "split_key", "total", "unlisted",
]  # fmt: skip

STEP = 1000  # keys that one SCAN looks at
BATCH = 200  # entries that are asked for together
EXACT = 10_000  # entries up to which the bytes of a function are summed up one by one

_PREFIX = re.compile(
    r"memo:\{(?P<namespace>[^{}:]+):(?P<function>[^{}:]+):(?P<version>[^{}:]*)#(?P<shard>\d+)(?P<shards>\.\d+)?\}:"
)
_ENTRY = re.compile(_PREFIX.pattern + r"(?P<digest>[0-9a-f]{40})")


class FunctionRow(NamedTuple):
    """A function of a namespace.

    Attributes:
        prefixes: What its keys begin with, one for each shard.
        name: Its identity: module and qualified name, or the name that it was given.
        version: As given to the decorator.
        entries: How many have not expired.
        written: When it was last noted, seconds since 1970; None where no registry says so.
    """

    prefixes: tuple[str, ...]
    name: str
    version: str
    entries: int
    written: float | None


class Row(NamedTuple):
    """An entry.

    Attributes:
        key: Its Redis key.
        age: Seconds since it was made, by its writer's clock; None where its head cannot be read. So the next one.
        compute: Seconds that the function took.
        ttl: Seconds that it has left.
        size: Bytes stored, chunks included.
    """

    key: str
    age: float | None
    compute: float | None
    ttl: float
    size: int


class Total(NamedTuple):
    """The entries of a function together.

    Attributes:
        entries: How many have not expired.
        computing: How many calls are listed that have a lease and no entry.
        size: Bytes stored, chunks included.
        exact: Whether all were looked at; else the size is what a sample says.
    """

    entries: int
    computing: int
    size: int
    exact: bool


@contextlib.contextmanager
def asking(cache: Cache, key: str | None = None, *, seconds: float = 5.0) -> Iterator[Any]:
    """A connection of redis-py to a cache's server, for what no operation asks.

    Args:
        cache: Whose server.
        key: On a cluster, what the node is asked about: a key, or what the keys of a function's shard begin with.
        seconds: Time limit of one exchange.

    Raises:
        ConfigurationError: It is a cluster, and no key says which node is meant.
        StoreError: The server could not be reached, or refused.
    """
    where = cache.backend.where
    try:
        client = redis.Redis.from_url(
            cache.backend.address(key),
            decode_responses=False,
            protocol=2,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
        )
        with client:
            yield client
    except (redis.RedisError, OSError) as error:
        ours = translated(error, where)
        if ours is None:
            raise
        raise ours from error


def split_key(key: str) -> tuple[str, str] | None:
    """The function's prefix and the digest in an entry's key; None where it is no such key."""
    found = _ENTRY.fullmatch(key)
    return None if found is None else (key[: -len(found["digest"])], found["digest"])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def namespaces(client: Any, cursor: int = 0, limit: int = 1000) -> tuple[dict[str, int], int]:
    """Namespaces with the number of their functions, and the cursor to go on with; 0 where that was all.

    They come as SCAN finds them: at least ``limit`` before it stops, unless there are fewer.
    """
    found: dict[str, int] = {}
    while True:
        cursor, keys = client.scan(cursor, match="memo:{*}:functions", count=STEP)
        if keys:
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.zcard(key)
                counts = pipe.execute(raise_on_error=False)
            for key, count in zip(keys, counts, strict=True):
                name = _text(key).removeprefix("memo:{").removesuffix("}:functions")
                if isinstance(count, int) and not set("{}:") & set(name):
                    found[unquote(name)] = count
        if cursor == 0 or len(found) >= limit:
            return found, cursor


def prefixes(client: Any, namespace: str, *, scan: bool = False) -> dict[str, float | None]:
    """Prefixes of a namespace's functions, and when each was last noted in its registry.

    Args:
        client: As of `asking`.
        namespace: As given to the decorator.
        scan: Look through all keys as well, for functions that the registry lost.
    """
    start = namespace_prefix(namespace)
    registry = f"{start[:-1]}}}:functions"
    found: dict[str, float | None] = {
        _text(member): score / 1000 for member, score in client.zrange(registry, 0, -1, withscores=True)
    }
    if scan or not found:
        for key in client.scan_iter(f"{_glob(start)}*", count=STEP):
            match = _PREFIX.match(_text(key))
            if match is not None:
                found.setdefault(match[0], None)
    return {prefix: noted for prefix, noted in found.items() if _PREFIX.fullmatch(prefix)}


def _glob(text: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)


def functions(client: Any, namespace: str) -> list[FunctionRow]:
    """The functions of a namespace, by name; found by SCAN where its registry is gone."""
    noted = prefixes(client, namespace)
    now = server_time(client)
    with client.pipeline(transaction=False) as pipe:
        for prefix in noted:
            pipe.zcount(f"{prefix}index", int(now * 1000), "+inf")
        counts = pipe.execute()
    shards: dict[tuple[str, str, str], list[tuple[int, str, int, float | None]]] = {}
    for (prefix, written), count in zip(noted.items(), counts, strict=True):
        parts = _PREFIX.fullmatch(prefix)
        assert parts is not None
        # With another number of shards it finds other entries.
        what = unquote(parts["function"]), unquote(parts["version"]), parts["shards"] or ""
        shards.setdefault(what, []).append((int(parts["shard"]), prefix, count, written))
    rows = []
    for (name, version, _), found in sorted(shards.items()):
        found.sort()
        _, own, counted, moments = zip(*found, strict=True)
        last = max((moment for moment in moments if moment is not None), default=None)
        rows.append(FunctionRow(own, name, version, sum(counted), last))
    return rows


def server_time(client: Any) -> float:
    """The server's clock, in seconds since 1970."""
    seconds, micros = client.time()
    return float(seconds) + float(micros) / 1e6


def software(info: dict[str, Any]) -> tuple[str, str]:
    """Name and version of a server, by what INFO says; Valkey also claims to be a Redis of old."""
    version = info.get("valkey_version")
    return ("Valkey", str(version)) if version else ("Redis", str(info.get("redis_version", "?")))


def entry_rows(client: Any, prefix: str, cursor: str = "", limit: int = 100) -> tuple[list[Row], str]:
    """Entries of a function by expiry, the soonest first, and the cursor to go on with; empty where that was all.

    Raises:
        ConfigurationError: The cursor is none of this listing's.
    """
    now = server_time(client)
    score, _, last = cursor.partition("-")
    if cursor and not (score.isdigit() and re.fullmatch("[0-9a-f]{40}", last)):
        raise ConfigurationError("the cursor is not one that this listing gave out")
    least = max(int(score or 0), int(now * 1000))
    listed: list[tuple[str, int]] = []
    offset = 0
    while len(listed) <= limit:  # one more tells that there are more
        step = min(limit + 1, BATCH)
        page = client.zrangebyscore(f"{prefix}index", least, "+inf", start=offset, num=step, withscores=True)
        offset += len(page)
        # Redis orders what expires in the same millisecond by digest.
        listed += [(_text(d), int(s)) for d, s in page if (int(s), _text(d)) > (int(score or 0), last)]
        if len(page) < step:
            break
    shown = listed[:limit]
    rows = [row for at in range(0, len(shown), BATCH) for row in _rows(client, prefix, shown[at : at + BATCH], now)]
    more = f"{shown[-1][1]}-{shown[-1][0]}" if len(listed) > limit else ""
    return rows, more


def _rows(client: Any, prefix: str, listed: list[tuple[str, int]], now: float) -> list[Row]:
    with client.pipeline(transaction=False) as pipe:
        for digest, _ in listed:
            pipe.pttl(prefix + digest)
            pipe.strlen(prefix + digest)
            pipe.getrange(prefix + digest, 0, HEAD.size - 1)
        answers = pipe.execute()
    rows = []
    for number, (digest, _) in enumerate(listed):
        left, size, head = answers[number * 3 : number * 3 + 3]
        if left < 0:  # it expired meanwhile, or was evicted
            continue
        age = compute = None
        if len(head) == HEAD.size and head[:4] == MAGIC:
            # The head is not verified: it is shown, and nothing follows from it.
            created, compute = HEAD.unpack(head)[6:8]
            age = max(0.0, now - created)
            size += _beside(client, prefix + digest, head)
        rows.append(Row(prefix + digest, age, compute, left / 1000, size))
    return rows


def _beside(client: Any, key: str, head: bytes) -> int:
    """Bytes of an entry's chunks; as in index.lua."""
    count = min(int.from_bytes(head[CHUNKS], "little"), 4096)
    if not count:
        return 0
    with client.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.strlen(f"{key}:{head[TAG].hex()}:{number}")
        return sum(pipe.execute())


def total(client: Any, prefix: str) -> Total:
    """The entries of a function together."""
    now = server_time(client)
    index = f"{prefix}index"
    count = client.zcount(index, int(now * 1000), "+inf")
    computing = client.zcount(index, "-inf", "(0")
    size = seen = 0
    cursor = ""
    while seen < EXACT:
        rows, cursor = entry_rows(client, prefix, cursor, BATCH)
        seen += len(rows)
        size += sum(row.size for row in rows)
        if not cursor:
            break
    exact = not cursor
    return Total(count, computing, size if exact or not seen else round(size / seen * count), exact)


def count_matching(client: Any, prefix: str, tokens: tuple[bytes, ...]) -> int:
    """How many entries have all of these tokens; what `dropmatching.lua` would find."""
    if not tokens:
        return int(client.zcount(f"{prefix}index", int(server_time(client) * 1000), "+inf"))
    found: set[bytes] | None = None
    for token in tokens:
        row = b"t" + token
        members = client.zrangebylex(f"{prefix}args", b"[" + row, b"(" + row + b"\xff")
        digests = {member[-40:] for member in members}
        found = digests if found is None else found & digests
    standing = 0
    listed = sorted(found or ())
    for at in range(0, len(listed), BATCH):
        with client.pipeline(transaction=False) as pipe:
            for digest in listed[at : at + BATCH]:
                pipe.exists(prefix.encode() + digest)
            standing += sum(pipe.execute())
    return standing


def unlisted(client: Any, prefix: str) -> Iterator[str]:
    """Digests of a function's entries that its index does not list, as after its eviction; by SCAN."""
    cursor = 0
    seen: set[str] = set()  # SCAN may find a key twice
    while True:
        cursor, keys = client.scan(cursor, match=f"{_glob(prefix)}*", count=STEP)
        split = [found for found in (split_key(_text(key)) for key in keys) if found is not None]
        digests = [digest for start, digest in split if start == prefix and digest not in seen]
        if digests:
            with client.pipeline(transaction=False) as pipe:
                for digest in digests:
                    pipe.zscore(f"{prefix}index", digest)
                scores = pipe.execute()
            for digest, score in zip(digests, scores, strict=True):
                if score is None and digest not in seen:
                    seen.add(digest)
                    yield digest
        if cursor == 0:
            return
