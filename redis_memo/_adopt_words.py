"""What `adopt` knows by name: the libraries that cache, the calls that take time, the names that raise doubts.

Tables only. A name that is missing here costs a finding its confidence, never its correctness: what is not known
counts against it.
"""

from __future__ import annotations

import re
from typing import Final

from ._adopt_source import MUTATORS

__all__ = [
    "ACCOUNT",
    "ACCOUNT_NAME",
    "ALONE",
    "AMBIENT",
    "CACHETOOLS",
    "CHANCE",
    "CLOCKS",
    "CLOCK_CALLS",
    "CONTAINERS",
    "DESTROYING",
    "FILES",
    "FILE_METHODS",
    "FRAMES",
    "FRAME_METHODS",
    "HEAVY",
    "HOLDERS",
    "LIFETIMES",
    "LIKE_A_CACHE",
    "LOGGERS",
    "LOOSE",
    "LRU",
    "MADE",
    "MARKET",
    "MARKET_CALLS",
    "MARKET_CLIENTS",
    "MAY_STAND_ABOVE",
    "METHODS",
    "NETWORK",
    "NO_CACHE",
    "OTHERS",
    "PLAIN_MAKERS",
    "PLAIN_NAME",
    "PUBLIC",
    "SIMPLE",
    "SLOW_WORD",
    "TEXT_METHODS",
    "TEXT_USE",
    "TYPED_CALLS",
    "TYPED_METHODS",
]

LRU = {"functools.lru_cache": "lru_cache", "functools.cache": "functools.cache"}
CACHETOOLS = {"cachetools.cached": "cachetools.cached"}
SIZED = frozenset(["LRUCache", "LFUCache", "RRCache", "FIFOCache", "MRUCache", "TLRUCache", "TTLCache", "Cache"])

# Decorators that are reported and left to a person.
OTHERS: Final[dict[str, str]] = {
    "cachetools.cachedmethod": "cachetools.cachedmethod",
    "cachetools.keys.cached": "cachetools.cached",
    **{f"cachetools.func.{name}": f"cachetools.func.{name}" for name in
       ("lru_cache", "ttl_cache", "lfu_cache", "rr_cache", "fifo_cache", "mru_cache")},
    "async_lru.alru_cache": "alru_cache",
    "methodtools.lru_cache": "methodtools.lru_cache",
    "cachier.cachier": "cachier",
    "streamlit.cache_data": "streamlit.cache_data",
    "streamlit.cache": "streamlit.cache",
    "streamlit.experimental_memo": "streamlit.experimental_memo",
    "cachebox.cached": "cachebox.cached",
    "cachebox.cachedmethod": "cachebox.cachedmethod",
    "aiocache.cached": "aiocache.cached",
    "memoization.cached": "memoization.cached",
    "toolz.memoize": "toolz.memoize",
    "toolz.functoolz.memoize": "toolz.memoize",
    "cytoolz.memoize": "toolz.memoize",
    "funcy.memoize": "funcy.memoize",
    "funcy.cache": "funcy.cache",
    "ring.lru": "ring.lru",
    "ring.dict": "ring.dict",
    "numba.core.caching": "numba",
    "cached_property.cached_property_with_ttl": "cached_property_with_ttl",
    "sklearn.utils.Memory.cache": "joblib.Memory.cache",
    **{f"{module}.{name}": f"{module}.{name}" for module in ("asyncache", "cachetools_async")
       for name in ("cached", "cachedmethod")},
    "aiocache.cached_stampede": "aiocache.cached_stampede",
    "aiocache.multi_cached": "aiocache.multi_cached",
    "fastapi_cache.decorator.cache": "fastapi_cache.cache",
    "boltons.cacheutils.cached": "boltons.cached",
    "boltons.cacheutils.cachedmethod": "boltons.cachedmethod",
    "theine.Memoize": "theine.Memoize",
}  # fmt: skip

# What stays where it is, with the reason.
ALONE: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(
        (
            "functools.cached_property",
            "django.utils.functional.cached_property",
            "werkzeug.utils.cached_property",
            "cached_property.cached_property",
            "propcache.cached_property",
        ),
        ("cached_property", "a value of one object, which goes when the object goes: nothing to share"),
    ),
    "streamlit.cache_resource": ("streamlit.cache_resource", "holds what belongs to a process, as connections"),
    "streamlit.experimental_singleton": ("streamlit.cache_resource", "holds what belongs to a process"),
}  # fmt: skip

