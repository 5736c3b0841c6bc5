"""Decorated functions that another process can import; they use the default cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from redis_memo import redis_cached

NAMESPACE = f"test-decorated-{os.environ.get('DECORATED_RUN', '')}"


@redis_cached(namespace=NAMESPACE, ttl=60)
def square(x: int, *, power: int = 2) -> tuple[int, int]:
    """Return ``x`` to the power, and who computed it.

    A second paragraph.
    """
    return x**power, os.getpid()


@redis_cached(namespace=NAMESPACE, ttl=60)
async def asquare(x: int) -> int:
    """Return ``x`` squared, in time."""
    return x * x


def plain(x: int, *, power: int = 2) -> tuple[int, int]:
    """Return ``x`` to the power, and who computed it.

    A second paragraph.
    """
    return x**power, os.getpid()


@dataclass(frozen=True)
class Account:
    name: str
    calls: ClassVar[list[object]] = []

    @redis_cached(namespace=NAMESPACE, ttl=60)
    def holdings(self, symbol: str, day: int = 1) -> str:
        """What the account holds."""
        self.calls.append((self.name, symbol, day))
        return f"{self.name}/{symbol}/{day}"

    @redis_cached(namespace=NAMESPACE, ttl=60)
    async def aholdings(self, symbol: str) -> str:
        """What the account holds, in time."""
        return f"{self.name}/{symbol}"

    @redis_cached(namespace=NAMESPACE, ttl=60)
    @classmethod
    def of(cls, name: str) -> str:
        """Make one."""
        return f"{cls.__name__}/{name}"

    @redis_cached(namespace=NAMESPACE, ttl=60)
    @staticmethod
    def norm(symbol: str) -> str:
        """Spell a symbol."""
        return symbol.upper()


class Savings(Account):
    pass
