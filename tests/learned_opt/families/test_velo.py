"""VeLO against the reference implementation and a plain one, and what its parts must hold."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.families import velo_tensors
from learned_opt.families.velo import VeloConfig, make_velo
from tests.learned_opt.families.test_open_golden import nested

SIZES = {"lstm_hidden_size": 8, "num_parameter_sets": 4}


def published_theta(archive):
    """The golden file's theta, whose names are key paths: ``theta['a']['b'].c``."""
    tree = {}
    for name in archive.files:
        if name.startswith("theta["):
            *parents, leaf = re.findall(r"[\w~/]+", name.removeprefix("theta"))
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = jnp.asarray(archive[name])
    return tree


def test_velo_repeats_the_reference(golden):
    archive = np.load(golden / "velo_golden.npz")
    optimizer = learned_opt.make(
        "velo", total_updates=40, lstm_hidden_size=16, num_parameter_sets=8
    )
    theta = published_theta(archive)
    shapes = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, theta) == jax.tree.map(jnp.shape, shapes)
    tx = optimizer.transform(theta)
    update = jax.jit(tx.update)
    params = nested(archive, "param0")
    state = tx.init(params)
    for t in range(12):
        grads = nested(archive, f"grad{t}")
        updates, state = update(grads, state, params, loss=archive[f"loss{t}"])
        params = jax.tree.map(jnp.add, params, updates)
        # The reference itself, in float32, ends 5e-5 away from the same steps in float64.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-5),
            params,
            nested(archive, f"param{t + 1}"),
        )


