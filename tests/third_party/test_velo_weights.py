"""The importer of VeLO's weights: what it takes, what it refuses, and what it costs."""

import collections
import time
import tracemalloc

import flax
import jax
import msgpack
import numpy as np
import pytest
from flax import serialization

import learned_opt
from third_party.velo import msgpack_arrays, weights

LstmState = collections.namedtuple("LstmState", ["hidden", "cell"])


@flax.struct.dataclass
class ParameterCheckpoint:
    """As learned_optimization has it."""

    params: object
    gen_id: str
    step: int


def arrays_of(hidden_size=4, sets=3):
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in weights.shapes(hidden_size, sets).items()
    }


def tree_of(arrays):
    """The parameters as Haiku and learned_optimization nest them."""
    tree = {"ff_mod_stack": {"~": {}}, "rnn_params": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        if part == "ff_mod_stack":
            tree[part]["~"][rest.removeprefix("~/")] = array
        elif part == "rnn_params":
            module, _, leaf = rest.rpartition("/")
            tree[part].setdefault(module, {})[leaf] = array
    state = (arrays["lstm_init_state/hidden"], arrays["lstm_init_state/cell"])
    return tree | {"lstm_init_state": LstmState(*state)}


def small():
    return tree_of(arrays_of())


def assert_refused(content, match):
    with pytest.raises(ValueError, match=match):
        weights.parse(content)


def assert_equal(parsed, arrays):
    assert parsed.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(parsed.arrays[name], array)


def test_the_published_optimizer_has_2320385_numbers():
    shapes = weights.shapes(*weights.PUBLISHED_SIZES).values()
    assert sum(int(np.prod(shape)) for shape in shapes) == 2_320_385


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tree: tree,
        lambda tree: ParameterCheckpoint(tree, "a name", 5620),
        lambda tree: ParameterCheckpoint(tree, "", np.int64(7)),
        lambda tree: {"params": tree},
        lambda tree: tree | {"lstm_init_state": tuple(tree["lstm_init_state"])},
    ],
)
def test_what_flax_writes_is_read(wrap):
    parsed = weights.parse(serialization.to_bytes(wrap(small())))
    assert (parsed.lstm_hidden_size, parsed.num_parameter_sets) == (4, 3)
    assert_equal(parsed, arrays_of())


def test_arrays_in_pieces_are_read(monkeypatch):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 100)
    content = serialization.to_bytes(small())
    assert b"__msgpack_chunked_array__" in content
    assert_equal(weights.parse(content), arrays_of())


def test_the_published_size_is_read_quickly_and_in_little_memory():
    arrays = arrays_of(*weights.PUBLISHED_SIZES)
    content = serialization.to_bytes(ParameterCheckpoint(tree_of(arrays), "", 1))
    assert 9.2e6 < len(content) < 9.4e6
    tracemalloc.start()
    start = time.perf_counter()
    parsed = weights.parse(content)
    seconds = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2.0
    assert peak < 100e6
    assert_equal(parsed, arrays)


def test_the_optimizer_has_the_numbers_of_the_file(tmp_path):
    arrays, path = arrays_of(), tmp_path / "velo.params"
    path.write_bytes(serialization.to_bytes(small()))
    options = {"total_updates": 10, "loss": "constant"}
    optimizer, theta, metadata = learned_opt.load(path, options=options)
    assert metadata["name"] == "velo"
    assert metadata["options"]["lstm_hidden_size"] == 4
    np.testing.assert_array_equal(
        theta["rnn_params"]["rnn/linear"]["w"], arrays["rnn_params/rnn/linear/w"]
    )
    np.testing.assert_array_equal(
        theta["ff_mod_stack"]["~"]["w0__12"], arrays["ff_mod_stack/~/w0__12"]
    )
    params = {"w": np.ones((3, 2), np.float32)}
    tx = optimizer.transform(theta)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert np.all(np.isfinite(updates["w"]))


