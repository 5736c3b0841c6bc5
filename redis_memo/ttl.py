"""Expiry policies, all of them: what ``ttl=`` takes besides seconds, a ``timedelta`` and ``"5m"``.

A policy is a callable of one `Call`. Policies compose: ``a | b`` is ``a``, and ``b`` where ``a`` has no opinion
(answers None); ``min(a, b)`` is the shorter of the two at each call; ``by_value`` lets the result decide. Each of them
says with ``policy.explain(call)`` why an entry lives as long as it does.
"""

from __future__ import annotations

from ._arguments import Arg, arg
from ._durations import LONGEST, duration, format_duration, parse_duration
from ._market_aware import market_aware, next_open, session_end
from ._policy import Call, Policy, TTLPolicy, as_policy, by_value, jittered, resolve, until
from ._policy import shortest as min  # noqa: A004 - ttl.min(a, b) is what it is
from ._presets import (
    access_token,
    historical,
    indicators,
    instruments,
    live_quotes,
    patterns,
    predictions,
    sector_data,
    stock_data,
)

__all__ = [
    "LONGEST",
    "Arg",
    "Call",
    "Policy",
    "TTLPolicy",
    "access_token",
    "arg",
    "as_policy",
    "by_value",
    "duration",
    "format_duration",
    "historical",
    "indicators",
    "instruments",
    "jittered",
    "live_quotes",
    "market_aware",
    "min",
    "next_open",
    "parse_duration",
    "patterns",
    "predictions",
    "resolve",
    "sector_data",
    "session_end",
    "stock_data",
    "until",
]
