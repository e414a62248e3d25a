"""The examples in docstrings print what they say."""

import doctest
import importlib

import pytest

MODULES = (
    "agents.actor_critic",
    "learned_opt.files.serialization",
    "learned_opt.modules",
    "learned_opt.registry",
    "meta.api",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name, capsys):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted > 3
    assert not failed, capsys.readouterr().out
