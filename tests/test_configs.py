"""Every experiment is buildable, locked, and has the paper's numbers."""

import functools
import importlib.util
import math
from pathlib import Path

import pytest

from meta.engine import tasks
from meta.training import experiment, study
from tests.marks import slow_but

FOLDER = Path(__file__).parent.parent / "configs"
PARTS = ("__init__", "blocks", "optim4rl_blocks", "saved")  # saved: reads a workdir's
STUDIES = ("compare_es_meta_gradient", "sensitivity_optim4rl")
DIGITS = ("digits_open", "digits_optim4rl")  # need the extra `data`: tests/meta/test_digits.py
OTHERS = (*PARTS, *STUDIES, *DIGITS)
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in OTHERS)
BRAX = [name for name in NAMES if name.startswith(("ant", "humanoid"))]


def load(name, *mode):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*mode)


def test_the_promised_experiments_exist():
    assert set(NAMES) >= {
        "ant_open", "asterix_open", "breakout_open", "freeway_open", "spaceinvaders_open",
        "breakout_short_open", "multi_open", "humanoid_open", "demo", "ant_optim4rl",
        "humanoid_optim4rl", "catch_optim4rl", "gridworld_bdl_optim4rl", "gridworld_sdl_optim4rl",
        "gridworld_general_optim4rl", "breakout_optim4rl_es", "ant_open_meta_gradient",
    }  # fmt: skip


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BRAX])
@pytest.mark.parametrize("mode", ["full", "smoke"])
def test_configs_build(name, mode):
    made = experiment.build(load(name, mode).to_dict())
    assert made.tasks
    assert "environment steps" in experiment.describe_cost(made)


def test_smoke_runs_are_marked_as_such_and_others_are_as_ever():
    assert load("demo", "smoke").mode == load(STUDIES[0], "smoke").base.mode == "smoke"
    assert "mode" not in load("demo")


@pytest.mark.parametrize("name", BRAX)
def test_brax_agents_have_settings_that_fit(name):
    for mode in ("full", "smoke"):
        for block in load(name, mode).to_dict()["tasks"].values():
            assert tasks.make_agent_config(block["agent"], block["total_timesteps"])


@pytest.mark.parametrize("name", slow_but(("compare_es_meta_gradient",), STUDIES))
@pytest.mark.parametrize("mode", ["full", "smoke"])
def test_studies_build(name, mode):
    made = study.build(load(name, mode).to_dict())
    assert len(made.variants) >= 2 and "environment steps" in study.describe(made)


def test_paper_values():
    breakout = load("breakout_open")
    agent = breakout.tasks.breakout.agent
    assert (agent.num_envs, agent.num_steps, agent.ppo.num_minibatches) == (64, 128, 8)
    assert breakout.tasks.breakout.total_timesteps == 10_000_000
    assert (breakout.outer.sigma, breakout.outer.learning_rate) == (0.03, 0.03)
    assert breakout.outer.population_size == 64
    ant = load("ant_open")
    agent = ant.tasks.ant.agent
    assert (agent.num_envs, agent.num_steps, agent.ppo.num_minibatches) == (2048, 10, 32)
    assert (agent.activation, agent.entropy_coefficient) == ("tanh", 0.0)
    assert (ant.outer.sigma, ant.outer.learning_rate, ant.outer.population_size) == (0.01, 0.01, 32)
    multi = load("multi_open")
    assert multi.optimizer.name == "open_large"
    assert multi.tasks.breakout.normalizer == 50.0822
    assert multi.outer.sigma_decay == 0.998


def test_changing_the_agents_name_swaps_the_algorithm_with_its_counts():
    config = load("breakout_open")
    config.tasks.breakout.agent.name = "a2c"
    made = tasks.make_agent_config(config.to_dict()["tasks"]["breakout"]["agent"], 1e5)
    assert (made.algorithm, made.num_epochs, made.num_minibatches) == ("a2c", 1, 1)


def test_mistyped_fields_and_modes_are_refused():
    config = load("demo").lock()  # as the launcher does
    with pytest.raises(AttributeError, match="Did you mean"):
        config.outer.population_sise = 8
    with pytest.raises(ValueError, match="full, smoke"):
        load("demo", "smok")


def test_reading_a_config_touches_no_device(run_python):
    text = """
from configs import compare_es_meta_gradient
compare_es_meta_gradient.get_config("smoke")
import jax
jax.config.update("jax_num_cpu_devices", 3)  # as launchers do; refused once devices are known
print(jax.device_count())
"""
    assert run_python(text, JAX_PLATFORMS="cpu", XLA_FLAGS="").strip() == "3"


def _changed(path, value):
    """The demo's config with one field, dotted, of another value; ``...`` takes it away."""
    config = load("demo", "smoke").to_dict()
    *parents, last = path.split(".")
    block = functools.reduce(lambda block, name: block[name], parents, config)
    if value is ...:
        del block[last]
    else:
        block[last] = value
    return config


@pytest.mark.parametrize(
    "path, value, says",
    [
        ("seed", "many", "seed must be a whole number"),
        ("seed", -1, r"\[0, 2\*\*32\)"),
        ("outer", ..., "the config lacks the field 'outer'"),
        ("outer.name", ..., "outer.name is missing"),
        ("outer.sigma", None, "outer.sigma must be a number"),
        ("outer.sigma", math.nan, "outer.sigma must be a number"),
        ("outer.population_size", 8.5, "outer.population_size must be a whole number"),
        ("outer.num_generations", b"3", "outer.num_generations must be a whole number"),
        ("tasks.catch.env", ["catch"], "task 'catch': env must be a text"),
        ("tasks.catch.agent", None, "task 'catch': agent must be a block"),
        ("tasks.catch.agent.discount", [0.9], "task 'catch': discount must be a number"),
        ("tasks.catch.agent.ppo", 3, "agent.ppo must be a block"),
        ("tasks.catch.normalizer", "0", "normalizer must be above 0"),
        ("tasks.catch.env_option", {}, "no field 'env_option' .did you mean 'env_options'"),
        ("tasks.catch.baselines", {"adam": {"b1": "x"}}, "baseline 'adam': adam's b1 must be"),
        ("optimizer.options", {"hidden_size": "big"}, "hidden_size must be a whole number"),
        ("evaluation.num_seeds", True, "evaluation.num_seeds must be a whole number"),
        ("logging.tensorboard", "perhaps", "logging.tensorboard must be true or false"),
        ("sed", 1, "no field 'sed' .did you mean 'seed'"),
    ],
)
def test_what_does_not_fit_its_field_is_refused_by_name(path, value, says):
    with pytest.raises(ValueError, match=says):
        experiment.build(_changed(path, value))


def test_a_study_and_an_experiment_are_told_apart():
    with pytest.raises(ValueError, match=r"launchers/compare\.py"):
        experiment.build(load("compare_es_meta_gradient", "smoke").to_dict())
    with pytest.raises(ValueError, match=r"launchers/train\.py"):
        study.build(load("demo", "smoke").to_dict())
