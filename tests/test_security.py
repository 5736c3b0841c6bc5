"""P6: bytes from Redis are data, never code, and names never end up interpreted."""

from __future__ import annotations

import logging
import pickle
import random
import time
from pathlib import Path

import pytest

from redis_memo import MISSING, connect, redis_cached
from redis_memo._codecs import dumps, loads
from redis_memo._envelope import Sealer, Stamp
from redis_memo.errors import ConfigurationError, UnreadableEntry

from .conftest import SECRET, Server

FAR = time.time() + 1e6


class Opaque:
    """Something that only pickle can take: it says itself how it is rebuilt."""

    def __init__(self, content: object) -> None:
        self.content = content

    def __reduce__(self):
        return Opaque, (self.content,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.content == self.content

    __hash__ = None


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def function(cache, namespace, value=None):
    calls = []

    @redis_cached(namespace=namespace, ttl=60, cache=cache, name="f")
    def f(x):
        calls.append(x)
        return {"x": x} if value is None else value

    return f, calls


def bombs(key: str, path: Path) -> list[bytes]:
    """What somebody who can write to Redis, and does not know the secret, could plant."""
    raw = pickle.dumps(Bomb(str(path)))
    payload = dumps(Bomb(str(path)), allow_pickle=True)
    stamp = Stamp(time.time(), 0.0, FAR, FAR)
    sealed = [
        Sealer(secrets).seal(key, meta, buffers, pickled=pickled, stamp=stamp)[0]
        for secrets in ((), (b"some other secret, long",))
        for meta, buffers in ((payload.meta, payload.buffers), (raw, ()))
        for pickled in (True, False)
    ]
    own = [
        Sealer((SECRET.encode(),)).seal(key + "x", payload.meta, payload.buffers, pickled=True, stamp=stamp)[0],
    ]
    return [raw, b"\x80\x05" + raw, *sealed, *own]


@pytest.mark.parametrize("secret", [SECRET, None])
def test_a_planted_pickle_does_not_run(valkey_server: Server, namespace: str, tmp_path: Path, secret) -> None:
    cache = connect(valkey_server.url, secret=secret)
    f, calls = function(cache, namespace)
    key, touched = f.cache_key(1), tmp_path / "touched"
    with valkey_server.client() as client:
        for number, bomb in enumerate(bombs(key, touched)):
            client.set(key, bomb, ex=60)
            assert f.peek(1) is MISSING
            assert f(1) == {"x": 1}
            assert len(calls) == number + 1
            assert not touched.exists(), number
    cache.clear(namespace)
    cache.close()


def test_the_bomb_of_these_tests_works(tmp_path: Path) -> None:
    payload = dumps(Bomb(str(tmp_path / "touched")), allow_pickle=True)
    assert payload.pickled
    with pytest.raises(UnreadableEntry):
        loads(payload.meta, payload.buffers, trusted=False)
    assert not (tmp_path / "touched").exists()
    loads(payload.meta, payload.buffers, trusted=True)
    assert (tmp_path / "touched").exists()


def test_what_needs_pickle_is_stored_with_a_secret(cache, namespace: str) -> None:
    f, calls = function(cache, namespace, Opaque([1, 2]))
    assert f(1) == f(1) == Opaque([1, 2])
    assert calls == [1]


def test_without_a_secret_it_is_returned_not_stored_and_said_once(
    valkey_server: Server, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = connect(valkey_server.url)
    f, calls = function(cache, namespace, {"model": Opaque("hunter2")})
    with caplog.at_level(logging.WARNING, "redis_memo"):
        for x in (1, 1, 2):
            assert f(x)["model"] == Opaque("hunter2")
            memo = f.__redis_memo__._memo
            memo._complained = {what: at - 1e6 for what, at in memo._complained.items()}  # a long time passes
    assert calls == [1, 1, 2]
    assert f.cache_info().refused == 3
    said = [record.getMessage() for record in caplog.records if "Opaque" in record.getMessage()]
    assert len(said) == 1
    assert "REDIS_MEMO_SECRET" in said[0]
    assert "hunter2" not in said[0]
    allowed = connect(valkey_server.url, allow_unsigned_pickle=True)
    g, calls = function(allowed, namespace, {"model": Opaque("hunter2")})
    assert g(1) == g(1)
    assert calls == [1]
    allowed.clear(namespace)
    allowed.close()
    cache.close()


def test_an_entry_copied_to_another_call_is_not_believed(cache, namespace: str, valkey_server: Server) -> None:
    f, calls = function(cache, namespace)
    f(1)
    with valkey_server.client() as client:
        client.copy(f.cache_key(1), f.cache_key(2))
    assert f(2) == {"x": 2}
    assert calls == [1, 2]


def test_mutated_entries_cost_a_computation_each_and_no_exception(cache, namespace: str, valkey_server: Server) -> None:
    f, calls = function(cache, namespace)
    f(1)
    key, choose = f.cache_key(1), random.Random(7)
    with valkey_server.client() as client:
        good = client.get(key)
        for number in range(1000):
            raw = bytearray(good)
            for _ in range(choose.randint(1, 4)):
                kind, place = choose.randrange(3), choose.randrange(len(raw))
                if kind == 0:
                    raw[place] ^= choose.randint(1, 255)
                elif kind == 1:
                    del raw[place:]
                else:
                    raw[place:place] = choose.randbytes(choose.randint(1, 9))
                raw = raw or bytearray(b"x")
            if raw == good:
                raw += b"x"
            client.set(key, bytes(raw), ex=60)
            assert f(1) == {"x": 1}
            assert len(calls) == number + 2
    assert f.cache_info().unreadable == 1000


def test_nothing_readable_of_an_argument_is_in_the_store(cache, namespace: str, valkey_server: Server) -> None:
    """Four of five peers show ``password:hunter2`` in the key."""

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def login(user, password, *, token=None):
        return 1

    login("hunter2", "hunter2", token="hunter2")
    with valkey_server.client() as client:
        for key in client.scan_iter(f"memo:{{{namespace}*", count=1000):
            assert b"hunter2" not in key
            if client.type(key) == b"zset":
                assert b"hunter2" not in b"".join(client.zrange(key, 0, -1))
            if client.type(key) == b"string":
                assert b"hunter2" not in client.get(key)


@pytest.mark.parametrize("name", ["", " ", None, 5, "x" * 600, b"bytes"])
def test_bad_namespaces_are_refused_at_decoration(name) -> None:
    if name == " ":
        return  # escaped, see the contract
    with pytest.raises(ConfigurationError):
        redis_cached(namespace=name, ttl=1)(lambda x: x)


@pytest.mark.parametrize("name", ["a b", "a:b", "{a}", "a}b", "*", "[x]", "?", "a\nb", "é", "a#1", "%7B", "\\", "\0"])
def test_odd_names_stay_apart(cache, namespace: str, name: str) -> None:
    """Braces, colons, blanks and glob characters in names end up as themselves, escaped."""
    strange = namespace + name
    f, _ = function(cache, strange)
    g, _ = function(cache, namespace)
    f(1), g(1)
    key = f.cache_key(1)
    assert key.count("{") == key.count("}") == 1
    assert not set(key) & set(" *?[]\\\n\0")
    assert cache.clear(strange) == 1
    assert g.peek(1) is not MISSING