def test_the_published_size_has_2320385_numbers():
    theta = jax.eval_shape(learned_opt.make("velo").init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == 2_320_385


# A plain implementation: one tensor after the other, in float64, as the definition reads.


def normalised(x):
    return x / np.sqrt(1e-5 + np.mean(np.square(x)))


def safe_rsqrt(x):
    return 1.0 / np.sqrt(np.maximum(x, 1e-9))


def log_of(x):
    return 0.5 * np.clip(np.log(1e-8 + abs(10.0 * x)), -5, 5)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


class PlainTensor:
    """One tensor's state and step."""

    def __init__(self, shape, hidden, cell):
        self.p_shape = shape or (1,)
        self.dims = velo_tensors.factored_dimensions(self.p_shape)
        self.m = np.zeros((3, *self.p_shape))
        self.rms = np.zeros(self.p_shape)
        self.row, self.col = 0.0, 0.0
        self.hidden, self.cell = hidden, cell

    def recurrent_input(self, p, progress, losses):
        s = 1.0 / np.sqrt(max(1e-9, np.mean(p**2)))
        m, rms = s * self.m, s * self.rms
        axes = tuple(range(1, m.ndim))
        mean = m.mean(axes)
        centre = mean.reshape(-1, *[1] * (m.ndim - 1))
        rank = np.eye(5)[sum(n > 1 for n in p.shape)]
        var_m, var_rms = np.mean((m - centre) ** 2, axes), np.mean((rms - centre) ** 2, axes)
        return np.concatenate(
            [progress, losses, [log_of(rms.mean())], rank, log_of(var_m), log_of(var_rms)]
        )

    def step(self, p, g, network, lr):
        decays = np.array([0.9, 0.99, 0.999]).reshape(-1, *[1] * p.ndim)
        self.m = decays * self.m + (1 - decays) * g
        self.rms = 0.999 * self.rms + 0.001 * g**2
        square = np.broadcast_to(g**2 + 1e-30, (3, *p.shape))
        if self.dims is None:
            self.row = decays * self.row + (1 - decays) * square
            row = col = self.row
            fac_g, fac_m = g * safe_rsqrt(self.row + 1e-9), self.m * self.row**-0.5
        else:
            d1, d0 = (d + 1 for d in self.dims)
            self.row = decays * self.row + (1 - decays) * square.mean(d0, keepdims=True)
            self.col = decays * self.col + (1 - decays) * square.mean(d1, keepdims=True)
            mean = self.row.mean(d1, keepdims=True)
            factor = safe_rsqrt(self.row / (mean + 1e-9)) * safe_rsqrt(self.col)
            fac_g, fac_m = g * factor, self.m * factor
            row, col = (np.broadcast_to(x, square.shape) for x in (self.row, self.col))
        q = 1.0 / np.sqrt(self.rms + 1e-6)
        channels = [g, np.clip(g, -0.1, 0.1), p, *self.m, self.rms, *(self.m * q), q, *fac_g]
        channels += [g * q, *row, *col, *(row + 1e-8) ** -0.5, *(col + 1e-8) ** -0.5, *fac_m]
        x = np.stack([normalised(c) for c in channels], -1)
        (w0, w1, w2), (b0, b1, b2) = network
        x = np.maximum(np.maximum(x @ w0 + b0, 0) @ w1 + b1, 0) @ w2 + b2
        scale = np.sqrt(np.mean(p**2) + 1e-9)
        return -lr * x[..., 0] * np.exp(0.001 * x[..., 1]) * 0.001 * scale


class PlainVelo:
    def __init__(self, theta, params, total):
        self.theta = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
        start = self.theta["lstm_init_state"]
        self.tensors = [PlainTensor(p.shape, start["hidden"][0], start["cell"][0]) for p in params]
        self.t, self.total = 0, total
        self.decay = np.exp(-1.0 / np.logspace(1, np.log10(total), 10))
        self.means, self.minima = np.zeros(10), np.full(10, 999999999999.0)

    def losses(self, loss):
        correct = 1 - self.decay ** (self.t + 1)
        top = loss if self.t == 0 else np.max(self.means / correct)
        self.means = self.decay * self.means + (1 - self.decay) * min(2 * abs(top), loss)
        c = self.means / correct
        self.minima = np.minimum(self.minima, c)
        low = self.minima[:-1]
        found = np.clip((c[:-1] - low) / np.maximum(1e-8, c[1:] - low) - 1, -1, 1)
        return found * (self.t + 1 > 2)

    def linear(self, name, x):
        return x @ self.theta["rnn_params"][name]["w"] + self.theta["rnn_params"][name]["b"]

    def update(self, grads, params, loss):
        taus = np.array([0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1])
        progress, losses = np.tanh(10 * (self.t / self.total - taus)), self.losses(loss)
        params = [np.reshape(p, t.p_shape) for p, t in zip(params, self.tensors, strict=True)]
        x = np.stack(
            [
                t.recurrent_input(p, progress, losses)
                for t, p in zip(self.tensors, params, strict=True)
            ]
        )
        x = self.linear("linear_2", x) + np.maximum(self.linear("linear_1", x), 0).max(0)
        steps = []
        for tensor, p, g, row in zip(self.tensors, params, grads, x, strict=True):
            gates = self.linear("rnn/linear", np.concatenate([row, tensor.hidden]))
            i, v, f, o = np.split(gates, 4)
            tensor.cell = sigmoid(f + 1) * tensor.cell + sigmoid(i) * np.tanh(v)
            tensor.hidden = sigmoid(o) * np.tanh(tensor.cell)
            control = self.linear("rnn_to_controls", tensor.hidden)
            bank = {
                name: 100 * np.mean(w * control.reshape(-1, *[1] * (w.ndim - 1)), 0)
                for name, w in self.theta["ff_mod_stack"]["~"].items()
            }
            first = np.concatenate([bank[f"w0__{i}"] for i in range(14)])
            network = ((first, bank["w1"], bank["w2"]), (bank["b0"], bank["b1"], bank["b2"]))
            lr = self.linear("step_size", tensor.hidden)[0]
            clipped = np.clip(np.reshape(g, tensor.p_shape).astype(np.float64), -1000, 1000)
            steps.append(tensor.step(np.float64(p), clipped, network, lr))
        self.t += 1
        return steps


SHAPES = {
    "actor": {"b": (5,), "k": (6, 5), "log_std": (), "one": (1,), "wide": (200,)},
    "critic": {"b": (5,), "k": (6, 5), "out": (5, 1), "conv": (2, 3, 4, 4), "flat": (1, 3, 1)},
}


def tree_of(seed, shapes=SHAPES, scale=1.0):
    rng = np.random.default_rng(seed)
    draw = lambda shape: np.asarray(scale * rng.normal(size=shape), np.float32)  # noqa: E731
    return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


def made(**options):
    config = VeloConfig(**{"total_updates": 20, **SIZES, **options})
    return make_velo(config), random_theta(config.lstm_hidden_size, config.num_parameter_sets)


@functools.cache
def random_theta(hidden_size, sets, seed=0):
    """Also biases and the initial state, which ``init`` makes 0, where nothing would be seen."""
    rng = np.random.default_rng(seed)
    config = VeloConfig(lstm_hidden_size=hidden_size, num_parameter_sets=sets)
    shapes = jax.eval_shape(make_velo(config).init, jax.random.key(0))
    draw = lambda x: rng.normal(size=x.shape) / np.sqrt(x.shape[-2]) * 0.7  # noqa: E731
    return jax.tree.map(
        lambda x: jnp.asarray(draw(x) if x.ndim > 1 else 0.1 * rng.normal(size=x.shape), x.dtype),
        shapes,
    )


def tx_of(optimizer, theta):
    """With everything compiled: eager operations would be compiled one by one."""
    tx = optimizer.transform(theta)
    return optax.GradientTransformationExtraArgs(jax.jit(tx.init), jax.jit(tx.update))


def finite(tree):
    return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


@pytest.mark.slow
def test_tensors_of_all_ranks_and_groups_move_as_the_definition_says():
    optimizer, theta = made()
    tx = tx_of(optimizer, theta)
    params = tree_of(0, scale=0.3)
    state, plain = tx.init(params), PlainVelo(theta, jax.tree.leaves(params), 20)
    for t, loss in enumerate([3.0, 9.0, 2.0, -1.0, 2.5]):
        grads = tree_of(t + 1, scale=10.0 ** (t - 2))
        expected = plain.update(jax.tree.leaves(grads), jax.tree.leaves(params), loss)
        updates, state = tx.update(grads, state, params, loss=jnp.float32(loss))
        for found, want, p in zip(*map(jax.tree.leaves, (updates, expected, params)), strict=True):
            assert found.shape == p.shape
            size = np.max(np.abs(want))
            np.testing.assert_allclose(
                found.reshape(-1), want.reshape(-1), rtol=0, atol=2e-4 * size
            )
        params = jax.tree.map(np.add, params, updates)


@pytest.mark.slow
def test_the_order_of_tensors_does_not_matter():
    optimizer, theta = made()
    tx = tx_of(optimizer, theta)
    names = {
        "a": ("actor", "k"),
        "b": ("critic", "conv"),
        "c": ("critic", "b"),
        "d": ("actor", "b"),
    }
    pick = lambda tree, names: {n: tree[a][b] for n, (a, b) in names.items()}  # noqa: E731
    turned = dict(zip(names, reversed(names.values()), strict=True))
    found = []
    for mapping in (names, turned):
        params = pick(tree_of(0), mapping)
        state = tx.init(params)
        for t in range(3):
            grads = pick(tree_of(t + 1), mapping)
            updates, state = tx.update(grads, state, params, loss=1.0)
        found.append({mapping[name]: update for name, update in updates.items()})
    for name, update in found[0].items():
        np.testing.assert_allclose(update, found[1][name], rtol=2e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20, np.inf])
