"""Names, suites of users, and imports without side effects."""

import subprocess
import sys

import pytest

from agents import environments
from agents.environments import registry


@pytest.mark.parametrize(
    "short, full",
    [
        ("breakout", "gymnax/Breakout-MinAtar"),
        ("mountaincar", "gymnax/MountainCar-v0"),
        ("pendulum", "gymnax/Pendulum-v1"),
        ("inverted_pendulum", "brax/inverted_pendulum"),
        ("big_sparse_long", "gridworld/big_sparse_long"),
    ],
)
def test_a_short_name_makes_the_environment_of_the_full_name(short, full):
    assert environments.make(short).spec.name == full


def test_short_names_stand_for_names_that_exist():
    full_names = [name for name in environments.names() if "/" in name]
    assert set(registry.SHORT_NAMES.values()) <= set(full_names)
    assert set(registry.SHORT_NAMES) <= set(environments.names())
    assert len(set(environments.names())) == len(environments.names())


@pytest.mark.parametrize(
    "name, message",
    [
        ("brekout", r"unknown environment: 'brekout' \(did you mean 'breakout'\?\); known: "),
        ("Breakout", "did you mean 'breakout'"),
        ("CartPole-v1", "did you mean 'gymnax/CartPole-v1'"),
        ("gymnax/cartpole", "did you mean 'CartPole-v1'"),
        ("gymnax/ant", "unknown environment of suite 'gymnax': 'ant'"),
        (
            "atari/pong",
            "unknown suite of environments: 'atari'; known: brax, gridworld, gymnax, open_grid",
        ),
        ("", "unknown environment: ''; known: acrobot, ant"),
    ],
)
def test_an_unknown_name_is_an_error_that_says_what_there_is(name, message):
    with pytest.raises(ValueError, match=message):
        environments.make(name)


def test_users_can_add_a_suite(monkeypatch):
    monkeypatch.setattr(registry, "_suites", dict(registry._suites))
    environments.register_suite("mine", lambda name, **kwargs: (name, kwargs), lambda: ["a/b"])
    assert environments.make("mine/a/b", size=3) == ("a/b", {"size": 3})
    assert "mine/a/b" in environments.names()
    with pytest.raises(ValueError, match="unknown environment of suite 'mine': 'c'; known: a/b"):
        environments.make("mine/c")


@pytest.mark.parametrize(
    "name, message", [("", "non-empty"), ("a/b", "no '/'"), ("brax", "already")]
)
def test_a_suite_s_name_must_be_new_and_plain(name, message):
    with pytest.raises(ValueError, match=message):
        environments.register_suite(name, lambda name: None, list)


def test_import_touches_no_device_and_no_simulator():
    command = (
        "import sys; from agents import environments; from jax._src import xla_bridge;"
        "assert not xla_bridge._backends;"
        "assert not {'gymnax', 'brax', 'mujoco'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", command],
        env={"PYTHONPATH": ":".join([".", *sys.path]), "JAX_PLATFORMS": "cpu"},
        timeout=60,
        check=True,
    )