@pytest.mark.slow
def test_a_file_becomes_an_optimizer_that_is_told_the_length_of_its_run(tmp_path):
    path = tmp_path / "velo.params"
    path.write_bytes(serialization.to_bytes(small()))
    trained = learned_opt.load(path)
    with pytest.raises(ValueError, match="total_updates"):
        trained.optimizer.transform(trained.theta)
    assert trained.for_run(100).metadata["options"]["total_updates"] == 100
    params = {"w": np.ones((3, 2), np.float32)}
    standalone = trained.as_optax(total_updates=100)
    inside = trained.for_run(100).optimizer.transform(trained.theta)
    updates = [
        jax.jit(tx.update)(params, tx.init(params), params, loss=1.0)[0]["w"]
        for tx in (standalone, inside)
    ]
    np.testing.assert_array_equal(*updates)
    with pytest.raises(ValueError, match=r"loss=\.\.\."):
        standalone.update(params, standalone.init(params), params)
    without = learned_opt.load(path, options={"loss": "constant"}).as_optax(total_updates=100)
    without.update(params, without.init(params), params)


def test_a_damaged_file_is_refused_with_its_name(tmp_path):
    path = tmp_path / "velo.params"
    path.write_bytes(serialization.to_bytes(small())[:-100])
    with pytest.raises(ValueError, match=r"velo\.params.*msgpack"):
        learned_opt.load(path)


def test_sizes_are_the_files(tmp_path):
    path = tmp_path / "velo.params"
    path.write_bytes(serialization.to_bytes(small()))
    with pytest.raises(ValueError, match="its own sizes"):
        learned_opt.load(path, options={"lstm_hidden_size": 8})


def without(tree, *path):
    *parents, last = path
    node = tree
    for parent in parents:
        node = node[parent]
    del node[last]
    return tree


def put(tree, value, *path):
    *parents, last = path
    node = tree
    for parent in parents:
        node = node[parent]
    node[last] = value
    return tree


BANK, LSTM = ("ff_mod_stack", "~"), ("rnn_params", "rnn/linear")


@pytest.mark.parametrize(
    ("tree", "match"),
    [
        (lambda: without(small(), *BANK, "w0__3"), "missing ff_mod_stack/~/w0__3"),
        (lambda: put(small(), np.ones(3, "f4"), *BANK, "w3"), "unexpected ff_mod_stack/~/w3"),
        (lambda: put(small(), np.ones((8, 15), "f4"), *LSTM, "w"), r"expected \(8, 16\)"),
        (lambda: put(small(), np.ones((8, 16), "f8"), *LSTM, "w"), "float32"),
        (lambda: put(small(), np.full((8, 16), np.nan, "f4"), *LSTM, "w"), "128 of the 128"),
        (lambda: put(small(), "text", *LSTM, "w"), "expected an array"),
        (lambda: put(small(), 3, *LSTM, "w"), "expected an array"),
        (lambda: without(small(), "lstm_init_state"), "expected VeLO's parameters"),
        (lambda: put(small(), {}, "more"), "expected VeLO's parameters"),
        (lambda: put(small(), np.ones((0, 4), "f4"), *BANK, "b0"), "two dimensions"),
        (lambda: ParameterCheckpoint(np.ones(3), "", 1), "params is a dict"),
        (lambda: {"params": small(), "optimizer": {}}, "unexpected optimizer"),
        (lambda: (small(), "", 0), "earlier optimizers"),
        (dict, "expected a msgpack file"),
    ],
)
def test_another_layout_is_refused(tree, match):
    assert_refused(serialization.to_bytes(tree()), match)


def test_every_truncated_file_is_refused():
    content = serialization.to_bytes(small())
    for length in [*range(200), *range(200, len(content), 997), len(content) - 1]:
        with pytest.raises(ValueError, match="expected"):
            weights.parse(content[:length])


def test_bytes_after_the_end_are_refused():
    assert_refused(serialization.to_bytes(small()) + b"\x00", "follow after its end")


