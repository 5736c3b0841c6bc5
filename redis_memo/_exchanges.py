"""Exchanges by name, and the one calendar that each of them has in this process."""

from __future__ import annotations

import difflib
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from ._facts import Overlay, Table
from ._libraries import library_names
from ._sessions import Calendar, building
from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TABLES", "calendar_if_known", "calendar_of", "canonical", "lookup", "overlaid", "set_overlays"]

# As Kite names its segments; NFO and BFO are the derivatives of NSE and BSE, CDS and BCD their currency segments.
TABLES = {
    "NSE": "nse_sessions.toml", "BSE": "nse_sessions.toml", "NFO": "nse_sessions.toml", "BFO": "nse_sessions.toml",
    "MCX": "mcx_sessions.toml", "CDS": "currency_sessions.toml", "BCD": "currency_sessions.toml",
}  # fmt: skip
_LIBRARY_NAMES = {"NSE": "XBOM", "BSE": "XBOM", "NFO": "XBOM", "BFO": "XBOM"}
_ALIASES = {"XNSE": "NSE", "XBOM": "BSE", "CDX": "BCD", "CRYPTO": "24/7"}
# The names of exchange_calendars 4.13, so that a typing slip is found at decoration without importing it. A name that
# is not here is looked up in the libraries themselves.
_NAMES = frozenset(
    # Not a list of literals, which would be 100 lines.
    """24/5 24/7 AIXK ARCX ASEX ASX BATS BMF BVB BVMF CBOT CFE CME CMES COMEX FWB HKEX ICE ICEUS IEPA JKT JPX LSE LUXSE
    NASDAQ NYFE NYMEX NYSE OOTC OSE SIX SSE TASE TSX XAMS XASE XASX XBDA XBEL XBKK XBOG XBRA XBRU XBSE XBUD XBUE XCBF
    XCSE XCYS XDUB XDUS XEEE XETR XEUR XFRA XHAM XHEL XHKG XICE XIDX XIST XJSE XKAR XKLS XKRX XLIM XLIS XLIT XLJU XLON
    XLUX XMAD XMEX XMIL XMOS XNAS XNYS XNZE XOSL XPAR XPHS XPRA XRIS XSAU XSES XSGO XSHG XSTO XSTU XSWX XTAE XTAI XTAL
    XTKS XTSE XTSX XWAR XWBO XZAG us_futures""".split()  # noqa: SIM905
)
# A calendar under every name by which it was asked for.
_calendars: dict[str, Calendar] = {}
lookup = _calendars.get
"""The calendar that was built for a name, or None: what a policy asks at each call."""
# What the user says of an exchange, by its canonical name; None: it is still to be read.
_overlay_of: Callable[[str], Overlay | None] | None = None
_read: Callable[[], Callable[[str], Overlay | None]] | None = None


def canonical(exchange: object) -> str:
    """Return the one name under which ``exchange`` is known.

    Raises:
        ConfigurationError: No source knows it; close names are listed.
    """
    if not isinstance(exchange, str):
        msg = f"an exchange is named by a string such as 'NSE' or 'XNYS', not a {type(exchange).__name__}"
        raise ConfigurationError(msg)
    name = exchange.strip()
    upper = _ALIASES.get(name.upper(), name.upper())
    if upper in TABLES or upper in _NAMES:
        return upper
    if name in _NAMES:
        return name
    names = library_names()
    if upper in names or name in names:
        return upper if upper in names else name
    near = difflib.get_close_matches(upper[:20], sorted({*_NAMES, *TABLES, *_ALIASES, *names}), n=4, cutoff=0.4)
    hint = f"; near it: {', '.join(near)}" if near else ""
    msg = (
        f"unknown exchange {name[:20]!r}{hint}. Known are {', '.join(TABLES)} and the names of exchange_calendars "
        "(XNYS, ...) and, where it is installed, pandas_market_calendars"
    )
    raise ConfigurationError(msg)


def calendar_of(exchange: object) -> Calendar:
    """Return the calendar of an exchange; the first time, this reads its table or the library.

    Raises:
        ConfigurationError: No source knows the exchange.
    """
    found = _calendars.get(exchange) if isinstance(exchange, str) else None
    if found is not None:
        return found
    name = canonical(exchange)
    with building():
        calendar = _calendars.get(name)
        if calendar is None:
            table = None
            if name in TABLES:
                text = Path(__file__).with_name("data").joinpath(TABLES[name]).read_text(encoding="utf-8")
                table = Table.parse(text, name)
            library = _LIBRARY_NAMES.get(name, None if table is not None else name)
            calendar = _calendars[name] = Calendar(name, library, table, overlaid(name))
        if len(_calendars) > 1000:  # names come from arguments, too, in any spelling
            return calendar
        return _calendars.setdefault(str(exchange), calendar)


def calendar_if_known(exchange: str) -> Calendar | None:
    """Return the calendar of an exchange that a call names, or None where no source knows it."""
    return calendar_of(exchange) if _is_known(exchange) else None


@functools.lru_cache(maxsize=256)
def _is_known(exchange: str) -> bool:
    try:
        canonical(exchange)
    except ConfigurationError:
        return False
    return True


def overlaid(exchange: str) -> Overlay | None:
    """What the user says of an exchange, by its canonical name.

    Raises:
        ConfigurationError: What the user says cannot be read.
    """
    global _overlay_of  # noqa: PLW0603 - one process has one calendar
    with building():
        if _overlay_of is None:
            if _read is None:
                return None
            _overlay_of = _read()
        return _overlay_of(exchange)


def set_overlays(read: Callable[[], Callable[[str], Overlay | None]]) -> None:
    """Let another calendar of the user's be in force; what was built with the last one is built anew.

    Args:
        read: Reads it, when an exchange is first asked for.
    """
    global _overlay_of, _read
    with building():
        _overlay_of, _read = None, read
        _calendars.clear()
