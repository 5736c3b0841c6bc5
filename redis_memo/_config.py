"""Settings: frozen, keyword-only, from arguments first and the environment second."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict
from urllib.parse import urlsplit

from ._bounds import Limits, checked_limits
from ._durations import duration
from .errors import ConfigurationError

if TYPE_CHECKING:
    from .events import EventHook

__all__ = [
    "LEFT_OUT", "Compression", "Keywords", "LeftOut", "OnError", "ReadFrom", "Settings", "checked_choice",
    "checked_early", "is_plain_function", "redacted", "some_duration", "url_variable",
]  # fmt: skip

Compression: TypeAlias = Literal["auto", "fast", "small"] | None
OnError: TypeAlias = Literal["compute", "raise"]
Secret: TypeAlias = str | bytes | Iterable[str | bytes]

SCHEMES = (
    "redis", "rediss", "unix", "embedded", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel",
)  # fmt: skip
ReadFrom: TypeAlias = Literal["master", "replica"]


class LeftOut(Enum):
    """The type of `LEFT_OUT`."""

    LEFT_OUT = "LEFT_OUT"

    def __repr__(self) -> str:
        return "..."


LEFT_OUT: Final = LeftOut.LEFT_OUT
"""An argument that was not given, where None means something."""


def _secrets(secret: Secret | None, where: str = "") -> tuple[bytes, ...]:
    """Secrets as bytes, the signing one first; a string may hold several, separated by commas."""
    if secret is None:
        return ()
    if isinstance(secret, str):
        given: list[str | bytes] = [part.strip() for part in secret.split(",")]
    elif isinstance(secret, (bytes, bytearray)):
        given = [bytes(secret)]
    elif isinstance(secret, Iterable):
        given = list(secret)
    else:
        raise ConfigurationError("secret= takes a string, bytes, or a sequence of them")
    found = []
    for part in given:
        if not isinstance(part, (str, bytes, bytearray)):
            raise ConfigurationError("secret= takes a string, bytes, or a sequence of them")
        raw = part.encode() if isinstance(part, str) else bytes(part)
        if len(raw) < 16:
            raise ConfigurationError(
                f"{where}a secret has fewer than 16 bytes: it could be guessed. Make one with: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        found.append(raw)
    return tuple(found)


def url_variable(environ: Mapping[str, str]) -> str | None:
    """The variable of the environment that says where the cache lives."""
    return next((name for name in ("REDIS_MEMO_URL", "REDIS_URL") if environ.get(name)), None)


def _may_be_embedded(environ: Mapping[str, str]) -> bool:
    given = environ.get("REDIS_MEMO_EMBEDDED", "").strip().lower()
    if given not in ("", "never"):
        # It guards production: whoever wrote "no" or "nver" meant it to.
        raise ConfigurationError("REDIS_MEMO_EMBEDDED is neither empty nor 'never': write REDIS_MEMO_EMBEDDED=never")
    return not given


def is_plain_function(value: object) -> bool:
    """Whether it can be called and need not be awaited."""
    return callable(value) and not (
        inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(type(value), "__call__", None))  # noqa: B004
    )


def redacted(url: str) -> str:
    """The URL without user, password and query: fit for a log line."""
    scheme = url.partition("://")[0]
    try:
        parts = urlsplit(url)
        if "+" in scheme or "," in parts.netloc:
            hosts = parts.netloc.rpartition("@")[2]
            # What is no host and port may be part of a password with a slash in it.
            each = [re.fullmatch(r"([\w.-]+|\[[\w:]+\])(:\d+)?", host) for host in hosts.split(",")]
            shown = all(each) and re.fullmatch(r"[\w./-]*", parts.path)
            return f"{scheme}://{hosts}{parts.path}" if shown else f"{scheme}://..."
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return f"{scheme}://..."
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def checked_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ConfigurationError unless ``value`` is one of ``choices``."""
    if value not in choices or isinstance(value, bool):
        near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, choices))}.{hint}")


def some_duration(name: str, value: object) -> float | None:
    """The seconds of an option, or None where it is left out. Raises ConfigurationError."""
    return None if value is None else duration(name, value)


def checked_early(value: object) -> float:
    """XFetch's beta: 1 is the paper's, more is earlier, 0 is never. Raises ConfigurationError."""
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, (int, float)) or not 0.0 <= value <= 100.0:
        raise ConfigurationError("early= takes True, False or XFetch's beta: a number from 0 (never) to 100")
    return float(value)


