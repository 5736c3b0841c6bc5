"""Policies for the kinds of data that users of a broker's API keep, each with a lifetime for trading hours and after.

All of the ones that follow prices are `market_aware` with other numbers: they read the arguments ``exchange``,
``interval`` and ``to_date`` where a function has them, and take every setting of it.
"""

from __future__ import annotations

from typing import Any

from ._arguments import Arg, arg
from ._market_aware import market_aware
from ._policy import Policy, until, written

__all__ = [
    "access_token",
    "historical",
    "indicators",
    "instruments",
    "live_quotes",
    "patterns",
    "predictions",
    "sector_data",
    "stock_data",
]

_EXCHANGE = arg("exchange", "NSE")


def _preset(exchange: str | Arg, settings: dict[str, Any], **usual: object) -> Policy:
    return market_aware(exchange, **{**usual, **settings})


@written("live_quotes()")
def live_quotes(exchange: str | Arg = _EXCHANGE, **settings: Any) -> Policy:
    """Last prices and depth: 2 seconds while prices move, then until the next session. No candles.

    Args:
        exchange: As for `market_aware`; so are the settings here and in what follows.
        **settings: Of `market_aware`, in the place of these.
    """
    return _preset(exchange, settings, open="2s", interval=None, to=None)


@written("stock_data()")
def stock_data(exchange: str | Arg = _EXCHANGE, **settings: Any) -> Policy:
    """A stock's data of the day: one minute while prices move, then until the next session.

    Args:
        exchange: As for `market_aware`.
        **settings: Of `market_aware`.
    """
    return _preset(exchange, settings, open="1m")


@written("historical()")
def historical(exchange: str | Arg = _EXCHANGE, **settings: Any) -> Policy:
    """Candles: until the next one is published; a week for a range that ended before today's session.

    A week is long for adjusted prices, which a split rewrites: say ``corporate_actions=`` or a shorter ``immutable=``,
    or invalidate a symbol on its ex-date. Unadjusted ones may live longer: ``immutable="90d"``.

    Args:
        exchange: As for `market_aware`.
        **settings: Of `market_aware`.
    """
    return _preset(exchange, settings, open="1m")


@written("indicators()")
def indicators(exchange: str | Arg = _EXCHANGE, **settings: Any) -> Policy:
    """What is computed from candles: as good as they are, and at most a minute old where none is named.

    Args:
        exchange: As for `market_aware`.
        **settings: Of `market_aware`.
    """
    return _preset(exchange, settings, open="1m")


@written("patterns()")
def patterns(exchange: str | Arg = _EXCHANGE, **settings: Any) -> Policy:
    """Chart patterns, which need several candles to change: 5 minutes while prices move.

    Args:
        exchange: As for `market_aware`.
        **settings: Of `market_aware`.
    """
    return _preset(exchange, settings, open="5m")


@written("sector_data()")
def sector_data(exchange: str | Arg = _EXCHANGE, **settings: Any) -> Policy:
    """Sector figures and breadth: 5 minutes while prices move.

    Args:
        exchange: As for `market_aware`.
        **settings: Of `market_aware`.
    """
    return _preset(exchange, settings, open="5m")


@written("predictions()")
def predictions(exchange: str | Arg = _EXCHANGE, **settings: Any) -> Policy:
    """What a model says of prices: 15 minutes while they move, then until the next session.

    Args:
        exchange: As for `market_aware`.
        **settings: Of `market_aware`.
    """
    return _preset(exchange, settings, open="15m")


@written("instruments()")
def instruments() -> Policy:
    """The list of instruments, which Kite makes anew by 08:30 Indian time each day."""
    return until("08:30", tz="Asia/Kolkata")


@written("access_token()")
def access_token() -> Policy:
    """A Kite access token, which ends at 06:00 Indian time."""
    return until("06:00", tz="Asia/Kolkata")
