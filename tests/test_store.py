"""What is read from disk is what would be measured, or nothing."""

import os
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import mechinterp.store as store_module
from mechinterp import AblateHeads, MechinterpError, Metric, Steer, Store, digest, last, log_odds, since, sweep
from tests.conftest import tiny_subject

PROMPTS = [[5, 6, 7, 8], [9, 10, 11]]


class Making:
    """Counts how often something is measured."""

    def __init__(self, value=1.0):
        self.times, self.value = 0, value

    def __call__(self):
        self.times += 1
        return {"x": torch.tensor([self.value, 2.0]), "y": torch.tensor([3, 4])}


@pytest.fixture
def store(tmp_path, qwen):
    return Store(tmp_path / "store", qwen)


def entries(store):
    return sorted(store.folder.glob("*.safetensors"))


def test_measured_once(store, qwen):
    make = Making()
    first = store.tensors("a", make)
    again = Store(store.folder, qwen).tensors("a", make)
    assert make.times == 1
    assert {name: tensor.tolist() for name, tensor in again.items()} == {"x": [1, 2], "y": [3, 4]}
    assert all(first[name].dtype == again[name].dtype for name in first)
    store.tensors("b", make)
    assert make.times == 2


def test_every_bit_of_the_subject_counts(store):
    """One weight, the configuration, the number format, the code that asks."""
    make = Making()
    store.tensors("a", make)
    for change in ("weight", "config", "dtype", "code"):
        other = tiny_subject("qwen2")
        if change == "weight":
            other.model.model.layers[1].mlp.down_proj.weight.data[0, 0] += 1e-7
        elif change == "config":
            other.model.config.rms_norm_eps *= 2
        elif change == "dtype":
            other.model.to(torch.bfloat16)
        before = make.times
        Store(store.folder, other, code="new" if change == "code" else "").tensors("a", make)
        assert make.times == before + 1, change
    Store(store.folder, tiny_subject("qwen2")).tensors("a", make)
    assert make.times == 5  # the same weights, made again, have the entry of the first


def damaged(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif how == "flipped":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":  # whole, but nothing says that it belongs here
        save_file(load_file(path), path)
    elif how == "renamed":  # whole, but of another measurement
        save_file({"x": torch.zeros(2)}, path, metadata={"key": "0" * 64, "digest": digest({"x": torch.zeros(2)})})
    else:
        path.write_text("not a tensor file")


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "foreign", "renamed", "text"])
def test_what_is_not_whole_is_measured_again(store, how):
    make = Making()
    store.tensors("a", make)
    (path,) = entries(store)
    damaged(path, how)
    with pytest.warns(UserWarning, match="measured again"):
        found = store.tensors("a", make)
    assert make.times == 2
    assert found["x"].tolist() == [1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.tensors("a", make)  # and it has been written anew
    assert make.times == 2


def test_size_is_bounded(tmp_path, qwen):
    """What was not used for longest goes; what is too large is not kept at all."""
    store = Store(tmp_path, qwen, limit=3000)

    def big(size):
        return lambda: {"x": torch.zeros(size, dtype=torch.uint8)}

    store.tensors("old", big(1000))
    store.tensors("second", big(1000))
    by_name = {digest(store.base, name): name for name in ("old", "second", "third")}
    for age, name in ((100, "second"), (50, "old")):
        (path,) = [one for one in entries(store) if by_name[one.stem] == name]
        os.utime(path, (1e9 - age, 1e9 - age))
    store.tensors("old", Making())  # used
    store.tensors("third", big(1000))
    assert {by_name[path.stem] for path in entries(store)} == {"old", "third"}
    store.tensors("huge", big(4000))
    assert sum(path.stat().st_size for path in entries(store)) <= 3000
    assert not list(tmp_path.glob("*.draft"))


def test_a_folder_that_cannot_be_used(tmp_path, qwen):
    """It costs only time, and is said once."""
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file", qwen)
    with pytest.warns(UserWarning, match="measurements are not kept there") as said:
        assert [store.tensors(name, Making())["x"].tolist() for name in "abc"] == [[1, 2]] * 3
    assert len(said) == 1


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), SafetensorError("I/O error")])
def test_a_disk_that_is_full(tmp_path, qwen, monkeypatch, failure):
    """So does one that fills up while a measurement is written; nothing half-written stays."""

    def full(*_, **__):
        raise failure

    store = Store(tmp_path, qwen)
    store.tensors("before", Making())
    monkeypatch.setattr("mechinterp.store.save_file", full)
    with pytest.warns(UserWarning, match="measurements are not kept there") as said:
        assert [store.tensors(name, Making())["x"].tolist() for name in "abc"] == [[1, 2]] * 3
    assert len(said) == 1
    assert len(list(tmp_path.iterdir())) == 1
    make = Making()
    store.tensors("before", make)
    assert make.times == 0