# Objects that hold entries, by what makes them; with the name or place of their lifetime in seconds.
HOLDERS: Final[dict[str, tuple[str, str | None]]] = {
    **{f"cachetools.{name}": (name, "ttl" if name == "TTLCache" else None) for name in SIZED},
    "cachebox.TTLCache": ("cachebox.TTLCache", "ttl"),
    "cachebox.LRUCache": ("cachebox.LRUCache", None),
    "cachebox.VTTLCache": ("cachebox.VTTLCache", None),
    "cachebox.FIFOCache": ("cachebox.FIFOCache", None),
    "expiringdict.ExpiringDict": ("ExpiringDict", "max_age_seconds"),
    "expiring_dict.ExpiringDict": ("ExpiringDict", "ttl"),
    "pylru.lrucache": ("pylru.lrucache", None),
    "lru.LRU": ("lru.LRU", None),
    "joblib.Memory": ("joblib.Memory", None),
    "joblib.memory.Memory": ("joblib.Memory", None),
    "sklearn.utils.Memory": ("joblib.Memory", None),
    "diskcache.Cache": ("diskcache.Cache", None),
    "diskcache.FanoutCache": ("diskcache.FanoutCache", None),
    "diskcache.Index": ("diskcache.Index", None),
    "shelve.open": ("shelve", None),
    "sqlitedict.SqliteDict": ("SqliteDict", None),
    "requests_cache.CachedSession": ("requests_cache", "expire_after"),
    "requests_cache.install_cache": ("requests_cache", "expire_after"),
    "flask_caching.Cache": ("flask_caching", None),
    "boltons.cacheutils.LRU": ("boltons.LRU", None),
    "boltons.cacheutils.LRI": ("boltons.LRI", None),
    "cacheout.Cache": ("cacheout.Cache", "ttl"),
    "cacheout.LRUCache": ("cacheout.LRUCache", "ttl"),
    "percache.Cache": ("percache.Cache", None),
    "theine.Cache": ("theine.Cache", None),
    "werkzeug.contrib.cache.SimpleCache": ("werkzeug.SimpleCache", "default_timeout"),
    "cachelib.simple.SimpleCache": ("cachelib.SimpleCache", "default_timeout"),
    "aiocache.SimpleMemoryCache": ("aiocache.SimpleMemoryCache", "ttl"),
    "cachelib.SimpleCache": ("cachelib.SimpleCache", "default_timeout"),
    "cachelib.FileSystemCache": ("cachelib.FileSystemCache", "default_timeout"),
}

# Methods of such objects that decorate: kind, and the argument that is the lifetime.
METHODS: Final[dict[str, dict[str, str | None]]] = {
    "joblib.Memory": {"cache": None},
    "diskcache.Cache": {"memoize": "expire"},
    "diskcache.FanoutCache": {"memoize": "expire"},
    "flask_caching": {"cached": "timeout", "memoize": "timeout"},
    "cacheout.Cache": {"memoize": "ttl"},
    "cacheout.LRUCache": {"memoize": "ttl"},
}

LIFETIMES = (
    "ttl",
    "timeout",
    "expire",
    "expiration_time",
    "expire_after",
    "stale_after",
    "max_age",
    "maxage",
    "max_age_seconds",
)
DESTROYING = frozenset({"contextmanager", "asynccontextmanager", "property", "cached_property"})
MAY_STAND_ABOVE = frozenset({"staticmethod"})

