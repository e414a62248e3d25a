import jax
import numpy as np
import pytest

from configs import compare_es_meta_gradient, sensitivity_optim4rl
from meta.training import study, study_report


def tiny(config):
    base = config.base
    base.tasks.catch.agent.widths = (4,)
    base.tasks.catch.agent.num_envs = 2
    base.tasks.catch.agent.num_steps = 4
    base.tasks.catch.total_timesteps = 32
    base.evaluation.learning_rates = ()
    base.logging.tensorboard = False
    return config


def es_against_gradients():
    config = tiny(compare_es_meta_gradient.get_config("smoke"))
    config.variants.meta_gradient.outer.num_agents = 2
    config.variants.meta_gradient.outer.inner_updates = 1
    config.budget = 256
    return config.to_dict()


@pytest.mark.slow
def test_variants_have_one_budget_and_one_report(tmp_path):
    made = study.build(es_against_gradients())
    trained = {v.name: v.experiment for v in made.variants}
    assert trained["es"].schedule.num_steps == 256 // (4 * 32)
    assert trained["meta_gradient"].schedule.num_steps == 256 // (2 * 2 * 2 * 4)
    # Both begin with the same theta.
    starts = [m.trainer.theta(m.trainer.init(m.keys.training)) for m in trained.values()]
    jax.tree.map(np.testing.assert_array_equal, *starts)
    study.run(made, str(tmp_path / "study"))
    page = study_report.write(made, str(tmp_path / "study"))
    for name in ("optim4rl (es)", "optim4rl (meta_gradient)", "optim4rl (untrained)", "adam"):
        assert name in page
    assert "outer.num_agents" in page and "What was not" in page
    left = {entry.name for entry in (tmp_path / "study").iterdir()}
    assert left >= {"report.md", "results.csv", "meta_training.png", "es", "meta_gradient"}
    before = (tmp_path / "study" / "results.csv").stat().st_mtime_ns
    study.run(study.build(es_against_gradients()), str(tmp_path / "study"))  # nothing is left to do
    assert (tmp_path / "study" / "results.csv").stat().st_mtime_ns == before
    spent = study_report.measure(made.variants[0], study_report.Workdir(tmp_path / "study"))
    assert spent.env_steps == 256 and len(spent.validations) == 2


def test_a_grid_makes_a_variant_of_each_point():
    config = tiny(sensitivity_optim4rl.get_config("smoke")).to_dict()
    made = study.build(config)
    assert [variant.point for variant in made.variants] == [
        (1e-5, 1), (1e-5, 2), (1e-3, 1), (1e-3, 2),
    ]  # fmt: skip
    assert made.variants[0].differences["outer.learning_rate"] == 1e-5
    assert made.variants[0].name == "learning_rate=1e-05,reset_interval=1"


def test_the_record_holds_a_variants_own_block_as_it_is_trained():
    config = es_against_gradients()
    record = study.build(config).config
    assert record["variants"]["es"]["outer"]["num_generations"] == 256 // (4 * 32)
    assert config["variants"]["es"]["outer"]["num_generations"] == 1
    assert study.build(record).config == record


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 10}, "more than the budget"),
        ({"budget": 0}, "at least 1"),
        ({"variants": {}}, "either variants or a grid"),
        ({"variants": {"x": {"outer.sgma": 1.0}}}, "variant 'x'.*did you mean 'sigma'"),
        ({"variants": {"x": {"outer.name": "ess"}}}, "unknown outer loop"),
    ],
)
def test_bad_studies_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        study.build(es_against_gradients() | changes)
