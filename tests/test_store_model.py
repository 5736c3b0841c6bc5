"""The scripts mean what the model says: random programs of store operations on both, with equal answers."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_memo import _ops as ops
from redis_memo import connect
from redis_memo._bounds import NO_BOUNDS, Bounds

from .conftest import Server
from .model import FakeClock, ModelStore

KEYS = st.sampled_from([b"", b"RMEM one", b"RMEM another"])
TOKENS = st.sampled_from([b"token-a", b"token-b", b"token-c"])
# Two arguments with two values each, and values whose bytes are awkward in a sorted set.
FIRST = (b"\xff" * 8, b"\x00" * 7 + b"\x01")
SECOND = (b"ttttdddd", b"\xff\x00\xff\x00\xff\x00\xff\x00")
LONG = 1000.0


def program(prefix: str, bounds: Bounds = NO_BOUNDS) -> st.SearchStrategy[list[object]]:
    places = st.sampled_from(
        [ops.Place(prefix, f"{a}{b}" * 20, FIRST[a] + SECOND[b], bounds) for a in (0, 1) for b in (0, 1)]
        + [ops.Place(prefix, "cc" * 20, b"", bounds)]
    )
    untagged = places.map(lambda place: place._replace(tokens=place.tokens + ops.UNTAGGED))
    digests = st.lists(places.map(lambda place: place.digest), unique=True)
    amounts = st.dictionaries(st.sampled_from(["hits", "misses"]), st.integers(1, 5))
    computing = st.one_of(places, untagged)
    tags = st.sampled_from([b"", b"tag-of-1", b"tag-of-2", b"tag-of-1tag-of-2"])
    found_by = st.builds(lambda place, tag: (place, place.tokens + tag), places, tags)
    envelopes = st.sampled_from([b"", b"one", b"two" * 50])
    subsets = st.sampled_from(
        [b"", *FIRST, *SECOND, FIRST[0] + SECOND[1], SECOND[0] + FIRST[0], b"tag-of-1", b"tag-of-2"]
    )
    return st.lists(
        st.one_of(
            st.builds(ops.Read, places.map(lambda place: place.entry)),
            st.builds(ops.Acquire, computing, TOKENS, st.just(LONG), st.one_of(st.none(), envelopes)),
            st.builds(ops.Seize, computing, TOKENS, st.just(LONG)),
            st.builds(ops.Renew, places, TOKENS, st.just(LONG)),
            st.builds(
                lambda found, token, envelope, key: ops.Fill(found[0], token, envelope, LONG, found[1], key),
                found_by,
                TOKENS,
                envelopes,
                KEYS,
            ),
            st.builds(lambda found, envelope: ops.Put(found[0], envelope, LONG, found[1]), found_by, envelopes),
            st.builds(ops.Release, places, TOKENS, st.just(b"told"), st.sampled_from([0.0, LONG])),
            st.builds(ops.Revoke, st.just(prefix), st.just(ops.UNTAGGED), st.sampled_from([1, 2, 100])),
            st.builds(lambda place, key: ops.Put(place, b"one", LONG, place.tokens, key), places, KEYS),
            st.builds(ops.Drop, places, st.sampled_from([None, b"one"])),
            st.booleans().map(lambda back: ops.Keys(prefix, 100, back=back)),
            st.builds(ops.MoveKey, places, st.booleans()),
            st.builds(ops.DropMatching, st.just(prefix), subsets, st.sampled_from([1, 2, 100])),
            st.just(ops.Count(prefix)),
            st.builds(ops.Inspect, places),
            st.builds(
                ops.Touch, st.just(prefix), st.just(bounds), digests.map(lambda each: dict.fromkeys(each, 1)), amounts
            ),
            st.just(ops.Counted(prefix)),
            st.just(ops.Counted(prefix, forget=True)),
            *([st.just(ops.Usage(prefix)), st.just(ops.Mend(prefix, bounds))] if bounds else []),
            st.builds(ops.Enroll, st.just(f"{prefix}r"), st.sampled_from(["p", "q", ""])),
            st.just(ops.Enrolled(f"{prefix}r")),
            st.builds(ops.Strike, st.just(f"{prefix}r"), st.sampled_from(["p", "q"]), st.just(1)),
            st.just(ops.Tidy(prefix)),
            st.builds(ops.NoteWait, st.sampled_from([prefix.encode() + b"1", prefix.encode() + b"2"]), TOKENS),
            st.builds(ops.FollowWait, st.sampled_from([prefix.encode() + b"1", prefix.encode() + b"2"])),
        ),
        max_size=40,
    )


def rounded(answer: object) -> object:
    if isinstance(answer, ops.Busy):
        return ops.Busy(answer.holder, round(answer.seconds, -2))
    if isinstance(answer, ops.Inspected):
        left = [None if left is None else round(left, -2) for left in (answer.entry_ttl, answer.lease_ttl)]
        return [*left, answer.before, answer.entries]
    if isinstance(answer, ops.Kept):
        return answer.answer, answer.evicted
    if isinstance(answer, ops.Used):
        return answer.current, answer.entries or 0, answer.size
    if type(answer) is tuple and len(answer) == 3:
        return answer[2]  # the keys of a mapping, whatever their places
    if type(answer) is tuple and answer[1:] == ([],):
        return []  # whatever the moment
    return answer


BOUNDS = [NO_BOUNDS, Bounds(maxsize=2), Bounds(maxbytes=200), Bounds(maxsize=3, maxbytes=156)]


@pytest.mark.parametrize("which", ["valkey_server", "redis_server", "redis_6_server", "redis_8_server"])
def test_scripts_and_model_agree(which: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(which)
    backend = connect(server.url).engine.backend
    client = server.client()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        prefix = f"memo:{{{uuid.uuid4().hex}:f:#0}}:"
        model = ModelStore(FakeClock())
        for op in data.draw(program(prefix, data.draw(st.sampled_from(BOUNDS)))):
            expected, answer = rounded(model.perform(op)), backend.perform(op)
            while isinstance(answer, ops.Mended) and answer.following is not None:  # a search takes several steps
                further = backend.perform(answer.following)
                answer = further._replace(evicted=answer.evicted + further.evicted)
            got = rounded(answer)
            if isinstance(op, ops.DropMatching | ops.Revoke) and op.limit < 100:
                # Which of several go first is the store's choice: let both go on until nothing matches.
                total, more = got
                while more:
                    gone, more = backend.perform(op)
                    total += gone
                whole = op._replace(limit=100)
                assert total == expected[0] + model.perform(whole)[0], op
                continue
            assert got == expected, op
        # The index holds what stands and nothing else, whatever happened.
        standing = {key[len(prefix) :] for key in {*model.entries, *model.leases}}
        listed = {digest.decode() for digest in client.zrange(f"{prefix}index", 0, -1)}
        assert listed == standing
        # So does what is kept for the bounds.
        uses = [prefix + digest.decode() for digest in client.zrange(f"{prefix}uses", 0, -1)]
        assert uses == model._used(prefix)
        sizes = client.hgetall(f"{prefix}sizes")
        if sizes:
            assert {digest.decode() for digest in sizes if digest[:1] != b"#"} == {key[len(prefix) :] for key in uses}
            assert int(sizes[b"#bytes"]) == model._size(prefix)
        if not standing:
            assert client.exists(f"{prefix}args") == 0, "P7: something was left behind"

    check()
    backend.close()
    client.close()
