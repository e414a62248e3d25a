import jax
import jax.numpy as jnp
import optax
import pytest

import learned_opt
from learned_opt import handcrafted, optax_families
from tests.marks import slow_but

FAST = ("adamw", "muon", "nadam", "prodigy", "radam", "yogi")
# What it takes to go down this hill, where the default rate is too small or nothing is tuned.
RATES = {
    "adadelta": 1.0,
    "cocob": 1.0,
    "dadapt_adamw": 1.0,
    "dog": 1.0,
    "dowg": 1.0,
    "lars": 3.0,
    "prodigy": 1.0,
}


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # optax' optimistic_adam
@pytest.mark.parametrize("name", slow_but(FAST, optax_families.names()))
def test_every_listed_optimizer_goes_downhill(name):
    optimizer = learned_opt.make(name, learning_rate=RATES.get(name, 0.03), anneal=True)
    tx = optimizer.transform({})
    params = {"actor": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
    loss = lambda params: optax.tree.norm(params, squared=True)  # noqa: E731

    def step(carry, proportion):
        params, state = carry
        told = {"training_proportion": proportion, "key": jax.random.key(0)}
        updates, state = tx.update(jax.grad(loss)(params), state, params, **told)
        return (optax.apply_updates(params, updates), state), None

    train = jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), jnp.arange(400) / 400))
    assert loss(train()[0][0]) < 0.9 * loss(params)


def test_those_that_need_more_say_what():
    with pytest.raises(ValueError, match=r"lbfgs cannot be used here.*line search"):
        learned_opt.make("lbfgs")
    with pytest.raises(ValueError, match=r"schedule_free.*other parameters"):
        handcrafted.spelled("schedule_free_adamw:learning_rate=0.1")
    assert {*FAST, "nadamw", "sgd"} <= set(optax_families.names())
    assert not {"lbfgs", "dpsgd", "scale_by_rprop"} & set(optax_families.names())


def test_hyperparameters_are_optax_own():
    assert handcrafted.hyperparameters("adamw")["weight_decay"] == 1e-4
    assert handcrafted.hyperparameters("sgd", momentum="0.9", nesterov="true") == {
        "learning_rate": 0.01, "anneal": False, "momentum": 0.9, "nesterov": True,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"no hyperparameter 'momentun' .did you mean 'momentum'"):
        learned_opt.make("sgd", momentun=0.9)


@pytest.mark.parametrize(
    "text, name, options",
    [
        ("adam", "adam", {}),
        ("adam:breakout", "adam", {"preset": "breakout"}),
        ("adam:learning_rate=3e-4,anneal=true", "adam", {"learning_rate": 3e-4, "anneal": True}),
        ("adam:breakout,b1=0.8", "adam", {"preset": "breakout", "b1": 0.8}),
        ("muon:ns_steps=3", "muon", {"ns_steps": 3}),
    ],
)
def test_command_lines_spell_hyperparameters(text, name, options):
    assert handcrafted.spelled(text) == (name, options)


@pytest.mark.parametrize("text", ["adma", "runs/demo/optimizer.npz", "", "open"])
def test_what_is_no_handcrafted_optimizer_is_left_to_others(text):
    assert handcrafted.spelled(text) is None


@pytest.mark.parametrize(
    "text, says",
    [
        ("adam:learning_rate=fast", "adam's learning_rate must be a number"),
        ("adam:learning_rate=-1", "above 0"),
        ("adam:anneal=maybe", "true or false"),
        ("adam:mars", "no preset of 'adam' for 'mars'"),
        ("adam:learning_rat=1", "mean 'learning_rate'"),
    ],
)
def test_bad_hyperparameters_are_explained(text, says):
    with pytest.raises(ValueError, match=says):
        handcrafted.spelled(text)


def test_numbers_are_tuned_and_the_rest_is_fixed():
    optimizer = handcrafted.make_tunable("sgd", momentum=0.9, nesterov=True)
    assert set(optimizer.init(jax.random.key(0))) == {"learning_rate", "anneal", "momentum"}