NETWORK = frozenset([
    "requests", "httpx", "aiohttp", "urllib", "urllib3", "http", "yfinance", "nsepy", "nsepython", "nsetools",
    "jugaad_data", "kiteconnect", "pykiteconnect", "ccxt", "alpha_vantage", "quandl", "nasdaqdatalink",
    "breeze_connect", "smartapi", "SmartApi", "upstox_client", "fyers_apiv3", "dhanhq", "websocket", "websockets",
    "socket", "boto3", "botocore", "s3fs", "gcsfs", "grpc", "openai", "anthropic", "psycopg", "psycopg2",
    "pymysql", "MySQLdb", "pymongo", "sqlalchemy", "asyncpg", "clickhouse_driver", "cx_Oracle", "oracledb",
    "pyodbc", "elasticsearch", "ftplib", "paramiko", "selenium", "bs4", "feedparser", "zeep",
])  # fmt: skip
# Clients of brokers and exchanges, and what they are asked for that is one for all accounts.
MARKET_CLIENTS = frozenset(["kiteconnect", "pykiteconnect", "ccxt", "nsetools", "jugaad_data", "nsepython", "yfinance"])
MARKET_CALLS = frozenset([
    "quote", "quotes", "ltp", "ohlc", "historical_data", "instruments", "get_quote", "get_index_quote",
    "stock_quote", "option_chain", "equities_option_chain", "index_option_chain", "fetch_ohlcv", "fetch_ticker",
    "fetch_tickers", "fetch_order_book", "load_markets", "trigger_range", "live_index", "all_indices",
    "market_status", "history",
])  # fmt: skip
HEAVY = frozenset([
    "pandas", "polars", "numpy", "scipy", "sklearn", "statsmodels", "torch", "tensorflow", "xgboost", "lightgbm",
    "talib", "pandas_ta", "ta",
])  # fmt: skip
# What a name that has it is likely to be; and what decorates and has it, and keeps nothing.
LIKE_A_CACHE = re.compile(r"(?i)cache|memo(?:$|_|iz|is)|(?:^|_)lru(?:_|$)|memoized")
NO_CACHE = re.compile(
    r"(?i)no_?cache|never_cache|cache_control|clear|invalidat|evict|flush|redis_cached|cache_page|_key$"
)
SLOW_WORD = re.compile(
    r"(?i)(?:^|_)(?:fetch|download|requests?|query|scrape|crawl|api|http|https|sleep|predict|train|fit|backtest|simulate|"
    r"optimi[sz]e|historical|history|historic|quotes?|ohlcv?|ltp|candles?|instruments|"
    r"read_sql|expensive|slow|heavy|urlopen|remote|rpc|invoke|inference)(?:_|$|\d)"
)
CLOCKS = frozenset({"now", "today", "utcnow", "monotonic", "perf_counter", "time_ns", "localtime", "gmtime"})
CLOCK_CALLS = frozenset({"time.time", "time.strftime", "time.ctime"})
CHANCE = ("random.", "numpy.random.", "secrets.", "uuid.uuid1", "uuid.uuid4", "os.urandom")
AMBIENT = (
    "os.environ", "os.getenv", "os.getcwd", "os.getpid", "os.getlogin", "sys.argv", "sys.path", "sys.modules",
    "sys.stdin",
    "socket.gethostname", "platform.", "locale.", "threading.", "contextvars.", "getpass.", "importlib.",
    "inspect.", "gc.",
    "flask.request", "flask.session", "flask.g", "flask.current_app", "streamlit.session_state",
    "streamlit.secrets", "shutil.which",
    "django.conf.settings", "dotenv.", "decouple.", "tempfile.", "multiprocessing.", "asyncio.get_event_loop", "site.",
)  # fmt: skip
FILES = (
    "os.path.exists", "os.path.isfile", "os.path.isdir", "os.path.getmtime", "os.path.getsize", "os.listdir",
    "os.scandir", "os.walk",
    "os.stat", "glob.", "pandas.read_csv", "pandas.read_excel", "pandas.read_pickle", "pandas.read_parquet",
    "pandas.read_feather",
    "pandas.read_hdf", "pandas.read_json", "pandas.ExcelFile", "numpy.load", "numpy.loadtxt", "numpy.genfromtxt",
    "joblib.load",
    "pickle.load", "json.load", "yaml.", "tomllib.load", "toml.load", "configparser.", "sqlite3.", "shelve.",
    "dbm.", "csv.reader",
    "csv.DictReader", "zipfile.", "gzip.open", "io.open", "codecs.open", "polars.read_", "pyarrow.", "duckdb.",
    "torch.load",
    "subprocess.", "os.popen", "os.system",
)  # fmt: skip
FILE_METHODS = frozenset(
    {"read_text", "read_bytes", "iterdir", "rglob", "is_file", "is_dir", "exists", "stat", "write_text", "write_bytes"}
)
ACCOUNT = re.compile(
    r"(?i)(?:^|_)(?:holdings?|positions?|portfolios?|orders?|margins?|profile|accounts?|balances?|funds?|wallets?|tokens?|login|"
    r"logged|sessions?|credentials?|passwords?|secrets?|api_?keys?|users?|permissions?|tenant|watchlists?|settings?|config|env)(?:_|$)"
)
# Account-like words that are about markets as well.
PUBLIC = re.compile(r"(?i)(?:order_?book|instrument_?tokens?|symbol_?tokens?|token_?symbol|market_?orders?)")
LOGGERS = frozenset({"logging", "logger", "log", "LOG", "LOGGER", "_logger", "_log", "loguru", "structlog", "warnings"})
# Made when a module is imported, and the same whoever makes it.
PLAIN_MAKERS = frozenset(
    [
        "logging.getLogger",
        "re.compile",
        "requests.Session",
        "requests.session",
        "httpx.Client",
        "httpx.AsyncClient",
        "frozenset",
        "tuple",
        "float",
        "int",
        "str",
        "bool",
        "datetime.timedelta",
        "datetime.date",
        "datetime.time",
        "datetime.timezone",
        "zoneinfo.ZoneInfo",
        "pytz.timezone",
        "decimal.Decimal",
        "typing.TypeVar",
        "collections.namedtuple",
        "pathlib.Path",
        "pathlib.PurePath",
        "structlog.get_logger",
        "dateutil.tz.gettz",
    ]
)
TEXT_METHODS = (
    frozenset(
        [
            "upper",
            "lower",
            "strip",
            "lstrip",
            "rstrip",
            "split",
            "rsplit",
            "join",
            "replace",
            "format",
            "startswith",
            "endswith",
            "encode",
            "decode",
            "title",
            "capitalize",
            "casefold",
            "zfill",
            "ljust",
            "rjust",
            "center",
            "partition",
            "rpartition",
            "isdigit",
            "isalpha",
            "isupper",
            "islower",
            "count",
            "find",
            "index",
            "get",
            "items",
            "keys",
            "values",
            "hex",
            "bit_length",
            "match",
            "search",
            "sub",
            "fullmatch",
            "group",
            "groups",
            "strftime",
            "isoformat",
            "date",
            "removeprefix",
            "removesuffix",
        ]
    )
    | MUTATORS
)