def test_zero_and_huge_gradients_give_finite_updates(scale):
    optimizer, theta = made()
    tx = tx_of(optimizer, theta)
    for params in (tree_of(0), tree_of(0, scale=0.0), tree_of(0, scale=1e6)):
        state = tx.init(params)
        for t in range(3):
            grads = jax.tree.map(lambda x: np.sign(x) * np.float32(scale), tree_of(t + 1))
            updates, state = tx.update(grads, state, params, loss=jnp.float32(1.0))
            assert finite(updates)
            assert finite(state)


@pytest.mark.slow
def test_vmap_over_theta_in_a_scan_equals_one_by_one():
    optimizer, _ = made()
    thetas = jax.tree.map(lambda *x: jnp.stack(x), *(random_theta(8, 4, i) for i in range(3)))
    shapes = {"k": (4, 3), "b": (3,), "k2": (4, 3)}
    params, grads = tree_of(0, shapes), tree_of(1, shapes)

    @jax.jit
    def train(theta):
        tx = optimizer.transform(theta)

        def step(carry, loss):
            params, state = carry
            updates, state = tx.update(grads, state, params, loss=loss)
            return (jax.tree.map(jnp.add, params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(4.0))[0][0]

    together = jax.jit(jax.vmap(train))(thetas)
    for i in range(3):
        alone = train(jax.tree.map(lambda x, i=i: x[i], thetas))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5),
            together,
            alone,
        )


def test_the_state_depends_on_params_alone():
    optimizer, theta = made()
    params = tree_of(0)
    other = jax.tree.map(lambda x: x + 1.0, theta)
    states = [tx_of(optimizer, t).init(params) for t in (theta, other)]
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.slow
def test_the_learned_initial_state_of_the_lstm_is_used():
    optimizer, theta = made()
    params = {"k": jnp.ones((3, 2))}
    other = {**theta, "lstm_init_state": jax.tree.map(lambda x: x + 1, theta["lstm_init_state"])}
    first, second = (
        tx.update(params, tx.init(params), params, loss=1.0)[0]["k"]
        for tx in (tx_of(optimizer, t) for t in (theta, other))
    )
    assert not np.allclose(first, second, rtol=1e-3)


