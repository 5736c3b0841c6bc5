"""The process-wide cache, and others beside it: `configure`, `connect`."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from ._cache import Cache
from ._config import Keywords, Settings, url_variable
from ._policy import as_policy
from ._user_calendar import use_calendar
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Unpack

    from ._user_calendar import Source

__all__ = ["chosen_cache", "configure", "connect", "default_cache"]

_default: Cache | None = None
_default_lock = threading.Lock()


def connect(url: str | None = None, **settings: Unpack[Keywords]) -> Cache:
    """A cache of its own, for ``redis_cached(cache=...)``; nothing is contacted before the first call.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``embedded://`` or ``embedded:///a/folder``;
            ``redis+cluster://host1:6379,host2:6379/``, ``redis+sentinel://host1:26379,host2:26379/mymaster/0``; with
            ``rediss+`` by TLS. Left out: ``REDIS_MEMO_URL``, else ``REDIS_URL``, else the embedded server.
        **settings: As for `configure`.

    Returns:
        The cache.

    Raises:
        ConfigurationError: A setting is unknown or wrong.
    """
    if "calendar" in settings:
        raise ConfigurationError("calendar= is for the whole process, not for one cache: configure(calendar=...)")
    _check_names(settings, {"url", *Keywords.__annotations__})
    if settings.get("ttl") is not None:
        as_policy(settings["ttl"])  # says now what is wrong with it
    built = Settings.build(url, **settings)
    try:
        return Cache(built)
    except ConfigurationError as error:  # of the URL, which is understood only now
        variable = url_variable(os.environ) if url is None else None
        if variable is None:
            raise
        raise ConfigurationError(f"{variable}: {error}") from error.__cause__


def _check_names(settings: Iterable[str], known: Collection[str]) -> None:
    for name in settings:
        if name not in known:
            raise ConfigurationError(f"unknown setting {name!r}; known: {', '.join(sorted(known))}")


def configure(url: str | None = None, *, calendar: Source | None = None, **settings: Unpack[Keywords]) -> Cache:
    """Choose the process-wide default cache; functions decorated earlier follow.

    Args:
        url: As for `connect`.
        secret: Signs entries, so that pickles can be trusted; at least 16 bytes. Several (a sequence, or one
            string with commas) rotate: all verify, the first signs. Default: ``REDIS_MEMO_SECRET``; the
            embedded server makes its own.
        allow_unsigned_pickle: Store and open pickles without a secret. Whoever can write to the server can
            then run code in this process.
        ttl: Expiry of functions that state none.
        timeout: Seconds that one exchange with the server may take (default 1).
        lease: Seconds after which a computation whose process died is taken over (default 10).
        max_wait: Seconds that a call waits for another's computation before it computes itself (default 60).
        workers: How many refreshes may run behind their callers at once (default 8). A function of which as many
            runs go on past their time limit is not run until one of them ends.
        limits: Bounds on namespaces, such as ``{"stock_data": Limits(maxbytes="2gb")}``: of all their functions
            together, kept behind the callers (docs/bounds.md).
        read_from: ``"replica"``: hits are read from replicas of a cluster or of what sentinels know. A call may then
            get the old value for as long as its replica lags behind an invalidation. Default: ``"master"``.
        wait: How many replicas must have confirmed an invalidation or a ``store`` before it returns (default 0). One
            that they have not confirmed within half of ``timeout`` raises, or returns False.
        on_event: A function that is told what happens to the server: one of the events in `redis_memo.events`.
        calendar: Sessions and holidays of your own, which come before those that the package knows: a path to a TOML,
            CSV or ICS file or to a circular's table, a mapping of exchanges, a function of exchange and date, or
            several of these (docs/calendar.md). For the whole process. Default: ``REDIS_MEMO_CALENDAR``.
        **settings: These settings; all of them are keywords.

    Returns:
        The new default cache.

    Raises:
        ConfigurationError: A setting is unknown or wrong.
    """
    global _default
    _check_names(settings, {"url", "calendar", *Keywords.__annotations__})
    cache = connect(url, **settings)
    use_calendar(calendar)
    with _default_lock:
        old, _default = _default, cache
    if old is not None:
        old.close()
    return cache


def chosen_cache() -> Cache | None:
    """The process-wide cache, if `configure` or a first use has made one."""
    return _default


def default_cache() -> Cache:
    """The process-wide cache, made from the environment when nothing was configured."""
    global _default  # noqa: PLW0603 - the one process-wide thing there is
    if _default is None:
        with _default_lock:
            if _default is None:
                _default = connect()
    return _default


def _after_fork() -> None:
    global _default_lock  # noqa: PLW0603
    _default_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
