"""Every error this package raises, as one tree.

::

    RedisMemoError
    ├── ConfigurationError      a setting, URL or decorator argument is wrong: always raised
    │   └── MisusedDecorator    redis_cached without parentheses or a namespace, by position (also a TypeError)
    ├── KeyingError             an argument cannot become part of a key (also a TypeError)
    ├── SerializationError      a value cannot be stored, or stored bytes cannot be read
    │   ├── UnsupportedType     no codec for this type, and pickle is not allowed or failed
    │   ├── UnreadableEntry     damaged, foreign, newer or wrongly signed bytes
    │   └── NoSuchColumn        peek_columns was asked for one that the stored frame has not (also a LookupError)
    ├── StoreError              Redis did not do what was asked
    │   ├── StoreUnavailable    it could not be reached, gave no answer in time, or is still loading
    │   └── StoreRefused        it answered with an error (out of memory, read-only, no permission)
    ├── BatchError              map()'s batch function gave no result for a call (also a LookupError)
    └── ComputeTimeout          the function took longer than hard_timeout= (also a TimeoutError)

``ConfigurationError`` and ``KeyingError`` are the caller's to fix and always reach the caller;
``BatchError``, ``ComputeTimeout`` and ``NoSuchColumn`` reach callers of ``map``, ``hard_timeout=`` and
``peek_columns``. ``SerializationError`` and ``StoreError`` otherwise never reach the caller of a decorated function,
unless it was decorated with ``on_error="raise"``: an entry that cannot be read is a miss, and a store that fails
costs the caching, not the result.
No message contains an argument of a decorated function, a cached value or a secret.
"""

from __future__ import annotations

__all__ = [
    "BatchError",
    "ComputeTimeout",
    "ConfigurationError",
    "KeyingError",
    "MisusedDecorator",
    "NoSuchColumn",
    "RedisMemoError",
    "SerializationError",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "UnreadableEntry",
    "UnsupportedType",
]


class RedisMemoError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(RedisMemoError, ValueError):
    """A setting, URL or decorator argument is wrong."""


class MisusedDecorator(ConfigurationError, TypeError):
    """The decorator was written without parentheses or a namespace, or with options by position or unknown ones."""


class KeyingError(RedisMemoError, TypeError):
    """An argument cannot become part of a cache key.

    Attributes:
        reason: What is wrong, without the way out.
        parameter: Name of the function's parameter, once it is known.
        type_name: Module and name of the offending type.
        function: Qualified name of the function, once it is known.
    """

    def __init__(
        self, reason: str, *, type_name: str = "", parameter: str | None = None, function: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.type_name = type_name
        self.parameter = parameter
        self.function = function

    def __str__(self) -> str:
        where = f"{self.function}: " if self.function else ""
        if self.parameter is None:
            return where + self.reason
        name = self.parameter
        return (
            f"{where}parameter {name!r} cannot be part of a cache key: {self.reason}. "
            f"Ways out: ignore=({name!r},) if it does not change the result; "
            f"key=... to choose what identifies the call; "
            f"register_key({self.type_name.rpartition('.')[2] or 'Type'}, ...) to teach the type; "
            f"or a method __memo_key__(self) on its class that returns what identifies it."
        )


class SerializationError(RedisMemoError):
    """A value cannot be stored, or stored bytes cannot be read back."""


class UnsupportedType(SerializationError, TypeError):
    """A value (or a part of it) has no codec, and pickle is not allowed or failed.

    Attributes:
        type_name: Module and name of the offending type.
        secret_helps: It could be pickled, were there a secret to sign the pickle with.
    """

    def __init__(self, reason: str, *, type_name: str = "", secret_helps: bool = False) -> None:
        super().__init__(reason)
        self.type_name = type_name
        self.secret_helps = secret_helps


class UnreadableEntry(SerializationError):
    """Stored bytes that are damaged, truncated, foreign, of a newer version or wrongly signed."""


class NoSuchColumn(SerializationError, LookupError):
    """The stored frame has no column of that name, or what is stored is not a frame."""


class StoreError(RedisMemoError):
    """Redis did not do what was asked."""


class StoreUnavailable(StoreError):
    """Redis could not be reached, did not answer in time, or is still loading its data."""


class StoreRefused(StoreError):
    """Redis answered with an error: out of memory, read-only, no permission."""


class BatchError(RedisMemoError, LookupError):
    """The batch function given to ``map`` returned no result for a call, or nothing that can be matched with calls."""


class ComputeTimeout(RedisMemoError, TimeoutError):
    """A function took longer than its ``hard_timeout``, and there was no entry to fall back on.

    The computation goes on, and its result is stored for the calls to come. Where too many computations of the
    function go on like that, no other one is begun, and calls raise this at once.
    """
