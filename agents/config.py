"""The settings of an agent, checked before anything is compiled."""

import dataclasses

from agents import networks


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """An inner loop. Defaults are PPO on MinAtar as in the OPEN paper, table 3.

    Attributes:
      algorithm: ``ppo`` or ``a2c``.
      total_timesteps: the horizon in environment steps, over all parallel environments;
        rounded down to whole iterations.
      num_envs: B, parallel environments.
      num_steps: T, steps of each environment per iteration.
      num_epochs: passes over each rollout.
      num_minibatches: M, updates per epoch.
      discount: gamma, in [0, 1].
      gae_lambda: lambda of the advantage estimate, in [0, 1].
      clip_epsilon: PPO's clipping range (PPO alone reads it).
      value_coefficient, entropy_coefficient: weights in the loss.
      normalize_advantages: standardise advantages within each minibatch.
      max_grad_norm: bound on the global norm of the gradient, of actor and critic apart;
        0 is no bound.
      network: ``separate`` networks for actor and critic, or one ``shared`` trunk with a head
        for each (see ``agents.networks`` for where its weights are kept).
      convolutions: (filters, kernel size) of convolutions before the dense layers, for
        observations (height, width, channels); stride 1, the size stays.
      widths: of the hidden dense layers: of the actor, or of the trunk.
      activation: a name in ``networks.ACTIVATIONS``.
      critic_widths: of the critic's hidden dense layers. None: as ``widths``, or behind a
        shared trunk, none.
      critic_activation: None: as ``activation``.
      normalize_observations, normalize_rewards: by running statistics.
      reward_scale: multiplies the rewards that the agent learns from; > 0.
      truncation: ``bootstrap`` gives a time-limited episode's last state its value;
        ``terminate`` treats the limit as a death, as the papers' code does.
      equal_hidden: start actor and critic with equal hidden layers (OPEN's code); must be False
        with a ``shared`` network.
    """

    algorithm: str = "ppo"
    total_timesteps: int = 10_000_000
    num_envs: int = 64
    num_steps: int = 128
    num_epochs: int = 4
    num_minibatches: int = 8
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip_epsilon: float = 0.2
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.01
    normalize_advantages: bool = True
    max_grad_norm: float = 0.5
    network: str = "separate"
    convolutions: tuple[tuple[int, int], ...] = ()
    widths: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    critic_widths: tuple[int, ...] | None = None
    critic_activation: str | None = None
    normalize_observations: bool = False
    normalize_rewards: bool = False
    reward_scale: float = 1.0
    truncation: str = "terminate"
    equal_hidden: bool = True

    def __post_init__(self):
        if self.algorithm not in ("ppo", "a2c"):
            raise ValueError(f"unknown agent {self.algorithm!r}; known: a2c, ppo")
        for name in ("num_envs", "num_steps", "num_epochs", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self._check_network()
        if self.truncation not in ("bootstrap", "terminate"):
            raise ValueError(
                f"truncation must be 'bootstrap' or 'terminate', got {self.truncation!r}"
            )
        for name in ("discount", "gae_lambda"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.max_grad_norm < 0:
            raise ValueError(f"max_grad_norm must be at least 0, got {self.max_grad_norm}")
        self._check_divisible()
        if self.num_iterations < 1:
            raise ValueError(
                f"total_timesteps={self.total_timesteps} is less than one iteration of "
                f"num_envs x num_steps = {self.batch_size}; give at least {self.batch_size}"
            )

    def _check_network(self) -> None:
        for name in ("activation", "critic_activation"):
            if getattr(self, name) is not None or name == "activation":
                networks.check_activation(getattr(self, name), name)
        if self.network not in ("separate", "shared"):
            raise ValueError(f"network must be 'separate' or 'shared', got {self.network!r}")
        if self.network == "shared" and self.equal_hidden:
            raise ValueError(
                "equal_hidden is about two separate networks, and network is 'shared'; set "
                "equal_hidden to False"
            )
        # Hashable, so that a config can be a static argument, however it was written down.
        for name in ("widths", "critic_widths"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "convolutions", tuple(map(tuple, self.convolutions)))

    def _check_divisible(self) -> None:
        if self.batch_size % self.num_minibatches:
            divisors = [d for d in range(1, self.batch_size + 1) if self.batch_size % d == 0]
            nearest = min(divisors, key=lambda d: abs(d - self.num_minibatches))
            raise ValueError(
                f"num_envs x num_steps = {self.num_envs} x {self.num_steps} = "
                f"{self.batch_size} cannot be split into num_minibatches="
                f"{self.num_minibatches} equal parts; the nearest number that works is {nearest}"
            )

    @property
    def batch_size(self) -> int:
        """Environment steps per iteration, B x T."""
        return self.num_envs * self.num_steps

    @property
    def minibatch_size(self) -> int:
        return self.batch_size // self.num_minibatches

    @property
    def num_iterations(self) -> int:
        """Whole iterations within the horizon."""
        return int(self.total_timesteps) // self.batch_size

    @property
    def updates_per_iteration(self) -> int:
        """Inner updates per iteration."""
        return self.num_epochs * self.num_minibatches
