"""Caches by hand, one of each spelling; a comment in the line of each finding names its kind."""

import json
import os
import pickle
import time
from collections import OrderedDict, defaultdict
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from urllib.request import urlretrieve

import pandas as pd
from cachetools import LRUCache, TTLCache
from caching import cached_for, no_cache
from joblib import Memory

MAX_AGE = 120
_quotes = {}
_timed = {}
_table = None
REGISTRY = {}
memory = Memory("cache", verbose=0)  # joblib.Memory


def quote(symbol):
    if symbol in _quotes:  # dict cache
        return _quotes[symbol]
    value = ask(symbol)
    _quotes[symbol] = value
    return value


def candle(symbol):
    try:
        return _quotes[symbol]  # dict cache
    except KeyError:
        _quotes[symbol] = ask(symbol)
        return _quotes[symbol]


def timed(symbol):
    hit = _timed.get(symbol)  # timed dict cache
    if hit is not None and time.time() - hit[1] < MAX_AGE:
        return hit[0]
    value = ask(symbol)
    _timed[symbol] = (value, time.time())
    return value


def table():
    global _table
    if _table is None:  # single value
        _table = pd.read_csv("https://example.invalid/table.csv")
    return _table


def default(n, _seen={}):
    if n not in _seen:  # dict cache
        _seen[n] = ask(n)
    return _seen[n]


@memory.cache(ignore=["verbose"])  # joblib.Memory.cache
def features(symbol, verbose=False):
    return ask(symbol)


applied = memory.cache(quote)  # joblib.Memory.cache


def memoize(function):
    seen = {}

    @wraps(function)
    def call(*args):
        if args not in seen:  # memoizing decorator
            seen[args] = function(*args)
        return seen[args]

    return call


class Client:
    shared = {}

    def __init__(self):
        self.lru = OrderedDict()
        self.prices = TTLCache(maxsize=10, ttl=30)  # TTLCache
        self.parts = LRUCache(64)  # LRUCache
        self.frame_cache = {}  # dict named a cache
        self.max_age = timedelta(minutes=5)

    def by_lru(self, symbol):
        if symbol in self.lru:  # OrderedDict LRU
            self.lru.move_to_end(symbol)
            return self.lru[symbol]
        value = self.lru[symbol] = ask(symbol)
        if len(self.lru) > 10:
            self.lru.popitem(last=False)
        return value

    def price(self, symbol):
        if (found := self.prices.get(symbol)) is not None:  # TTLCache, asked and filled
            return found
        found = ask(symbol)
        self.prices[symbol] = found
        return found

    def of_class(self, symbol):
        if symbol not in Client.shared:  # dict cache
            Client.shared[symbol] = ask(symbol)
        return Client.shared[symbol]

    def get_frame(self, key):
        return self.frame_cache.get(key)

    def put_frame(self, key, frame):
        self.frame_cache[key] = frame

    def history(self, symbol):
        path = Path("data") / f"{symbol}.csv"
        if path.exists():  # file cache (CSV)
            return pd.read_csv(path)
        frame = ask(symbol)
        frame.to_csv(path)
        return frame

    def model(self, name):
        path = os.path.join("models", name)
        try:
            with open(path, "rb") as file:  # file cache (pickle)
                return pickle.load(file)
        except FileNotFoundError:
            pass
        made = ask(name)
        with open(path, "wb") as file:
            pickle.dump(made, file)
        return made

    def load_metadata(self):
        with open("cache/cache_metadata.json") as file:  # file cache (JSON)
            return json.load(file)


    @property
    def info(self):
        if self._info is None:  # single value
            self._info = ask("info")
        return self._info


class DiskCache:  # class named a cache
    def lookup(self, key):
        return self.db.execute(key)

    def store(self, key, value):
        self.db.execute(key, value)


# ------------------------------------------------------------------------------- what is no cache, and is not reported


def register(name, function):
    if name in REGISTRY:
        raise ValueError(name)
    REGISTRY[name] = function


def group(rows):
    groups = {}
    for row in rows:
        if row.key not in groups:
            groups[row.key] = []
        groups[row.key].append(row)
    return groups


COUNTS = defaultdict(int)


def count(word):
    if word in COUNTS:
        COUNTS[word] += 1
    else:
        COUNTS[word] = 1
    return COUNTS[word]


def save_state(state, path):
    with open(path, "w") as file:
        json.dump(state, file)


def ask(key):
    return key, datetime.now()


# ------------------------------------------------------------------------------------------------ and what these miss


class Recent:  # OrderedDict LRU
    def __init__(self):
        self.rows = OrderedDict()

    def get(self, key):
        if key in self.rows:
            self.rows.move_to_end(key)
        return self.rows.get(key)

    def put(self, key, row):
        self.rows[key] = row
        if len(self.rows) > 10:
            self.rows.popitem(last=False)


class First:
    def __init__(self):
        self._cache = {}

    def of(self, key):
        if key not in self._cache:  # dict cache
            self._cache[key] = ask(key)
        return self._cache[key]


class Second:
    def __init__(self):
        self._cache = {}  # dict named a cache
        self.recent = Recent()

    def get(self, key):
        return self._cache.get(key)

    def add(self, key, value):
        self._cache[key] = value

    def chain(self, key):
        found = self.recent.get(key)  # dict cache
        if found is None:
            found = ask(key)
            self.recent.put(key, found)
        return found


def downloaded(url, path):
    if os.path.exists(path):  # file cache (download)
        return path
    urlretrieve(url, path)
    return path


def loaded(name):
    path = f"{name}.pkl"
    try:
        frame = pd.read_pickle(path)  # file cache (pickle)
    except FileNotFoundError:
        frame = ask(name)
        frame.to_pickle(path)
    return frame


@memoize
def below(key):
    return ask(key)


@cached_for(minutes=5)  # decorator named a cache
def elsewhere(key):
    return ask(key)


@no_cache
def uncached(key):
    return ask(key)


def at_once(keys):
    quote_cache = {}  # dict named a cache
    for key in keys:
        quote_cache[key] = ask(key)
    return [quote_cache[key] for key in keys]