# Immutable, keyed by value and stored typed: an argument or a result of these is the same thing in any process.
SIMPLE = frozenset([
    "int", "float", "str", "bool", "bytes", "complex", "None", "Decimal", "Fraction", "date", "datetime", "time",
    "timedelta", "UUID", "Timestamp", "Timedelta", "Literal", "LiteralString", "tuple", "Tuple", "frozenset",
    "FrozenSet", "Optional", "Union", "Annotated", "Final",
])  # fmt: skip
CONTAINERS = frozenset(
    [
        "list",
        "List",
        "dict",
        "Dict",
        "set",
        "Set",
        "Sequence",
        "Mapping",
        "Iterable",
        "Collection",
        "MutableMapping",
        "OrderedDict",
        "defaultdict",
        "Counter",
        "deque",
    ]
)
FRAMES = frozenset(
    ["DataFrame", "Series", "ndarray", "NDArray", "Index", "DatetimeIndex", "MultiIndex", "Categorical", "ArrayLike"]
)
# What they, and dicts and lists of plain values, are asked for, and answer with more of the kind.
FRAME_METHODS = frozenset([
    "copy", "dropna", "fillna", "ffill", "bfill", "reset_index", "set_index", "sort_values", "sort_index",
    "rename", "astype", "head", "tail", "drop", "drop_duplicates", "tz_localize", "tz_convert", "round", "assign",
    "join", "pct_change", "diff", "shift", "cumsum", "cumprod", "get",
])  # fmt: skip
LOOSE = frozenset({"Any", "object"})
TYPED_CALLS = frozenset(
    [
        "int",
        "float",
        "str",
        "bool",
        "bytes",
        "len",
        "round",
        "sum",
        "min",
        "max",
        "abs",
        "sorted",
        "list",
        "dict",
        "set",
        "tuple",
        "frozenset",
        "repr",
        "format",
        "divmod",
        "pow",
        "hash",
        "any",
        "all",
    ]
)
TYPED_METHODS = frozenset(
    [
        "json",
        "upper",
        "lower",
        "strip",
        "split",
        "rsplit",
        "join",
        "replace",
        "format",
        "encode",
        "decode",
        "title",
        "strftime",
        "isoformat",
        "total_seconds",
        "to_dict",
        "to_numpy",
        "tolist",
        "to_list",
        "hexdigest",
    ]
)
MADE = frozenset(
    [
        "DataFrame",
        "Series",
        "Decimal",
        "Timestamp",
        "Timedelta",
        "Path",
        "PurePath",
        "Index",
        "DatetimeIndex",
        "OrderedDict",
        "Counter",
        "Fraction",
        "UUID",
    ]
)
TEXT_USE = frozenset(
    [
        "upper",
        "lower",
        "strip",
        "lstrip",
        "rstrip",
        "split",
        "replace",
        "startswith",
        "endswith",
        "encode",
        "title",
        "zfill",
        "isdigit",
        "format",
        "casefold",
    ]
)
PLAIN_NAME = re.compile(
    r"(?:symbols?|tickers?|tradingsymbol|exchange|segment|interval|timeframe|isin|sector|series|index_name|name|year|month|day|days|"
    r"period|window|limit|count|size|length|page|offset|start|end|from_date|to_date|start_date|end_date|date|expiry|strike|"
    r"instrument_token|token|code|currency|country|key|lang|text|url|path|filename|n|x|y|k|a|b|i|id|[a-z]+_id|[a-z]+_name|[a-z]+_date)"
)
MARKET = re.compile(
    r"(?i)(?:symbol|ticker|exchange|instrument|quote|ohlc|candle|historical|ltp|strike|option_?chain|last_price|intraday|stock|nifty|bhavcopy)"
)
ACCOUNT_NAME = re.compile(
    r"(?i)(?:^|_)(?:holdings?|positions?|portfolios?|orders?|margins?|profile|accounts?|balances?|funds?|wallets?|login|"
    r"credentials?|passwords?|secrets?|api_?keys?|access_?tokens?|users?|clients?|connections?|sessions?|settings?|config)(?:_|$)"
)