def test_sweeps(store, qwen):
    """Read, not run, if and only if all that decides them is the same."""
    calls = []
    handle = qwen.anatomy.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))

    usual = {"interventions": [AblateHeads([(1, 1)]), None], "prompts": PROMPTS, "metric": log_odds(5, 6)}

    def run(**other):
        calls.clear()
        swept = sweep(qwen, **{**usual, "scope": last, "store": store, **other})
        return swept, bool(calls)

    first, ran = run()
    assert ran
    again, ran = run()
    assert not ran
    assert torch.equal(first, again)
    assert not run(max_rows=1)[1]  # how it is run does not matter
    assert run(interventions=[AblateHeads([(1, 2)]), None])[1]
    assert run(interventions=[AblateHeads([(1, 1)], {1: torch.zeros(4, 8)}), None])[1]
    assert run(interventions=[Steer(1, torch.ones(32))])[1]
    assert run(interventions=[Steer(1, torch.ones(32), 2.0)])[1]
    assert run(prompts=[PROMPTS[0], [9, 10, 12]])[1]
    assert run(metric=log_odds(6, 5))[1]
    assert run(scope=since([2, 1]))[1]
    handle.remove()
    with pytest.raises(MechinterpError, match="no name"):
        run(metric=Metric(lambda read: read.logits([5])[:, 0]))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def shape_of(value):
    """Distinguishes 1, True and 1.0, as a digest must."""
    if isinstance(value, list):
        return [shape_of(one) for one in value]
    if isinstance(value, dict):
        return {key: shape_of(one) for key, one in value.items()}
    return type(value).__name__, repr(value)


@given(plain, plain)
def test_digests_tell_values_apart(a, b):
    assert (digest(a) == digest(b)) == (shape_of(a) == shape_of(b))


@given(arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=3)))
def test_digests_of_arrays(values):
    """The same for an array and its tensor, another for another shape, number format or bit."""
    tensor = torch.from_numpy(values)
    assert digest(values) == digest(tensor) == digest(tensor.clone())
    assert digest(tensor) != digest(tensor[None])
    assert digest(tensor) != digest(tensor.double())
    assert digest(tensor) != digest(torch.nextafter(tensor.nan_to_num(), torch.tensor(9e9)))


@pytest.mark.parametrize(
    "odd", [torch.ones(3, device="meta"), torch.eye(2).to_sparse(), np.array(["a"]), np.array([object()]), {1, 2}]
)
def test_no_digest(odd):
    with pytest.raises(MechinterpError, match="cannot be part of"):
        digest(odd)


def test_functions_have_no_digest():
    with pytest.raises(MechinterpError, match="a function cannot"):
        digest({"metric": lambda: 1})


def test_large_tensors_are_read_once(monkeypatch):
    """As long as they live and stay as they are; a change, by torch or through a shared array, is seen."""
    read, hashed = [], store_module._hashed
    monkeypatch.setattr(store_module, "_hashed", lambda tensor: read.append(tensor.nbytes) or hashed(tensor))
    array = np.random.default_rng(0).normal(size=(64, 512)).astype(np.float32)
    tensor = torch.from_numpy(array)

    def made():
        read.clear()
        return digest({"values": tensor}), array.nbytes in read

    first, whole = made()
    assert whole
    assert made() == (first, False)
    assert digest({"values": tensor.clone()}) == first
    tensor[3, 7] += 1
    second, whole = made()
    assert second != first
    assert whole
    array[:] = 0
    assert made() == (digest({"values": torch.zeros(64, 512)}), True)
    tensor.data = torch.ones(64, 512)
    assert made()[0] == digest({"values": torch.ones(64, 512)})
    with torch.inference_mode():
        inside = torch.ones(64, 512)
    assert digest({"values": inside}) == made()[0]


def test_forgotten_with_the_tensor():
    tensor = torch.ones(64, 512)
    digest(tensor)
    count = len(store_module._known)
    del tensor
    assert len(store_module._known) == count - 1


def test_weights_that_were_changed(tmp_path):
    """The same subject after a step of training has other entries, and its old ones when it is as before."""
    subject = tiny_subject("qwen2")
    store, make = Store(tmp_path, subject), Making()
    weight = subject.anatomy.o_proj(0).weight
    store.tensors("a", make)
    with torch.no_grad():
        weight.mul_(2)
        store.tensors("a", make)
        assert make.times == 2
        weight.mul_(0.5)
    store.tensors("a", make)
    assert make.times == 2
