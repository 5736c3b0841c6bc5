# -*- coding: utf-8 -*-
# ruff: noqa: I001, W191
"""Quotes and lists — as a service that grew has them."""

from __future__ import annotations

import functools
from functools import lru_cache as remember, wraps

import pandas as pd
import requests
from redis_memo import redis_cached

FIVE_MINUTES = 60 * 5
BASE = "http://127.0.0.1:9"
session = requests.Session()
client = object()


@redis_cached(namespace="quotes", ttl="1d")   # the list changes once a day
def instruments(exchange: str = "NSE") -> list[dict[str, str]]:
	return session.get(f"{BASE}/{exchange}").json()


@redis_cached(namespace="quotes", ttl="1d")  # ttl to be chosen
def sector(symbol: str) -> str:  # «sector»
    return requests.get(BASE, params={"s": symbol}).json()["sector"]


@redis_cached(namespace="quotes", ttl=FIVE_MINUTES, maxsize=100)
def history(symbol: str, days: int = 30) -> pd.DataFrame:
    return pd.DataFrame(requests.get(f"{BASE}/{symbol}/{days}").json())


def raw(symbol: str) -> float:
    return float(requests.get(BASE + symbol).text)


price = redis_cached(namespace="quotes", ttl="1d")(raw)  # ttl to be chosen


@remember()  # redis-memo: keep
def silenced(symbol: str) -> str:
    return requests.get(BASE + symbol).text


@functools.lru_cache
def settings() -> dict[str, str]:
    return {"base": BASE}


@functools.lru_cache
def normal(symbol: str) -> str:
    return symbol.upper()


@functools.lru_cache
def holdings(segment: str) -> list[str]:
    return requests.get(BASE + segment).json()


@functools.lru_cache
def news(symbol: str, from_date: str | None = None) -> str:
    return requests.get(BASE + symbol, params={"from": from_date}).text


@functools.lru_cache
def asks_client(symbol: str) -> str:
    return client.fetch(symbol)


@functools.lru_cache
def of_object(feed) -> str:
    return feed.fetch("INFY").text


@functools.lru_cache
def factorial(n: int) -> int:
    return n * factorial(n - 1) if n else 1


def traced(function):
    @wraps(function)
    def call(*args):
        return function(*args)

    return call


@traced
@functools.lru_cache
def decorated(symbol: str) -> str:
    return requests.get(BASE + symbol).text


class Client:
    @functools.lru_cache(maxsize=10)
    def load(self, symbol: str) -> float:
        return requests.get(symbol).json()

    @staticmethod
    @redis_cached(namespace="quotes", ttl="1d")  # ttl to be chosen
    def index(name: str) -> str:
        return requests.get(BASE + name).text

    @functools.cached_property
    def token(self) -> str:
        return requests.get(BASE).text
