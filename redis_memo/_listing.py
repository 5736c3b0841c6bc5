"""What a store holds, read from our own index keys; in batches, and without holding a server up.

Namespaces are found by SCAN, in steps, of each master; the functions of one in its registry, the entries of one in its
index. A listing goes on where the last one ended, by a cursor that names a place and not a number, so that entries that
come and go meanwhile move nothing. Where an index was evicted (``allkeys-*``), entries are there that no index knows:
`unlisted` finds them by SCAN.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AskError, TryAgainError
from redis.retry import Retry

from ._envelope import CHUNKS, HEAD, MAGIC, TAG
from ._failures import translated
from ._identity import namespace_prefix, registry
from .errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._engine import Engine

__all__ = [
    "FunctionRow", "Look", "Row", "Total", "asking", "count_matching", "entry_rows", "functions", "namespaces",
    "of_one_function", "place_of", "prefixes", "server_time", "software", "split_key", "total", "unlisted",
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
        shards: As given to the decorator; not all of them may have been written to yet.
        entries: How many have not expired.
        written: When it was last noted, seconds since 1970; None where no registry says so.
    """

    prefixes: tuple[str, ...]
    name: str
    version: str
    shards: int
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


class Look:
    """Connections of redis-py to a store's servers, for what no operation asks; made by `asking`.

    Args:
        engine: Whose servers.
        seconds: Time limit of one exchange.
    """

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._backend = engine.backend
        self._seconds = seconds
        self._clients: dict[str, Any] = {}

    def _client(self, address: str) -> Any:
        if address not in self._clients:
            self._clients[address] = redis.Redis.from_url(
                address,
                decode_responses=False,
                protocol=2,
                socket_timeout=self._seconds,
                socket_connect_timeout=self._seconds,
                retry=Retry(NoBackoff(), 0),
            )
        return self._clients[address]

    def at(self, key: str) -> Any:
        """The server that has a key, or what the keys of a function's shard begin with."""
        return self._client(self._backend.address(key))

    def each(self) -> dict[str, Any]:
        """All servers that are written to, by host and port, in that order."""
        named = {urlsplit(each).netloc.rpartition("@")[2]: each for each in self._backend.addresses()}
        return {name: self._client(named[name]) for name in sorted(named)}

    def together(self, prefixes: Iterable[str]) -> Iterator[tuple[Any, list[str]]]:
        """The servers that have shards, each with those that it has."""
        found: dict[str, list[str]] = {}
        for prefix in prefixes:
            found.setdefault(self._backend.address(prefix), []).append(prefix)
        for address, its in found.items():
            yield self._client(address), its

    def close(self) -> None:
        """Close them."""
        for client in self._clients.values():
            client.close()


@contextlib.contextmanager
def asking(engine: Engine, *, seconds: float = 5.0) -> Iterator[Look]:
    """Connections of redis-py to a cache's servers, for what no operation asks.

    Args:
        engine: Whose servers.
        seconds: Time limit of one exchange.

    Raises:
        StoreError: A server could not be reached, or refused; or what is asked for is just moving to another.
    """
    where = engine.backend.where
    look = Look(engine, seconds)
    try:
        yield look
    except (redis.RedisError, OSError) as error:
        if engine.backend.spread and isinstance(error, (AskError, TryAgainError)):  # MovedError is an AskError
            raise StoreUnavailable(f"{where}: some keys are just moving to another node; repeat it") from error
        ours = translated(error, where)
        if ours is None:
            raise
        raise ours from error
    finally:
        look.close()


def split_key(key: str) -> tuple[str, str] | None:
    """The function's prefix and the digest in an entry's key; None where it is no such key."""
    found = _ENTRY.fullmatch(key)
    return None if found is None else (key[: -len(found["digest"])], found["digest"])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def namespaces(look: Look, cursor: str = "", limit: int = 1000) -> tuple[dict[str, int], str]:
    """Namespaces with the number of their functions, and the cursor to go on with; empty where that was all.

    They come as SCAN finds them, server by server: at least ``limit`` before it stops, unless there are fewer.

    Raises:
        ConfigurationError: The cursor is none of this listing's, or its server is none of the store's any more.
    """
    found: dict[str, int] = {}
    servers = look.each()
    place, _, number = cursor.rpartition("/")
    names = list(servers)
    if cursor and not (number.isdigit() and (place in names or not place)):
        raise ConfigurationError("the cursor is not one that this listing gave out")
    at = names.index(place) if place else 0
    step = int(number or 0)
    while len(found) < limit:
        step, some = _namespaces(servers[names[at]], step)
        found.update(some)
        at += step == 0
        if at == len(names):
            return found, ""
    return found, f"{names[at]}/{step}" if len(names) > 1 else str(step)


def _namespaces(client: Any, cursor: int) -> tuple[int, dict[str, int]]:
    found = {}
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
    return cursor, found