@pytest.mark.slow
def test_gradients_are_averaged_over_the_updates_that_are_accumulated():
    plain, theta = made(total_updates=10)
    thrice = make_velo(VeloConfig(total_updates=31, accumulate=3, **SIZES))
    once, thrice = tx_of(plain, theta), tx_of(thrice, theta)
    params = {"k": jnp.ones((3, 2)), "s": jnp.float32(2.0)}
    states = once.init(params), thrice.init(params)
    for t in range(3):
        batch = [tree_of(3 * t + i, {"k": (3, 2), "s": ()}) for i in range(3)]
        losses = [1.0 + t, 2.0, 6.0]
        mean = jax.tree.map(lambda *x: np.float32(sum(x) / 3), *batch)
        want, state = once.update(mean, states[0], params, loss=sum(losses) / 3)
        waiting = states[1]
        for i in range(3):
            found, waiting = thrice.update(batch[i], waiting, params, loss=jnp.float32(losses[i]))
            if i < 2:
                assert not any(np.any(x) for x in jax.tree.leaves(found))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found, want
        )
        states = state, waiting


@pytest.mark.parametrize(
    ("total", "each", "steps"),
    [(1, 1, 1), (150_000, 1, 150_000), (150_001, 2, 75_000), (1_000_000, 7, 142_857)],
)
def test_long_runs_accumulate_as_published(total, each, steps):
    config = VeloConfig(total_updates=total)
    assert (config.updates_per_step, config.num_steps) == (each, steps)
    theta = jax.eval_shape(make_velo(config).init, jax.random.key(0))
    params = {"k": jnp.ones(2)}
    state = jax.eval_shape(lambda theta: make_velo(config).transform(theta).init(params), theta)
    assert bool(state.pending) == (each > 1)


def test_a_run_of_one_update_and_one_beyond_its_length_are_finite():
    optimizer, theta = made(total_updates=1)
    tx = tx_of(optimizer, theta)
    params = {"k": jnp.ones((3, 2))}
    state = tx.init(params)
    for _ in range(5):
        updates, state = tx.update(params, state, params, loss=-1.0)
        assert finite(updates)


def test_a_constant_loss_is_what_an_unchanging_loss_tends_to():
    optimizer, theta = made(loss="constant")
    tx = tx_of(optimizer, theta)
    params = {"k": jnp.ones((3, 2))}
    first, _ = tx.update(params, tx.init(params), params)  # needs no loss
    second, _ = tx.update(params, tx.init(params), params, loss=7.0)
    np.testing.assert_array_equal(first["k"], second["k"])
    told, _ = tx_of(made()[0], theta).update(params, tx.init(params), params, loss=0.0)
    np.testing.assert_allclose(first["k"], told["k"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("empty", [{}, {"e": (0,)}, {"e": (0, 3), "f": (2, 0)}])
def test_tensors_without_elements_change_nothing(empty):
    optimizer, theta = made()
    tx = tx_of(optimizer, theta)
    for full in ({}, {"k": (3, 2), "s": ()}):
        shapes = {**full, **empty}
        params, grads = tree_of(0, shapes), tree_of(1, shapes)
        updates, state = tx.update(grads, tx.init(params), params, loss=1.0)
        assert finite(updates)
        assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
        less = {name: params[name] for name in full}
        want, _ = tx.update({name: grads[name] for name in full}, tx.init(less), less, loss=1.0)
        for name in full:
            np.testing.assert_array_equal(updates[name], want[name])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"total_updates": 0}, "total_updates must be a whole number of at least 1"),
        ({"total_updates": 1.5}, "total_updates must be a whole number"),
        ({"total_updates": True}, "total_updates must be a whole number"),
        ({"accumulate": 0}, "or 'auto', got 0"),
        ({"accumulate": "often"}, "or 'auto', got 'often'"),
        ({"loss": "return"}, "loss must be one of agent, constant, got 'return'"),
        ({"lstm_hidden_size": None}, "lstm_hidden_size must be a whole number"),
        ({"total_update": 3}, "did you mean 'total_updates'"),
    ],
)
def test_bad_options_say_what_is_wrong(options, match):
    with pytest.raises(ValueError, match=match):
        learned_opt.make("velo", **options)


def test_what_is_missing_is_named():
    optimizer, theta = made(total_updates=None)
    with pytest.raises(ValueError, match=r"total_updates=10_000"):
        optimizer.transform(theta)
    tx = made()[0].transform(theta)
    params = {"k": jnp.ones((3, 2))}
    with pytest.raises(ValueError, match="reads the parameters"):
        tx.update(params, tx.init(params), loss=1.0)
    with pytest.raises(ValueError, match="loss="):
        tx.update(params, tx.init(params), params)
