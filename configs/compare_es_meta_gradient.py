"""Evolution strategies against meta-gradients: Optim4RL trained on Catch by both.

The same optimizer from the same theta, the same A2C, the same budget of environment steps; the two
outer loops have settings of their own. Evolution strategies run whole inner loops of 10,240
steps; meta-gradients see four iterations of agents at all ages. The result of each is
evaluated on the same held-out seeds, over 51,200 steps, with the untrained optimizer and Adam at
the best of four learning rates.

    python launchers/compare.py --config=configs/compare_es_meta_gradient.py --workdir=runs/compare
"""

from ml_collections import ConfigDict

from configs import blocks, optim4rl_blocks


def get_config(mode: str = "full") -> ConfigDict:
    smoke = blocks.check_mode(mode)
    agent = blocks.a2c_agent(num_envs=16, discount=0.995)
    agent.widths = (32,)
    task = blocks.task("catch", 51_200, agent)
    task.baselines = ConfigDict({"adam": {"learning_rate": 1e-3}})
    gradients = blocks.meta_gradient(num_meta_steps=1)
    gradients.num_agents = 16
    gradients.reset_interval = 32
    gradients.learning_rate = 1e-3
    evolution = blocks.evolution(num_generations=1)
    evolution.population_size = 16
    evolution.sigma = 0.1
    evolution.learning_rate = 0.03
    evolution.checkpoint_every = 1
    base = optim4rl_blocks.optim4rl(blocks.experiment({"catch": task}), 1e-3, None)
    base.evaluation.num_seeds = 8
    base.evaluation.criterion = "area"
    base.evaluation.learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    base.evaluation.tuning_seeds = 4
    if smoke:
        blocks.shrink(base)
        evolution.population_size = gradients.num_agents = 4
    config = ConfigDict(
        {
            "base": base,
            "budget": 8_192 if smoke else 50_000_000,  # environment steps of each variant
            "validations": 2 if smoke else 10,  # of theta under way
            "variants": {"es": {"outer": evolution}, "meta_gradient": {"outer": gradients}},
            "grid": (),
        }
    )
    return config