def prefixes(look: Look, namespace: str, *, scan: bool = False) -> dict[str, float | None]:
    """Prefixes of a namespace's functions, and when each was last noted in its registry.

    Args:
        look: As of `asking`.
        namespace: As given to the decorator.
        scan: Look through all keys as well, for functions that the registry lost.
    """
    listed = registry(namespace)
    found: dict[str, float | None] = {
        _text(member): score / 1000 for member, score in look.at(listed).zrange(listed, 0, -1, withscores=True)
    }
    if scan or not found:
        pattern = f"{_glob(namespace_prefix(namespace))}*"
        for client in look.each().values():
            for key in client.scan_iter(pattern, count=STEP):
                match = _PREFIX.match(_text(key))
                if match is not None:
                    found.setdefault(match[0], None)
    return {prefix: noted for prefix, noted in found.items() if _PREFIX.fullmatch(prefix)}


def of_one_function(prefix: str, others: Iterable[str]) -> list[str]:
    """Those of the others that are the same function and version, in whatever shard of whatever number of them."""
    own = prefix.rpartition("#")[0]
    return [each for each in others if each.rpartition("#")[0] == own]


def place_of(prefix: str) -> tuple[int, int]:
    """Of how many shards one is, and which."""
    parts = _PREFIX.fullmatch(prefix)
    assert parts is not None
    return int((parts["shards"] or ".1")[1:]), int(parts["shard"])


def _glob(text: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)


def functions(look: Look, namespace: str) -> list[FunctionRow]:
    """The functions of a namespace, by name; found by SCAN where its registry is gone."""
    noted = prefixes(look, namespace)
    rows: dict[tuple[str, str, int], list[tuple[int, str, int]]] = {}
    for client, some in look.together(noted):
        now = int(server_time(client) * 1000)
        with client.pipeline(transaction=False) as pipe:
            for prefix in some:
                pipe.zcount(f"{prefix}index", now, "+inf")
            counts = pipe.execute()
        for prefix, count in zip(some, counts, strict=True):
            parts = _PREFIX.fullmatch(prefix)
            assert parts is not None
            shards, shard = place_of(prefix)
            # With another number of shards it finds other entries.
            what = unquote(parts["function"]), unquote(parts["version"]), shards
            rows.setdefault(what, []).append((shard, prefix, count))
    found = []
    for what, shards_of_it in sorted(rows.items()):
        _, own, counted = zip(*sorted(shards_of_it), strict=True)
        last = max((moment for moment in (noted[prefix] for prefix in own) if moment is not None), default=None)
        found.append(FunctionRow(own, *what, sum(counted), last))
    return found


def server_time(client: Any) -> float:
    """The server's clock, in seconds since 1970."""
    seconds, micros = client.time()
    return float(seconds) + float(micros) / 1e6


def software(info: dict[str, Any]) -> tuple[str, str]:
    """Name and version of a server, by what INFO says; Valkey also claims to be a Redis of old."""
    version = info.get("valkey_version")
    return ("Valkey", str(version)) if version else ("Redis", str(info.get("redis_version", "?")))


def entry_rows(look: Look, prefix: str, cursor: str = "", limit: int = 100) -> tuple[list[Row], str]:
    """Entries of a function by expiry, the soonest first, and the cursor to go on with; empty where that was all.

    Raises:
        ConfigurationError: The cursor is none of this listing's.
    """
    client = look.at(prefix)
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


def total(look: Look, prefix: str) -> Total:
    """The entries of a function's shard together."""
    client = look.at(prefix)
    now = server_time(client)
    index = f"{prefix}index"
    count = client.zcount(index, int(now * 1000), "+inf")
    computing = client.zcount(index, "-inf", "(0")
    size = seen = 0
    cursor = ""
    while seen < EXACT:
        rows, cursor = entry_rows(look, prefix, cursor, BATCH)
        seen += len(rows)
        size += sum(row.size for row in rows)
        if not cursor:
            break
    exact = not cursor
    return Total(count, computing, size if exact or not seen else round(size / seen * count), exact)


def count_matching(look: Look, prefix: str, tokens: tuple[bytes, ...]) -> int:
    """How many entries of a shard have all of these tokens; what `dropmatching.lua` would find."""
    client = look.at(prefix)
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


def unlisted(look: Look, prefixes: Iterable[str]) -> dict[str, set[str]]:
    """Digests of entries that their shard's index does not list, as after its eviction; by one SCAN of each server.

    Args:
        look: As of `asking`.
        prefixes: Of the shards.
    """
    found: dict[str, set[str]] = {prefix: set() for prefix in prefixes}
    if not found:
        return found
    pattern = f"{_glob(_beginning(found))}*"
    for client in look.each().values():
        for keys in _scanned(client, pattern):
            split = [each for each in (split_key(_text(key)) for key in keys) if each is not None and each[0] in found]
            with client.pipeline(transaction=False) as pipe:
                for prefix, digest in split:
                    pipe.zscore(f"{prefix}index", digest)
                scores = pipe.execute() if split else []
            for (prefix, digest), score in zip(split, scores, strict=True):
                if score is None:
                    found[prefix].add(digest)  # SCAN may find a key twice
    return found


def _beginning(texts: Iterable[str]) -> str:
    """What they all begin with."""
    first, last = min(texts), max(texts)
    return first[: next((at for at, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1), len(first))]


def _scanned(client: Any, pattern: str) -> Iterator[list[bytes]]:
    cursor = 0
    while True:
        cursor, keys = client.scan(cursor, match=pattern, count=STEP)
        yield keys
        if cursor == 0:
            return
