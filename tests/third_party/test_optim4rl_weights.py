"""The importer of Optim4RL's weights: what it takes, and that it runs nothing."""

import contextlib
import io
import os
import pickle
import struct
import zipfile

import flax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from third_party.optim4rl import pickles, reference, weights


def arrays_of(family="optim4rl", hidden_size=8):
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in weights.shapes(family, hidden_size).items()
    }


def nested(arrays, leaf=lambda x: x):
    tree = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf(array)
    return tree


def archive(arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_optim4rl_has_514_numbers():
    assert sum(int(np.prod(s)) for s in weights.shapes("optim4rl", 8).values()) == 514


@pytest.mark.parametrize("hidden_size", [1, 8, 12])
@pytest.mark.parametrize("family", ["optim4rl", "linear", "l2lgd2"])
def test_arrays_tell_their_family_and_size(family, hidden_size):
    arrays = arrays_of(family, hidden_size)
    parsed = weights.from_arrays(arrays)
    assert (parsed.family, parsed.hidden_size) == (family, hidden_size)
    assert_equal(parsed.arrays, arrays)


@pytest.mark.parametrize("family", ["optim4rl", "linear", "l2lgd2"])
def test_the_optimizers_of_the_same_name_have_the_same_arrays(family, tmp_path):
    path = tmp_path / "published.npz"
    path.write_bytes(archive(arrays_of(family)))
    trained = learned_opt.load(path)
    assert trained.metadata["name"] == family
    assert trained.metadata["options"] == {**weights.BRAX_SETTINGS, "hidden_size": 8}


@pytest.mark.parametrize("name", ["ant_1", "ant_5", "ant_22", "humanoid_1"])
def test_published_files_have_514_finite_numbers(published, name):
    parsed = weights.from_arrays(dict(np.load(published / f"optim4rl_{name}.npz")))
    assert (parsed.family, parsed.hidden_size) == ("optim4rl", 8)
    assert sum(array.size for array in parsed.arrays.values()) == 514
    assert name in reference.RETURNS


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("leaf", [np.asarray, np.asfortranarray, jnp.asarray])
@pytest.mark.parametrize("wrap", [dict, flax.core.freeze, lambda tree: {"params": tree}])
def test_pickles_of_arrays_are_read(protocol, leaf, wrap):
    arrays = arrays_of()
    parsed = weights.parse_pickle(pickle.dumps(wrap(nested(arrays, leaf)), protocol))
    assert_equal(parsed.arrays, arrays)


def test_a_pickle_of_numpy_1_is_read():
    content = pickle.dumps(nested(arrays_of()), 2).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in content
    assert_equal(weights.parse_pickle(content).arrays, arrays_of())


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f2", "f8", "i8", "u1", "?"])
def test_number_types_and_byte_orders_are_kept(dtype):
    tree = {"a": np.array([[0, 1, 1], [1, 0, 1]], dtype), "b": np.dtype(dtype).type(1)}
    found = pickles.read_arrays(pickle.dumps(tree))
    assert_equal(found, tree)
    assert found["a"].dtype == np.dtype(dtype)


class Hostile:
    """Pickles as a call that leaves a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_by_name_and_not_run(tmp_path, protocol):
    mark = tmp_path / "ran"
    bomb = Hostile(os.system, f"touch {mark}")
    for tree in (bomb, {"params": nested(arrays_of()) | {"extra": bomb}}):
        content = pickle.dumps(tree, protocol)
        with pytest.raises(ValueError, match=r"(posix|nt)\.system"):
            weights.parse_pickle(content)
    source = tmp_path / "param.pickle"
    source.write_bytes(content)
    with pytest.raises(ValueError, match=r"param\.pickle.*system"):
        learned_opt.convert_pickle(source, tmp_path / "optimizer.npz")
    assert not mark.exists() and not (tmp_path / "optimizer.npz").exists()


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0csave.__doc__\x93.", "numpy.save"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        # Names next to those that are known.
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"cnumpy\ndtype.__init__\n.", "numpy.dtype.__init__"),
        (b"cthird_party.optim4rl.pickles\n_Function\n.", "_Function"),
        # Known functions with other arguments, and attempts to change what they are.
        (b"cnumpy\ndtype\n(S'O'\ntR.", "type 'O'"),
        (b"cnumpy\ndtype\n(S'f4,O'\ntR.", "type 'f4,O'"),
        (b"cnumpy\ndtype\n(cnumpy\ndtype\ntR.", "numbers of type"),
        (b"cnumpy\ndtype\n}b.", "state"),
        (b"cnumpy\ndtype\n(N(S'_function'\ncnumpy\nndarray\ndtb.", "state"),
        (b"cnumpy\nndarray\n)R.", "damaged"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "damaged"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "encodes"),
        (b"cjax._src.array\n_reconstruct_array\n(cnumpy\nndarray\n)NNtR.", "by a function"),
        (b"cflax.core.frozen_dict\nFrozenDict\n((lp0\ng0\natR.", "damaged|FrozenDict|unknown way"),
        (b"cnumpy\nndarray\n.", "_Marker"),
        (b"\x80\x02U\x01xQ.", "outside the file"),
        (b"N.", "not an array"),
        (b"}S'a'\nI1\ns.", "a is 1, not an array"),
        (b"}I1\n}s.", "1 is not the name"),
        (b"}S'a'\n}p0\nS'a'\ng0\nss.", "deeper|not an array"),
    ],
)
def test_nothing_but_arrays_and_dicts_comes_out(opcodes, message):
    with pytest.raises(ValueError, match=message):
        pickles.read_arrays(opcodes)


def test_what_one_file_does_is_not_seen_by_the_next():
    with pytest.raises(ValueError, match="state"):
        pickles.read_arrays(b"cnumpy\ndtype\n}S'code'\nS'O'\nsb.")
    assert_equal(weights.parse_pickle(pickle.dumps(nested(arrays_of()))).arrays, arrays_of())


def test_trees_without_end_and_memory_beyond_reason_are_refused():
    tree = {}
    tree["self"] = tree
    with pytest.raises(ValueError, match="deeper"):
        pickles.read_arrays(pickle.dumps(tree))
    wide = {}
    for _ in range(6):  # 10^6 dicts in a few hundred bytes
        wide = {str(i): wide for i in range(10)}
    with pytest.raises(ValueError, match="more than"):
        pickles.read_arrays(pickle.dumps(wide))
    huge_memo = b"\x80\x02}r" + struct.pack("<I", 2**32 - 2) + b"."
    with pytest.raises(ValueError, match="memory"):
        pickles.read_arrays(huge_memo)
    with pytest.raises(ValueError, match="more than"):
        pickles.read_arrays(b" " * (pickles.MAX_BYTES + 1))


def test_arrays_of_objects_are_refused():
    for protocol in (2, 4, 5):
        content = pickle.dumps({"a": np.array([{}], dtype=object)}, protocol)
        with pytest.raises(ValueError, match="'O8'"):
            pickles.read_arrays(content)
    structured = np.zeros(2, [("x", "f4"), ("y", "O")])
    with pytest.raises(ValueError, match="type 'V"):
        pickles.read_arrays(pickle.dumps({"a": structured}))


def test_sizes_must_fit_bytes():
    content = pickle.dumps({"a": np.zeros(3, np.float32)}, 2)
    assert content.count(b"K\x03\x85") == 1  # the shape, (3,)
    with pytest.raises(ValueError, match="3 numbers, but shape"):
        pickles.read_arrays(content.replace(b"K\x03\x85", b"K\x04\x85"))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_cut_anywhere_is_refused(protocol):
    content = pickle.dumps(nested(arrays_of(hidden_size=1)), protocol)
    for length in range(0, len(content), 7):
        with pytest.raises(ValueError, match=r"cut off|expected"):
            weights.parse_pickle(content[:length])


def test_a_damaged_pickle_gives_a_clear_error_or_arrays():
    content = pickle.dumps(nested(arrays_of(hidden_size=1)), 4)
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        # Either it is refused by a ValueError, or the damage is in the numbers.
        with contextlib.suppress(ValueError):
            parsed = weights.parse_pickle(bytes(damaged))
            assert all(np.all(np.isfinite(array)) for array in parsed.arrays.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("rnn2/hn/bias"), "missing rnn2/hn/bias"),
        (lambda a: a.update(more=np.zeros(1)), "unexpected more"),
        (lambda a: a.update({"rnn1/hn/bias": np.zeros((8, 1))}), "one number for each GRU unit"),
        (
            lambda a: a.update({"rnn2/hr/kernel": np.zeros((8, 9))}),
            r"rnn2/hr/kernel has shape \(8, 9\), expected \(8, 8\)",
        ),
        (lambda a: a["mlp1/layers_0/kernel"].fill(np.nan), "8 of the 8 numbers of mlp1"),
        (lambda a: a.update({"mlp2/layers_0/bias": np.zeros(1, int)}), "float32 numbers, found"),
        (lambda a: a.clear(), "no arrays at all"),
        (lambda a: a.pop("rnn1/hn/bias"), "found mlp1/layers_0/bias, "),
    ],
)
def test_wrong_arrays_are_refused_by_name(tmp_path, change, message):
    arrays = arrays_of()
    change(arrays)
    with pytest.raises(ValueError, match=message):
        weights.from_arrays(arrays)
    path = tmp_path / "wrong.npz"
    path.write_bytes(archive(arrays))
    # An archive of nothing has another signature than one of something.
    with pytest.raises(ValueError, match=r"wrong\.npz") as caught:
        learned_opt.load(path)
    assert not arrays or caught.match(message)


@pytest.mark.parametrize("keep", [0, 1, 10, 500, -1])
def test_a_cut_archive_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "cut.npz"
    path.write_bytes(archive(arrays_of())[:keep])
    with pytest.raises(ValueError, match=r"cut\.npz"):
        learned_opt.load(path)


def test_an_archive_of_objects_is_refused(tmp_path):
    path = tmp_path / "published.npz"
    path.write_bytes(archive({"rnn1/hn/bias": np.array([{}], dtype=object)}))
    with pytest.raises(ValueError, match="no archive of plain arrays"):
        learned_opt.load(path)
    with zipfile.ZipFile(path, "w") as file:
        for name in arrays_of():
            file.writestr(f"{name}.npy", b"not an array")
    with pytest.raises(ValueError, match="expected one number for each"):
        learned_opt.load(path)


def test_a_converted_pickle_loads_as_an_optimizer(tmp_path):
    arrays = arrays_of()
    source, target = tmp_path / "param.pickle", tmp_path / "optimizer.npz"
    source.write_bytes(pickle.dumps({"params": nested(arrays, jnp.asarray)}))
    learned_opt.convert_pickle(source, target, learning_rate=1e-3, gradient_clip=None)
    trained = learned_opt.load(target)
    assert trained.metadata["name"] == "optim4rl"
    assert trained.metadata["options"] == {
        "learning_rate": 1e-3,
        "gradient_clip": None,
        "hidden_size": 8,
    }
    assert "published" in trained.metadata["source"]
    np.testing.assert_array_equal(trained.theta["rnn2"]["hz"]["kernel"], arrays["rnn2/hz/kernel"])


def test_unknown_options_of_a_conversion_are_named(tmp_path):
    source = tmp_path / "param.pickle"
    source.write_bytes(pickle.dumps(nested(arrays_of())))
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        learned_opt.convert_pickle(source, tmp_path / "x.npz", lerning_rate=1.0)
