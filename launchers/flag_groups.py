"""The flags that launchers share, each declared once.

A launcher's flags are the keyword arguments of a function of ``meta``. ``define`` declares them
and gives a function that reads them as such.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

from launchers import values

flags.disclaim_key_flags()  # a launcher's --help shows them as its own


class Flag(NamedTuple):
    """A flag and the argument that it stands for.

    Attributes:
      name: of the flag.
      default, help: as absl takes them.
      define: absl's function that declares it, e.g. ``flags.DEFINE_boolean``.
      argument: what it is called in Python; empty: as the flag.
      read: (name of the flag, value) -> the argument; None leaves the argument out.
    """

    name: str
    default: Any
    help: str
    define: Callable[..., flags.FlagHolder] = flags.DEFINE_string
    argument: str = ""
    read: Callable[[str, Any], Any] = lambda name, value: value


_SHARED = (
    Flag(
        "optimizer",
        [],
        "Repeatable: a handcrafted optimizer (adam: the paper's values for each task; "
        "adam:breakout: those for Breakout; adam:learning_rate=1e-3,anneal=true; any of optax), a "
        "preset file, an optimizer file, the folder of a run or published weights; LABEL=... "
        "names it in the results.",
        flags.DEFINE_multi_string,
        "optimizers",
    ),
    Flag(
        "task",
        [],
        "Repeatable: an environment, e.g. breakout.",
        flags.DEFINE_multi_string,
        "tasks",
    ),
    Flag("agent", "", "ppo (if empty) or a2c, with the paper's settings for the task."),
    Flag(
        "like",
        "",
        "The folder of a meta-training or study, or an optimizer file: evaluate as there, with "
        "its tasks, agents and horizons where no other flag says otherwise.",
    ),
    Flag("num_seeds", 8, "Seeds per optimizer and task.", values.define_whole_number),
    Flag(
        "total_timesteps",
        "",
        "Environment steps of each run, e.g. 2e5; empty: the paper's.",
        read=values.whole_number,
    ),
    Flag("workdir", None, "The folder that keeps everything."),
    Flag("untrained", True, "Run untrained controls of learned optimizers.", flags.DEFINE_boolean),
    Flag("seed", 0, "Of all randomness.", values.define_whole_number),
    Flag("points", 40, "Logged points of each learning curve.", values.define_whole_number),
    Flag(
        "chunk",
        0,
        "Seeds that a device runs at once; 0: what fits.",
        values.define_whole_number,
        "seeds_per_device",
    ),
    Flag(
        "agent_option",
        [],
        "Repeatable: a setting of the agent, e.g. num_envs=16.",
        flags.DEFINE_multi_string,
        "agent_options",
        values.options,
    ),
    Flag(
        "env_option",
        [],
        "Repeatable: an argument of the environments, e.g. size=8.",
        flags.DEFINE_multi_string,
        "env_options",
        values.options,
    ),
    Flag(
        "also_as",
        [],
        "Comma-separated: pdf, svg: plots in these forms, too; latex: tables, too.",
        flags.DEFINE_list,
    ),
    Flag(
        "reference",
        [],
        "Repeatable: draw published values beside one's own: open, optim4rl.",
        flags.DEFINE_multi_string,
        "references",
    ),
)

# Of whatever trains one agent, and of whatever trains many.
AGENT = ("optimizer", "task", "agent", "total_timesteps", "seed", "agent_option", "env_option")
RUNS = (*AGENT, "num_seeds", "workdir", "points", "chunk", "also_as")
# An optimizer, and no list of them.
ONE: dict[str, Any] = {"define": flags.DEFINE_string, "argument": ""}


def shared(*names: str, **changes: dict[str, Any]) -> list[Flag]:
    """Shared flags by name, those in ``changes`` with other attributes."""
    known = {flag.name: flag for flag in _SHARED}
    return [known[name]._replace(**changes.get(name, {})) for name in names]


def define(*declared: Flag) -> Callable[[], dict[str, Any]]:
    """Declares flags; gives a function that reads them, once parsed, as keyword arguments."""
    holders = [(flag, flag.define(flag.name, flag.default, help=flag.help)) for flag in declared]

    def arguments() -> dict[str, Any]:
        read = {f.argument or f.name: f.read(f.name, holder.value) for f, holder in holders}
        return {name: value for name, value in read.items() if value is not None}

    return arguments
