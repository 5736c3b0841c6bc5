"""Operations and answers of a schedule in words, and as something that can be compared."""

from __future__ import annotations

from typing import Any

from redis_memo import _ops as ops

from .schedule_spec import Env


def coded(answer: Any) -> Any:
    """An answer as something that can be hashed, and is equal in two worlds."""
    if isinstance(answer, list):
        return tuple(answer)
    if hasattr(answer, "world"):
        return type(answer).__name__
    if isinstance(answer, BaseException):
        return repr(answer)
    if isinstance(answer, (ops.Raised, ops.Finished)):
        return type(answer), coded(answer.error if isinstance(answer, ops.Raised) else answer.result)
    return answer


def shown(what: Any) -> str:
    """An operation or an answer, for the story."""
    match what:
        case ops.Found(env):
            return f"found version {env.version}"
        case ops.Busy(holder):
            return f"busy, held by {holder.decode()}"
        case ops.Fill(place, _, env):
            return f"Fill {place.digest[0]} with version {env.version}"
        case ops.Put(place, env):
            return f"Put version {env.version} at {place.digest[0]}"
        case ops.Sealed(env, ttl):
            return f"version {env.version}" + ("" if ttl > 0 else ", not to be stored")
        case ops.Computed(value):
            return f"version {value}"
        case ops.Raised(error):
            return f"{type(error).__name__} {error}".rstrip()
        case ops.Finished(result):
            return shown(result)
        case ops.Release(place, token, note, rest):
            return f"Release {token.decode()} ({note.decode()}{', to rest' if rest else ''})"
        case ops.Acquire(place, token):
            return f"Acquire {place.digest[0]} as {token.decode()}"
        case ops.Read(entry):
            return f"Read {entry[-40]}"
        case Env():
            return f"version {what.version}"
        case _ if hasattr(what, "place"):
            return f"{type(what).__name__} {what.place.digest[0]}"
        case _ if type(what) in (ops.Leased, ops.Resting, ops.DropMatching, ops.Revoke):
            return type(what).__name__
    return repr(what)
