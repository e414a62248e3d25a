"""Exporting an agent's experience: training it, recording it, writing an RLDS dataset."""

import dataclasses
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from agents import task_presets
from learned_opt.files.serialization import TrainedOptimizer
from meta.engine.agent_training import train
from meta.engine.tasks import Task
from meta.evaluation import contestants, runner
from meta.evaluation.contestants import Contestant
from meta.export import recording, rlds
from meta.runs import progress

WHEN = ("after", "during")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
      optimizer: that trains the agent, as ``contestants.resolve`` takes it.
      task: an environment's name.
      out: the dataset's folder; must not exist.
      num_steps: how many environment steps are recorded, at least 1.
      total_timesteps: environment steps of the training; None: the paper's for the task.
      when: ``after`` the training, with the policy that it ends with, in fresh environments;
        or ``during`` it, from its first step on: what the agent learns from.
      seed: of the agent and of all else, in [0, 2**32).
      num_envs: parallel environments that are recorded after training; 0: as in training.
      file_format: one of ``rlds.FORMATS``.
      agent: ``ppo`` or ``a2c``.
      agent_options, env_options: as for an evaluation.
    """

    optimizer: str
    task: str
    out: str
    num_steps: int = 100_000
    total_timesteps: int | None = None
    when: str = "after"
    seed: int = 0
    num_envs: int = 0
    file_format: str = "array_record"
    agent: str = "ppo"
    agent_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"--num_steps must be at least 1, got {self.num_steps}")
        if self.when not in WHEN:
            raise ValueError(f"--when must be one of {', '.join(WHEN)}, got {self.when!r}")
        if self.file_format not in rlds.FORMATS:
            known = ", ".join(rlds.FORMATS)
            raise ValueError(f"--file_format must be one of {known}, got {self.file_format!r}")
        if self.num_envs < 0:
            raise ValueError(f"--num_envs must be at least 0, got {self.num_envs}")
        if self.num_envs and self.when == "during":
            raise ValueError(
                "--num_envs is for what is recorded after training; during it, all environments "
                "of the agent are: --agent_option=num_envs=... changes how many it has"
            )


def export(request: Request) -> str:
    """Trains an agent and writes its experience.

    Memory holds the steps of one chunk and the episodes under way, whatever ``num_steps`` is.

    Returns:
      What was written, in words.

    Raises:
      ValueError: bad input, before anything runs; the folder exists.
      progress.Stopped: stopped by a signal; nothing is left behind.
    """
    out = Path(request.out)
    rlds.refuse_existing(out)
    entry = contestants.resolve([request.optimizer])[0]
    task, trained = _build(request, entry)
    if request.when == "during" and request.num_steps > task.env_steps:
        raise ValueError(
            f"--num_steps={request.num_steps}: the training has {task.env_steps} environment "
            "steps to record; lower it, or raise --total_timesteps"
        )
    fields = {"seed": request.seed, "agent": task.agent_name, "optimizer": entry.name}
    stop = progress.StopRequest("stopping: nothing is kept of an unfinished export ...")
    name = f"{task_presets.short_name(request.task)}_experience"
    about = _metadata(request, entry, task)
    with (
        stop.listening(),
        rlds.writing(
            out,
            name,
            task.actor_critic.env.spec,
            description=_description(about),
            metadata=about,
            file_format=request.file_format,
        ) as writer,
    ):
        print(_describe_cost(request, entry, task), flush=True)
        for episode in _episodes(request, task, trained, stop):
            writer.write(episode, fields)
    return (
        f"{writer.num_transitions:,} steps in {writer.num_episodes:,} episodes; read them with\n"
        f"tfds.builder_from_directory({str(out)!r}).{rlds.FORMATS[request.file_format]}"
        f"(split={rlds.SPLIT!r})"
    )


def _build(request: Request, entry: Contestant) -> tuple[Task, TrainedOptimizer]:
    """The task and the optimizer, checked to fit."""
    asked = runner.Request(
        (request.optimizer,),
        (request.task,),
        "",
        agent=request.agent,
        total_timesteps=request.total_timesteps,
        seed=request.seed,
        agent_options=request.agent_options,
        env_options=request.env_options,
    )
    block = runner.task_block(asked, request.task)
    return runner.build(entry, runner.setting(request.task, block))


def _episodes(
    request: Request, task: Task, trained: TrainedOptimizer, stop: progress.StopRequest
) -> Iterator[recording.Episode]:
    """The episodes of exactly ``num_steps`` steps, in the order in which they end."""
    agent, config = task.actor_critic, task.actor_critic.config
    # Both ways train the same agent: `during` records what `after` trains with.
    train_key, record_key = jax.random.split(jax.random.key(request.seed))
    if request.when == "during":
        num_envs = config.num_envs
        chunks = recording.of_training(agent, trained.optimizer, trained.theta, train_key)
    else:
        num_envs = request.num_envs or config.num_envs
        with progress.Progress("training", 1, stop) as bar:
            state = train(trained.optimizer, trained.theta, task, train_key, bar)
            bar.step()
        chunks = recording.of_policy(agent, state, record_key, num_envs)
    cut, done = recording.Episodes(num_envs), 0
    with progress.Progress("recording", 1, stop) as bar:
        for number, steps in enumerate(chunks):
            iteration = number if request.when == "during" else agent.num_iterations
            yield from cut.add(steps, iteration, limit=request.num_steps - done)
            done = min(done + steps.reward.size, request.num_steps)
            bar.share(done / request.num_steps)
            if done == request.num_steps:
                break
        bar.step()
    yield from cut.finish()


def _metadata(request: Request, entry: Contestant, task: Task) -> dict[str, Any]:
    """What the dataset is of; JSON."""
    spec, config = task.actor_critic.env.spec, task.actor_critic.config
    return {
        "toolkit": f"lopt-rl {metadata.version('lopt-rl')}",
        "jax": jax.__version__,
        "environment": spec.name,
        "env_options": request.env_options,
        "max_episode_steps": spec.max_episode_steps,
        "agent": {"name": task.agent_name, **dataclasses.asdict(config)},
        "optimizer": {"name": entry.name, "source": entry.source, **entry.identity(request.task)},
        "recorded": request.when,
        "num_steps": request.num_steps,
        "num_envs": request.num_envs or config.num_envs,
        "training_steps": task.env_steps,
        "seed": request.seed,
    }


def _description(about: dict[str, Any]) -> str:
    """The dataset's own account of itself."""
    when = {
        "after": f"after {about['training_steps']:,} environment steps of training, with the "
        "policy that it ended with, in fresh environments",
        "during": "from the first step of its training on",
    }[about["recorded"]]
    return (
        f"{about['num_steps']:,} steps of a {about['agent']['name']} agent in "
        f"{about['environment']}, trained with {about['optimizer']['name']}, recorded {when}. "
        "In the last step of an episode (is_last), action, reward and discount mean nothing. "
        "Per episode: `terminated` (by the task's rules), `truncated` (by the time limit of "
        f"{about['max_episode_steps']} steps) or `recording_ended` (the episode went on); "
        "`environment` tells the parallel environments apart, `iteration` counts the agent's "
        "training iterations when the episode began. Observations are the environment's, "
        "unnormalised; continuous actions are what the agent gave, which the environment clips "
        "to [-1, 1]."
    )


def _describe_cost(request: Request, entry: Contestant, task: Task) -> str:
    """What the export takes, in words."""
    spec = task.actor_critic.env.spec
    per_step = recording.bytes_per_step(spec) / 2  # of its two observations one is kept
    num_envs = request.num_envs or task.actor_critic.config.num_envs
    buffered = min(num_envs * spec.max_episode_steps, request.num_steps) * per_step
    training = (
        f"{progress.count(task.env_steps)} environment steps of training with {entry.name}, then "
        if request.when == "after"
        else f"training with {entry.name}, and meanwhile "
    )
    return (
        f"{request.task} ({task.agent_name}): {training}{progress.count(request.num_steps)} "
        f"recorded steps of {num_envs} environments: about "
        f"{progress.size(request.num_steps * per_step)} before compression; at most about "
        f"{progress.size(buffered)} of episodes under way in memory"
    )
