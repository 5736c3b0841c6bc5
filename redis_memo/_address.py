"""URLs: what kind of set-up one names, its addresses, and redis-py's connections to any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from ._config import redacted
from ._wire import timed, timed_async
from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._wire import Connection

__all__ = ["Address", "Maker", "Named", "named", "placed"]

CLUSTER_PORT, SENTINEL_PORT = 6379, 26379
FORMS = (
    "redis://user:password@host:6379/0, rediss://... (TLS), unix:///path/to/socket?db=0, embedded://, "
    "redis+cluster://user:password@host1:6379,host2:6379/, redis+sentinel://user:password@host1:26379,host2:26379/"
    "mymaster/0; the last two with rediss+ for TLS"
)
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Named:
    """What a URL names.

    Attributes:
        kind: One server; a cluster; a master that sentinels know.
        url: As redis-py understands it: the server, or any node of the cluster or master, with a host of its own.
        seeds: The hosts of the URL: nodes of the cluster, or sentinels.
        service: What the sentinels call the master.
        sentinel_url: As ``url``, for the sentinels.
    """

    kind: Literal["single", "cluster", "sentinel"]
    url: str
    seeds: tuple[Address, ...] = ()
    service: str = ""
    sentinel_url: str = ""


def placed(url: str, address: Address) -> str:
    """A server's URL, as redis-py understands it, with another host and port."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{address}").geturl()


def _not_understood(url: str, why: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"the URL {redacted(url)} cannot be understood{f' ({why})' if why else ''}; forms: {FORMS}"
    )


def named(url: str) -> Named:
    """Understand a URL; nothing is contacted.

    Raises:
        ConfigurationError: It cannot be understood; the text shows no password.
    """
    scheme, _, rest = url.partition("://")
    plain, plus, kind = scheme.partition("+")
    try:
        parts = urlsplit(f"{plain}://{rest}")
    except ValueError as error:
        raise _not_understood(url) from error
    user, at, hosts = parts.netloc.rpartition("@")
    if not plus:
        if "," in hosts:
            raise _not_understood(url, "several hosts are for redis+cluster:// and redis+sentinel://")
        _check_path(url)
        return Named("single", url)
    seeds = _seeds(url, hosts, CLUSTER_PORT if kind == "cluster" else SENTINEL_PORT)
    path = [unquote(part) for part in parts.path.strip("/").split("/") if part]
    query = [pair for pair in parts.query.split("&") if pair]
    options = {pair.partition("=")[0] for pair in query}
    if kind == "cluster":
        if (path and path != ["0"]) or "db" in options:
            raise _not_understood(url, "a cluster has no databases but 0, and its URL no path")
        if wrong := options & {*SENTINEL_OPTIONS}:
            raise _not_understood(url, f"{min(wrong)} is for redis+sentinel://")
        return Named("cluster", f"{plain}://{user}{at}{seeds[0]}/?{parts.query}", seeds)
    if not path:
        raise _not_understood(url, "the path begins with the name by which the sentinels know the master: /mymaster/0")
    if len(path) > 2 or (len(path) == 2 and not path[1].isdigit()):
        raise _not_understood(url, "the path is /name/database, the database a number")
    database = path[1] if len(path) == 2 else "0"
    given = parse_qs(parts.query)
    kept = "&".join(pair for pair in query if pair.partition("=")[0] not in SENTINEL_OPTIONS)
    without_db = "&".join(pair for pair in kept.split("&") if not pair.startswith("db="))
    name, password = (quote(given.get(option, [""])[0], safe="") for option in SENTINEL_OPTIONS)
    own = f"{name}:{password}@" if name or password else ""
    return Named(
        "sentinel",
        f"{plain}://{user}{at}{seeds[0]}/{database}?{kept}",
        seeds,
        path[0],
        f"{plain}://{own}{seeds[0]}/?{without_db}",
    )


def _seeds(url: str, hosts: str, default: int) -> tuple[Address, ...]:
    found = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            address = Address(parts.hostname or "", default if parts.port is None else parts.port)
        except ValueError as error:
            raise _not_understood(url, "a port is a number up to 65535") from error
        if not address.host:
            raise _not_understood(url, "a host is missing between the commas" if "," in hosts else "it has no host")
        found.append(address)
    return tuple(dict.fromkeys(found))


def _check_path(url: str) -> None:
    """Refuse what redis-py lets pass: a socket without a name, a database that is no number."""
    parts = urlsplit(url)
    path = parts.path.strip("/")
    if not path if parts.scheme == "unix" else path and not path.isdigit():
        raise _not_understood(url)


def _refused_option(url: str, said: str) -> str:
    """Which option of a URL redis-py complains of; empty where it does not say."""
    parts = urlsplit(url)
    name = next((name for name in parse_qs(parts.query, keep_blank_values=True) if f"'{name}'" in said), "")
    if name.startswith("ssl_") and parts.scheme != "rediss":
        return f"the option {name} is for TLS, which has the scheme rediss"
    return name and f"its option {name} is unknown, or has a wrong value"


class Maker:
    """Makes redis-py's connections, with the URL's TLS and credentials, to any address.

    Args:
        url: As redis-py understands it.
        shown: The URL that the user gave, for messages.

    Attributes:
        options: What redis-py makes a connection of.

    Raises:
        ConfigurationError: redis-py does not understand it, or an option of it.
    """

    def __init__(self, url: str, shown: str | None = None) -> None:
        common: dict[str, Any] = {
            "socket_timeout": None,  # limited by ourselves
            "socket_connect_timeout": None,
            "protocol": 2,
            "health_check_interval": 0,
        }
        try:
            pools: tuple[Any, Any] = (
                redis.ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **common),
                redis.asyncio.ConnectionPool.from_url(url, retry=redis.asyncio.retry.Retry(NoBackoff(), 0), **common),
            )
            for pool, limited in zip(pools, (timed, timed_async), strict=True):
                pool.connection_class = limited(pool.connection_class)
                pool.connection_kwargs["decode_responses"] = False  # entries are bytes, whatever the URL says
                if "path" not in pool.connection_kwargs:
                    pool.connection_kwargs.setdefault("socket_keepalive", True)
                pool.connection_class(**pool.connection_kwargs)  # tells of an option that redis-py does not know
        except (ValueError, TypeError, redis.RedisError) as error:
            raise _not_understood(shown or url, _refused_option(url, str(error))) from error
        self._pools = pools
        self.options: dict[str, Any] = pools[0].connection_kwargs

    @property
    def address(self) -> Address:
        """The URL's own; without meaning for a Unix socket."""
        return Address(self.options.get("host", "localhost"), self.options.get("port", 6379))

    def make(self, kind: int, address: Address | None = None) -> Connection:
        """A connection that is not connected yet: for threads (0) or event loops (1)."""
        pool = self._pools[kind]
        # Not pool.make_connection(): it counts what was ever made, and refuses after a hundred. These are kept by us.
        if address is None:
            return pool.connection_class(**pool.connection_kwargs)
        return pool.connection_class(**{**pool.connection_kwargs, "host": address.host, "port": address.port})