def _checked_seconds(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigurationError(f"{name} must be a number of seconds between {low:g} and {high:g}")


class Keywords(TypedDict, total=False):
    """What `connect` takes beside the URL; see `configure` for what each setting means."""

    secret: Secret | None
    allow_unsigned_pickle: bool
    ttl: object
    timeout: float
    lease: float
    max_wait: float
    workers: int
    limits: Mapping[str, Limits]
    read_from: ReadFrom
    wait: int
    on_event: EventHook | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that one cache can be told. See `configure` for what each setting means."""

    url: str = "embedded://"
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    allow_unsigned_pickle: bool = False
    ttl: object = None
    timeout: float = 1.0
    lease: float = 10.0
    max_wait: float = 60.0
    workers: int = 8
    limits: Mapping[str, Limits] = field(default_factory=dict)
    read_from: ReadFrom = "master"
    wait: int = 0
    on_event: EventHook | None = None

    @classmethod
    def build(
        cls,
        url: str | None = None,
        *,
        secret: Secret | None = None,
        environ: Mapping[str, str] | None = None,
        **given: object,
    ) -> Settings:
        """Check the arguments and fill in what is left out from the environment.

        Args:
            url: Where the cache lives; ``REDIS_MEMO_URL``, ``REDIS_URL`` and the embedded server follow.
            secret: Signing secret or secrets; ``REDIS_MEMO_SECRET`` follows.
            environ: The environment, for tests.
            **given: The other fields.

        Raises:
            ConfigurationError: A value is wrong; the text never shows a secret.
        """
        environ = os.environ if environ is None else environ
        named = "url"
        if url is None:
            variable = url_variable(environ)
            named, url = (variable, environ[variable]) if variable else ("url", "embedded://")
        found: object = url
        if not isinstance(found, str) or not url:
            raise ConfigurationError("url must be a string such as 'redis://localhost:6379/0'")
        scheme = url.partition("://")[0] if "://" in url else ""
        if scheme not in SCHEMES:
            near = difflib.get_close_matches(scheme, SCHEMES, 1) if scheme else []
            raise ConfigurationError(
                f"{named} has {f'the unknown scheme {scheme!r}' if scheme else 'no scheme'};"
                f"{f' did you mean {near[0]}://?' if near else ''} use one of {', '.join(f'{s}://' for s in SCHEMES)}"
            )
        if not _may_be_embedded(environ) and scheme == "embedded":
            raise ConfigurationError(
                "the embedded server is refused by REDIS_MEMO_EMBEDDED=never, and no other is configured: "
                "set REDIS_MEMO_URL or call configure(url='redis://...')"
            )
        if secret is None and (from_environment := environ.get("REDIS_MEMO_SECRET")):
            secrets = _secrets(from_environment, "REDIS_MEMO_SECRET: ")
        else:
            secrets = _secrets(secret)
        if not isinstance(given.get("allow_unsigned_pickle", False), bool):
            raise ConfigurationError("allow_unsigned_pickle is True or False")
        settings = cls(url=url, secrets=secrets, **given)  # type: ignore[arg-type]
        _checked_seconds("timeout", settings.timeout, 0.01, 600)
        _checked_seconds("lease", settings.lease, 0.5, 3600)
        _checked_seconds("max_wait", settings.max_wait, 0, 86400)
        if type(settings.workers) is not int or not 1 <= settings.workers <= 1000:
            raise ConfigurationError("workers must be a whole number between 1 and 1000")
        checked_limits(settings.limits)
        checked_choice("read_from", settings.read_from, ("master", "replica"))
        if settings.read_from == "replica" and "+" not in scheme:
            raise ConfigurationError(
                f"read_from='replica' needs a URL that tells of replicas, redis+cluster:// or redis+sentinel://, not {scheme}://"
            )
        if type(settings.wait) is not int or not 0 <= settings.wait <= 100:
            raise ConfigurationError("wait must be a number of replicas between 0 and 100")
        if settings.wait and scheme == "embedded":
            raise ConfigurationError("wait= is for a server with replicas; the embedded one has none")
        hook: object = settings.on_event
        if hook is not None and not is_plain_function(hook):
            raise ConfigurationError("on_event takes a plain function of one event")
        return settings
