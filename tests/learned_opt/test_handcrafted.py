import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt import handcrafted, registry

pytestmark = pytest.mark.usefixtures("optax_promotes")


def test_presets_are_the_papers_values():
    assert learned_opt.preset("adam", "breakout") == {
        "learning_rate": 0.01,
        "b1": 0.9,
        "b2": 0.99,
        "anneal": True,
    }
    assert learned_opt.preset("rmsprop", "spaceinvaders")["learning_rate"] == 0.009
    assert learned_opt.preset("lion", "ant")["learning_rate"] == 0.00015


def test_adam_is_optax_adam_and_annealing_scales_by_what_remains():
    params, grads = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.3, 0.1])}
    ours = learned_opt.make("adam", learning_rate=0.1, anneal=True).transform({})
    reference = optax.adam(0.1)
    expected, _ = reference.update(grads, reference.init(params), params)
    updates, _ = ours.update(grads, ours.init(params), params, training_proportion=0.25)
    np.testing.assert_allclose(updates["w"], 0.75 * expected["w"], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(handcrafted.FAMILIES))
def test_a_batch_of_learning_rates_equals_single_ones(name):
    params, grads = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.3, 0.1])}
    tunable = learned_opt.make_tunable(name)

    def update(theta):
        tx = tunable.transform(theta)
        return tx.update(grads, tx.init(params), params, training_proportion=0.5)[0]["w"]

    theta = jax.tree.map(lambda x: jnp.full((2,), x), tunable.init(jax.random.key(0)))
    theta["learning_rate"] = jnp.array([0.1, 0.01])
    batched = jax.vmap(update)(theta)
    for rate, row in zip((0.1, 0.01), batched, strict=True):
        tx = learned_opt.make(name, learning_rate=rate).transform({})
        np.testing.assert_allclose(
            row, tx.update(grads, tx.init(params), params)[0]["w"], rtol=1e-5
        )


def test_annealed_and_constant_rates_run_in_one_program():
    params, grads = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.3, 0.1])}
    tunable = learned_opt.make_tunable("adam", learning_rate=0.1)

    def update(anneal):
        tx = tunable.transform({**tunable.init(jax.random.key(0)), "anneal": anneal})
        return tx.update(grads, tx.init(params), params, training_proportion=0.25)[0]["w"]

    batched = jax.vmap(update)(jnp.array([0.0, 1.0]))
    for anneal, row in zip((False, True), batched, strict=True):
        tx = learned_opt.make("adam", learning_rate=0.1, anneal=anneal).transform({})
        expected, _ = tx.update(grads, tx.init(params), params, training_proportion=0.25)
        np.testing.assert_allclose(row, expected["w"], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learned_opt.make("adm"), "did you mean 'adam'"),
        (lambda: learned_opt.make("adam", preset="pong"), "breakout"),
        (lambda: learned_opt.make("adam", momentum=1), "b1"),
        (lambda: learned_opt.make("adam", learning_rate=0.0), "above 0"),
        (lambda: learned_opt.make("open", hiden_size=8), "did you mean 'hidden_size'"),
        (lambda: learned_opt.make("open", features=("mood",)), "momentum"),
    ],
)
def test_bad_names_and_options_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_of_your_own_is_made_and_tuned_by_its_name(monkeypatch):
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    monkeypatch.setattr(handcrafted, "FAMILIES", dict(handcrafted.FAMILIES))
    learned_opt.register_handcrafted("mine", optax.adabelief, {"learning_rate": 0.1, "eps": 1e-8})
    assert learned_opt.is_handcrafted("mine") and "mine" in learned_opt.names()
    assert learned_opt.load("mine").metadata["name"] == "mine"
    theta = learned_opt.make_tunable("mine", learning_rate=0.2).init(jax.random.key(0))
    assert float(theta["learning_rate"]) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="exists already"):
        learned_opt.register_handcrafted("adam", optax.adam, {"learning_rate": 0.1})
    with pytest.raises(ValueError, match="learning_rate"):
        learned_opt.register_handcrafted("rateless", optax.adam, {"b1": 0.9})
