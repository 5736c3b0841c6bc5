"""P2 for tensors. torch is not installed by default, its usual wheel takes gigabytes: ``make test-torch`` installs it."""

from __future__ import annotations

import collections
import copy
import importlib.util
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch IS NOT INSTALLED: tensors were not tested (make test-torch)", allow_module_level=True)

import torch

from redis_memo import connect, redis_cached
from redis_memo._codecs import dumps, loads
from redis_memo._keys import encode
from redis_memo.errors import KeyingError, UnreadableEntry, UnsupportedType

from .comparison import same
from .conftest import SECRET
from .strategies import STRATEGIES
from .test_keys import different
from .test_keys import same as same_key
from .test_libraries import collected, through_another_process
from .test_values import Holder, by_pickle, quick, there_and_back

NAMES = [name for name in sorted(STRATEGIES) if name.startswith("torch.")]


def test_a_second_process_reads_what_was_written() -> None:
    """P2."""
    values = collected(NAMES, 80)
    assert through_another_process(values) == ([], len(values), [])


def test_a_large_tensor_is_the_callers_own() -> None:
    """P2, and it is handed over as it lies."""
    value = torch.arange(100_000.0)
    payload = dumps(value, allow_pickle=False)
    (buffer,) = payload.buffers
    assert np.shares_memory(np.frombuffer(buffer, "f4"), value.numpy())
    buffers = [bytearray(buffer)]
    first, second = (loads(payload.meta, buffers, trusted=False) for _ in range(2))
    first.zero_()
    assert bytes(buffers[0]) == bytes(buffer)
    buffers[0][:] = bytes(len(buffer))
    assert same(value, second) is True


def model() -> Any:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU())


def test_a_state_dict_is_typed_with_what_it_carries() -> None:
    """P2: its versions of modules are attributes of an ordered dict."""
    state = model().state_dict()
    back = there_and_back(state)
    assert type(back) is collections.OrderedDict
    assert back._metadata == state._metadata
    assert same(dict(state), dict(back)) is True
    other = model()
    torch.nn.init.zeros_(other[0].weight)
    other.load_state_dict(back)
    assert (other[0].weight == model()[0].weight).all()


@pytest.mark.parametrize("secret", [SECRET, None], ids=["with a secret", "without"])
def test_modules_and_a_server(secret: str | None, valkey_server: Any, namespace: str) -> None:
    """P6: a module is pickled, and stored where there is a secret; its tensors alone need none."""
    cache, calls = connect(valkey_server.url, secret=secret), []

    @redis_cached(namespace=namespace, ttl=60, cache=cache)
    def train(what: str) -> Any:
        calls.append(what)
        return model() if what == "module" else model().state_dict()

    rows = torch.ones(2, 1, 5, 5)
    with torch.no_grad():
        assert torch.equal(train("module").eval()(rows), train("module").eval()(rows))
    assert same(dict(train("state")), dict(train("state"))) is True
    assert calls == ["module"] * (1 if secret else 2) + ["state"]
    cache.clear(namespace)
    cache.close()


def hooked() -> Any:
    made = torch.ones(2, requires_grad=True)
    made.register_hook(lambda gradient: gradient)
    return made


@pytest.mark.parametrize("place", ["alone", "in a dict", "in an object"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.ones(2, requires_grad=True) * 2, r"detach\(\)"),
        (hooked, "hooks"),
        (lambda: torch.empty(2, device="meta"), r"device meta; return tensor\.cpu\(\)"),
    ],
    ids=["in a graph", "with hooks", "elsewhere"],
)
def test_what_would_come_back_as_less_is_refused(make: Any, reason: str, place: str) -> None:
    """P2: torch's pickle leaves the graph out and says nothing."""
    value = {"alone": make(), "in a dict": {"a": make()}, "in an object": Holder([make()])}[place]
    for allowed in (True, False) if place != "in an object" else (True,):
        with pytest.raises(UnsupportedType, match=reason):
            dumps(value, allow_pickle=allowed)


def test_sparse_and_quantized_tensors_are_pickled() -> None:
    """P2: their own pickle knows what they consist of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)
        for value in (torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr(), quantized):
            back = by_pickle(value)
            assert back.layout is value.layout
            assert torch.equal(
                back.to_dense() if back.layout is not torch.strided else back.dequantize(),
                value.to_dense() if value.layout is not torch.strided else value.dequantize(),
            )


@quick(400)
@given(st.data())
def test_a_damaged_tensor_is_unreadable_or_can_be_used(data: st.DataObject) -> None:
    """P5, P6."""
    payload = dumps(data.draw(st.one_of([STRATEGIES[name] for name in NAMES])), allow_pickle=False)
    meta = bytearray(payload.meta)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(meta) - 1))
        meta[place] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 0x7F, 0xFE, 0xFF, meta[place] ^ 1]))
    try:
        value = loads(bytes(meta), payload.buffers, trusted=False)
    except UnreadableEntry:
        return
    if isinstance(value, torch.Tensor):
        repr(value.detach().to(torch.complex128) if value.dtype != torch.complex32 else value.shape)
        value.detach().clone().contiguous()


def test_booleans_are_booleans() -> None:
    """P6: other bytes than 0 and 1 would be counted as what they are."""
    payload = dumps(torch.ones(3, dtype=torch.bool), allow_pickle=False)
    with pytest.raises(UnreadableEntry):
        loads(payload.meta.replace(b"\1\1\1N", b"\1\7\1N"), (), trusted=False)


# P1


def test_p1_tensors_by_dtype_shape_and_elements() -> None:
    one = torch.arange(6.0).reshape(2, 3)
    same_key(one, one.T.contiguous().T, one.clone(), torch.stack([one, one], -1)[..., 0])
    changed = one.clone()
    changed[1, 2] = 7
    different(
        one, changed, one.double(), one.bfloat16(), one.reshape(3, 2), one.clone().requires_grad_(), torch.nn.Parameter(one),
        one.numpy(), one.tolist(), one.to_sparse(), one.to_sparse_csr(),
    )  # fmt: skip
    nan, other = torch.tensor([float("nan")]), torch.tensor([-1], dtype=torch.int32).view(torch.float32)
    assert torch.isnan(other).all()
    same_key(nan, other)
    same_key(nan.bfloat16(), -nan.bfloat16())
    same_key(torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j]))
    sparse, summed = (
        torch.sparse_coo_tensor(places, items, (2,), check_invariants=True)
        for places, items in (([[1, 0, 1]], [1.0, 2, 3]), ([[0, 1]], [2.0, 4]))
    )
    same_key(sparse, sparse.coalesce(), summed)


def test_p1_other_things_of_torch() -> None:
    different(
        torch.float32,
        torch.float64,
        torch.device("cpu"),
        torch.device("meta"),
        torch.strided,
        torch.channels_last,
        "torch.float32",
    )
    same_key(torch.Size([1, 2]), torch.ones(1, 2).shape)
    different(torch.Size([1, 2]), (1, 2))
    one = model()
    same_key(one, copy.deepcopy(one))
    other = copy.deepcopy(one)
    with torch.no_grad():
        other[0].bias += 1
    different(one, other)
    for value in (torch.empty(2, device="meta"),):
        with pytest.raises(KeyingError, match="meta"):
            encode(value)
