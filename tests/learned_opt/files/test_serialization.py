import json
import pickle

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt


@pytest.fixture
def saved(tmp_path):
    optimizer = learned_opt.make("open", initial_theta="random")
    theta = optimizer.init(jax.random.key(0))
    path = tmp_path / "optimizer.npz"
    learned_opt.save(
        path, "open", theta, options={"initial_theta": "random"}, metadata={"training": {"x": 1}}
    )
    return path, theta


def test_what_is_saved_is_loaded(saved):
    path, theta = saved
    trained = learned_opt.load(path)
    jax.tree.map(np.testing.assert_array_equal, trained.theta, theta)
    assert trained.metadata["name"] == "open"
    assert trained.metadata["training"] == {"x": 1}


def test_handcrafted_optimizers_load_by_name():
    trained = learned_opt.load("adam:breakout")
    assert trained.theta == {}
    assert trained.metadata["options"] == {"preset": "breakout"}


@pytest.mark.parametrize("keep", [0, 1, 10, 500, -1])
def test_truncated_files_are_refused_by_name(saved, keep, tmp_path):
    content = saved[0].read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(content[:keep])
    with pytest.raises(ValueError, match=r"cut\.npz"):
        learned_opt.load(path)


def write_npy(path, array, **options):
    np.save(path, array, **options)
    return path


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("size", lambda p: write_npy(p, np.zeros(1210, np.float32)), "1211 float32"),
        ("shape", lambda p: write_npy(p, np.zeros((1, 1211), np.float32)), "one dimension"),
        ("ints", lambda p: write_npy(p, np.zeros(1211, np.int32)), "int32"),
        ("nan", lambda p: write_npy(p, np.full(1211, np.nan, np.float32)), "1211 of 1211"),
        ("objects", lambda p: write_npy(p, np.array([{}] * 1211), allow_pickle=True), "pickle"),
        ("pickle", lambda p: p.write_bytes(pickle.dumps({"theta": [1.0]})) and p, "convert_pickle"),
        ("text", lambda p: p.write_text("hello") and p, "NumPy"),
    ],
)
def test_bad_published_files_are_refused(tmp_path, name, make, message):
    path = make(tmp_path / f"{name}.npy")
    with pytest.raises(ValueError, match=message) as caught:
        learned_opt.load(path)
    assert str(path) in str(caught.value)
    assert "allow_pickle" not in str(caught.value)


def test_a_pickle_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "bomb.npy"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="bomb"):
        learned_opt.load(path)
    archive = tmp_path / "bomb.npz"
    np.savez(archive, metadata=np.array([Bomb()], dtype=object))
    (tmp_path / "ran").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="bomb"):
        learned_opt.load(archive)
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_names_what_there_is():
    with pytest.raises(FileNotFoundError, match="adam"):
        learned_opt.load("nowhere.npz")


def rewrite(path, **changes):
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays.update(changes)
    np.savez(path, **arrays)


def test_other_versions_and_shapes_are_refused(saved):
    path, _ = saved
    with np.load(path) as archive:
        metadata = json.loads(archive["metadata"].tobytes())
    rewrite(path, **{"theta/gru/hn/bias": np.zeros(9, np.float32)})
    with pytest.raises(ValueError, match=r"gru/hn/bias has shape \(9,\), expected \(8,\)"):
        learned_opt.load(path)
    metadata["format_version"] = 99
    rewrite(path, metadata=np.frombuffer(json.dumps(metadata).encode(), np.uint8))
    with pytest.raises(ValueError, match="version 99"):
        learned_opt.load(path)


def test_theta_with_nan_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="not finite in theta/w"):
        learned_opt.save(tmp_path / "x.npz", "open", {"w": jnp.array([jnp.nan])})
    assert not (tmp_path / "x.npz").exists()


def test_users_own_networks_are_loaded_with_their_family(tmp_path):
    network = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(2)(jnp.tanh(x))))
    optimizer = learned_opt.from_haiku(network)
    theta = optimizer.init(jax.random.key(0))
    learned_opt.save(tmp_path / "mine.npz", "mine", theta)
    with pytest.raises(ValueError, match="register"):
        learned_opt.load(tmp_path / "mine.npz")
    trained = learned_opt.load(tmp_path / "mine.npz", optimizer)
    jax.tree.map(np.testing.assert_array_equal, trained.theta, theta)
