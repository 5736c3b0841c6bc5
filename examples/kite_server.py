"""A small local server that speaks the parts of the Kite Connect API that the examples need.

The prices are real: daily OHLCV of GOOG from 2004 to 2013, which the ``backtesting`` package ships. Each symbol gets
a stretch of its own, moved in time so that it ends yesterday. Like Kite it allows three historical requests a
second and answers 429 beyond that, and each request takes a moment.

Run it alone with ``python kite_server.py``; it prints its address.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from backtesting.test import GOOG

SYMBOLS = {"RELIANCE": 738561, "INFY": 408065, "TCS": 2953217, "HDFCBANK": 341249, "SBIN": 779521}
IST = dt.timezone(dt.timedelta(hours=5, minutes=30))
LATENCY = 0.06  # seconds, about what a request to Kite takes from India
PER_SECOND = 3
COLUMNS = "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,segment,exchange"


def candles(token: int) -> list[list[object]]:
    """All daily candles of one instrument, oldest first."""
    which = list(SYMBOLS.values()).index(token)
    rows = GOOG.iloc[which * 200 : which * 200 + 1000]
    last = dt.datetime.now(IST).date() - dt.timedelta(days=1)
    days = [last - dt.timedelta(days=back) for back in range(2 * len(rows))]
    days = [day for day in days if day.weekday() < 5][: len(rows)][::-1]
    return [
        [f"{day}T00:00:00+0530", row.Open, row.High, row.Low, row.Close, int(row.Volume)]
        for day, row in zip(days, rows.itertuples(), strict=True)
    ]


class Handler(BaseHTTPRequestHandler):
    """Answers as api.kite.trade does."""

    server: KiteServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Route one request."""
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        parts = url.path.strip("/").split("/")
        time.sleep(LATENCY)
        if not self.headers.get("Authorization", "").startswith("token "):
            self.fail(403, "TokenException", "Incorrect `api_key` or `access_token`.")
        elif parts[:2] == ["instruments", "historical"]:
            self.historical(int(parts[2]), query)
        elif parts[0] == "instruments":
            rows = [f"{token},{token >> 8},{name},{name},0,,0,0.05,1,EQ,NSE,NSE" for name, token in SYMBOLS.items()]
            self.reply("\n".join([COLUMNS, *rows]).encode(), "text/csv")
        elif parts[0] == "quote":
            names = [name.partition(":")[2] for name in query.get("i", [])]
            data = {
                f"NSE:{n}": {"instrument_token": SYMBOLS[n], "last_price": candles(SYMBOLS[n])[-1][4]} for n in names
            }
            self.reply(json.dumps({"status": "success", "data": data}).encode())
        else:
            self.fail(404, "GeneralException", "Route not found")

    def historical(self, token: int, query: dict[str, list[str]]) -> None:
        """``/instruments/historical/{token}/{interval}?from=&to=``, both ends included."""
        if not self.server.allowed():
            self.fail(429, "NetworkException", "Too many requests")
            return
        first, last = query["from"][0][:10], query["to"][0][:10]
        chosen = [row for row in candles(token) if first <= str(row[0])[:10] <= last]
        self.reply(json.dumps({"status": "success", "data": {"candles": chosen}}).encode())

    def fail(self, status: int, error_type: str, message: str) -> None:
        """Kite's form of an error."""
        body = {"status": "error", "message": message, "error_type": error_type, "data": None}
        self.reply(json.dumps(body).encode(), status=status)

    def reply(self, body: bytes, content_type: str = "application/json", status: int = 200) -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class KiteServer(ThreadingHTTPServer):
    """The server, on a free port of this machine only. Use as a context manager.

    Attributes:
        requests: Historical requests that were answered.
        limited: Historical requests that met the rate limit.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = self.limited = 0
        self._recent: deque[float] = deque(maxlen=PER_SECOND)
        self._lock = threading.Lock()

    @property
    def root(self) -> str:
        """What to pass to ``KiteConnect(root=...)``."""
        return f"http://127.0.0.1:{self.server_port}"

    def allowed(self) -> bool:
        """Take one of the three requests of this second, if there is one left."""
        with self._lock:
            now = time.monotonic()
            if len(self._recent) == PER_SECOND and now - self._recent[0] < 1:
                self.limited += 1
                return False
            self._recent.append(now)
            self.requests += 1
            return True

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


if __name__ == "__main__":
    with KiteServer() as server:
        print(server.root, flush=True)
        threading.Event().wait()
