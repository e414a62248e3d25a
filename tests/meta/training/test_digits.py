"""Meta-training on supervised learning: configs build, small runs end in honest tables."""

import csv

import numpy as np
import pytest

from configs import digits_open, digits_optim4rl
from meta import results
from meta.evaluation import contestants, runner
from meta.evaluation.runner import Request
from meta.evaluation.store import Store
from meta.training import experiment, final_comparison, loop

CONFIGS = {"es": digits_open, "meta_gradient": digits_optim4rl}
NUM_TEST, NUM_VALIDATION = 355, 288


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def config(name, folder, mode="smoke"):
    made = CONFIGS[name].get_config(mode)
    made.tasks.digits.env_options = {"data_dir": folder}
    made.evaluation.learning_rates = made.evaluation.learning_rates[:2]
    made.logging.tensorboard = False
    return made.to_dict()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("mode", ["full", "smoke"])
def test_configs_build(name, mode, folder):
    made = experiment.build(config(name, folder, mode))
    (task,) = made.tasks
    assert (task.agent_name, task.agent.measured_on) == ("supervised", "validation")
    assert "training examples in all" in experiment.describe_cost(made)
    with pytest.raises(ValueError, match="full, smoke"):
        CONFIGS[name].get_config("smok")


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_ends_in_tables_of_test_accuracies(name, folder, tmp_path):
    made = experiment.build(config(name, folder))
    loop.train(made, str(tmp_path))
    text = final_comparison.evaluate_and_report(made, str(tmp_path))
    family = made.optimizer_name
    table = results.read(tmp_path / "results.csv")
    assert set(table.optimizers()) == {family, results.untrained(family), "adam"}
    assert results.untrained(family) in text and set(table.agent) == {"supervised"}
    # Accuracies are whole numbers of test examples, and hardly ever of validation examples.
    right = table.episode_return * NUM_TEST
    np.testing.assert_allclose(right, np.round(right), atol=1e-3)
    with open(tmp_path / "tuning" / "digits" / "adam" / "tuning.csv") as file:
        scores = np.array([float(row["score"]) for row in csv.DictReader(file)])
    right = scores * NUM_VALIDATION * 2  # the mean over two seeds
    np.testing.assert_allclose(right, np.round(right), atol=1e-3)


def test_datasets_are_evaluated_by_name(folder, tmp_path):
    asked = Request(
        ("sgd",), ("digits",), str(tmp_path), num_seeds=2, total_timesteps=256, points=2,
        seeds_per_device=1, env_options={"data_dir": folder},
        agent_options={"batch_size": 16, "num_minibatches": 4, "widths": [4]},
    )  # fmt: skip
    store = Store(asked.workdir, asked.settings)
    runner.evaluate(asked.evaluation(contestants.resolve(asked.optimizers)), store)
    table = results.read(tmp_path / "results.csv")
    assert set(table.agent) == {"supervised"} and set(table.env_steps) == {128, 256}
    right = table.episode_return * NUM_TEST
    np.testing.assert_allclose(right, np.round(right), atol=1e-3)