def extension(shape, dtype, raw, code=1):
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, raw), use_bin_type=True))


HUGE = 2**31 - 1


@pytest.mark.parametrize(
    ("leaf", "match"),
    [
        (extension((2,), "float32", b"1234"), "not as many numbers"),
        (extension((2**40, 2**40), "float32", b""), "not as many numbers"),
        (extension((-1,), "float32", b"1234"), "shape that is none"),
        (extension((1.0,), "float32", b"1234"), "shape that is none"),
        (extension((True,), "float32", b"1234"), "shape that is none"),
        (extension("ab", "float32", b"1234"), "shape that is none"),
        (extension((1,) * 9, "float32", b"1234"), "cut off or damaged"),
        (extension((1,), "object", b"12345678"), "number type 'object'"),
        (extension((1,), "O", b"12345678"), "number type 'O'"),
        (extension((1,), "f4,f4", b"12345678"), "number type 'f4,f4'"),
        (extension((1,), 7, b"1234"), "number type"),
        (extension((1,), "float32", 5), "not as many numbers"),
        (msgpack.ExtType(1, msgpack.packb([1, 2])), "not .shape, type, bytes."),
        (msgpack.ExtType(1, b"\xdd\x7f\xff\xff\xff"), "cut off or damaged"),
        (msgpack.ExtType(1, b""), "cut off or damaged"),
        (msgpack.ExtType(2, msgpack.packb((1.0, 2.0))), "code 2"),
        (msgpack.ExtType(77, b"rm"), "code 77"),
        (msgpack.Timestamp(1), "Timestamp"),
        (b"bytes", "cut off or damaged"),
        ([1, 2], "cut off or damaged"),
        (1.5, "float"),
        (None, "NoneType"),
        ({"__msgpack_chunked_array__": True}, "without shape"),
        ({"__msgpack_chunked_array__": True, "shape": {"0": HUGE}, "chunks": {"0": 1}}, "fit"),
        ({"__msgpack_chunked_array__": True, "shape": {"1": 3}, "chunks": {"0": 1}}, "missing"),
    ],
)
def test_hostile_leaves_are_refused(leaf, match):
    assert_refused(msgpack.packb({"rnn_params": leaf}, use_bin_type=True), match)


@pytest.mark.parametrize(
    "content",
    [
        b"\xdf\xff\xff\xff\xff",  # a map of 4e9 entries
        b"\xdf\x7f\xff\xff\xff" + b"\xa1a\x01" * 100,
        b"\x81\xdb\x7f\xff\xff\xff",  # a name of 2 GiB
        b"\x81\xa1a\xc9\x7f\xff\xff\xff\x01",  # an array of 2 GiB
        b"\x81\xa1a\xdd\x7f\xff\xff\xff",  # a list of 2e9 entries
        b"\x81\xa1a" * 100_000,  # maps without end
        msgpack.packb({str(i): 0 for i in range(10_000)}),
        b"\x82\xa1a\x01\xa1a\x02",  # the same name twice
        b"\x81\x01\x02",  # a number for a name
        b"\x81\xa1\xff\x01",  # a name that is no text
        b"\x81\xa1a\xc1",  # a byte that msgpack does not use
        b"\x93NUMPY",
        b"PK\x03\x04",
        b"",
    ],
)
def test_hostile_files_are_refused_without_taking_memory(content):
    tracemalloc.start()
    assert_refused(content, "expected")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_deep_dicts_are_refused():
    tree = {"a": 1}
    for _ in range(20):
        tree = {"a": tree}
    assert_refused(msgpack.packb(tree), "deeper than 8")


def test_a_file_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(msgpack_arrays, "MAX_BYTES", 100)
    assert_refused(serialization.to_bytes(small()), "more than 100")


def test_random_damage_never_ends_in_another_error():
    content = bytearray(serialization.to_bytes(small()))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        for position in rng.integers(0, 400, 3):
            damaged[position] = rng.integers(256)
        try:
            weights.parse(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 250
