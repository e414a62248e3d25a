"""Saving and loading trained optimizers: one small file of plain arrays and metadata.

The file is a NumPy archive (``.npz``): ``theta/<path>`` for each array of theta, and
``metadata``, a JSON text as bytes. Nothing in it is ever executed or unpickled.
"""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt import base, handcrafted, registry, standalone
from learned_opt.files import atomic, presets
from third_party.open_rl import weights as open_weights
from third_party.optim4rl import weights as optim4rl_weights
from third_party.velo import weights as velo_weights

FORMAT = "lopt-rl optimizer"
FORMAT_VERSION = 1

_PICKLE = b"\x80"  # how one begins, of protocol 2 or later


class TrainedOptimizer(NamedTuple):
    """An optimizer with its meta-parameters.

    Attributes:
      optimizer: the family.
      theta: its meta-parameters.
      metadata: at least ``name`` and ``options`` (what ``learned_opt.make`` takes) and
        ``source``; for optimizers trained here also the format's version, the config and
        a short training history.
    """

    optimizer: base.LearnedOptimizer
    theta: base.MetaParams
    metadata: dict[str, Any]

    def for_run(self, total_updates: standalone.Count) -> "TrainedOptimizer":
        """The optimizer for a run of so many updates: VeLO must know, others are as they are.

        Raises:
          ValueError: VeLO, and ``total_updates`` is traced: its constants follow from it.
        """
        options = self.metadata.get("options", {})
        if self.metadata.get("name") != "velo" or options.get("total_updates") is not None:
            return self
        if standalone.is_traced(total_updates):
            raise ValueError(
                "VeLO's constants follow from total_updates, which must be a number when it is "
                "compiled: optax.inject_hyperparams(..., static_args='total_updates')"
            )
        options = {**options, "total_updates": total_updates}
        made = registry.make("velo", **options)
        return self._replace(optimizer=made, metadata={**self.metadata, "options": options})

    def __repr__(self) -> str:
        size = sum(leaf.size for leaf in jax.tree.leaves(self.theta))
        training = self.metadata.get("training")
        tasks = training.get("tasks", ()) if isinstance(training, dict) else ()
        trained = f", trained on {', '.join(tasks)}" if tasks else ""
        return f"<{self.metadata.get('name', 'optimizer')}: {size:,} numbers{trained}>"

    def as_optax(
        self,
        *,
        total_updates: standalone.Count | None = None,
        updates_per_batch: standalone.Count = 1,
        epochs_per_batch: standalone.Count | None = None,
        role: standalone.Role = None,
        actor_key: str = "actor",
        keep_params: bool = False,
        skip_nonfinite: bool = True,
        seed: standalone.Count = 0,
    ) -> optax.GradientTransformationExtraArgs:
        """This optimizer for any training loop that takes an optax transformation.

        It counts its own updates and keeps its own key, so ``tx.update(grads, state, params)``
        is all that it needs; dormancy is taken for neutral (1) unless a call gives it. Its
        state holds arrays alone, and can be vmapped, scanned, donated and saved. Updates have
        each parameter's dtype; what is computed and kept is float32.

        Args:
          total_updates: of the whole run (in PPO: iterations x epochs x minibatches). The
            training proportion reaches 1 there and stays. Required.
          updates_per_batch: made with one batch of data (in PPO: epochs x minibatches).
          epochs_per_batch: passes over one batch; None: each update counts as one.
          role: ``actor`` or ``critic`` where each network has an optimizer of its own (or a
            function of params that tells which, for codes that make both from one); None
            where one tree holds both; ``plain`` for a network that is neither: no noise.
          actor_key: what the actor's parameters are called in such a tree.
          keep_params: keep a copy of the parameters in the state, for loops that call
            ``tx.update(grads, state)``. They must apply the updates as they are: put clipping
            before this transformation, nothing behind it.
          skip_nonfinite: change nothing, and count it in the state's ``num_skipped``, where a
            gradient, what else is told or the update itself holds NaN or infinity.
          seed: of its noise; runs with other initial parameters draw other noise.

        Raises:
          ValueError: ``total_updates`` is missing, a count is below 1 or does not fit; at first
            use: the tree does not tell actor from critic, or params are missing, and it must know.

        Example:
          >>> import jax.numpy as jnp
          >>> import optax
          >>> import learned_opt
          >>> tx = learned_opt.load("adam:breakout").as_optax(total_updates=100)
          >>> params = {"actor": {"layer": {"bias": jnp.array([1.0, -2.0])}}}
          >>> updates, _ = tx.update(params, tx.init(params), params)
          >>> moved = optax.apply_updates(params, updates)["actor"]["layer"]["bias"]
          >>> [f"{number:.2f}" for number in moved]
          ['0.99', '-1.99']
        """
        schedule = standalone.make_schedule(total_updates, updates_per_batch, epochs_per_batch)
        return standalone.make_standalone(
            self.for_run(schedule.total_updates).optimizer.transform(self.theta),
            schedule,
            role=role,
            actor_key=actor_key,
            keep_params=keep_params,
            skip_nonfinite=skip_nonfinite,
            seed=seed,
        )


def save(
    path: str | os.PathLike,
    name: str,
    theta: base.MetaParams,
    *,
    options: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Writes an optimizer file, replacing an older one in one step.

    Args:
      path: where to; ``optimizer.npz`` by convention.
      name: the optimizer's name in the registry.
      theta: its meta-parameters: nested dicts of arrays.
      options: what ``learned_opt.make(name, **options)`` needs to rebuild it.
      metadata: anything JSON can hold: config, training history.

    Raises:
      ValueError: theta holds NaN or infinity, or is not nested dicts of arrays.

    Example:
      >>> import pathlib
      >>> import tempfile
      >>> import jax
      >>> import learned_opt
      >>> path = pathlib.Path(tempfile.mkdtemp(), "optimizer.npz")
      >>> theta = learned_opt.make("linear").init(jax.random.key(0))
      >>> learned_opt.save(path, "linear", theta, metadata={"note": "never trained"})
      >>> trained = learned_opt.load(path)
      >>> trained.metadata["name"], trained.metadata["note"]
      ('linear', 'never trained')
    """
    arrays = {f"theta/{key}": array for key, array in _flatten(theta).items()}
    bad = [key for key, array in arrays.items() if not np.all(np.isfinite(array))]
    if bad:
        raise ValueError(f"theta is not finite in {', '.join(bad)}; not saved to {path}")
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "options": options or {},
        **(metadata or {}),
    }
    text = json.dumps(description, sort_keys=True, indent=1).encode()
    contents: dict[str, Any] = {"metadata": np.frombuffer(text, np.uint8), **arrays}
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **contents)


def convert_pickle(
    source: str | os.PathLike, destination: str | os.PathLike, **options: Any
) -> None:
    """Writes an optimizer file from a pickle of Optim4RL's release.

    The arrays are taken out of the pickle and nothing that it names is run.

    Args:
      source: the pickle: nested dicts of arrays of Optim4RL (or Linear, or L2LGD2).
      destination: where to write; ``optimizer.npz`` by convention.
      **options: what the pickle does not hold: ``learning_rate`` and ``gradient_clip``
        (default: as published for Brax, 3e-4 and 1; for Catch and the gridworlds 1e-3 and
        None).

    Raises:
      ValueError: the file is not such a pickle, or names anything but arrays and dicts; or
        an option is unknown.
    """
    content = Path(source).read_bytes()
    try:
        trained = _published_optim4rl(optim4rl_weights.parse_pickle(content), options)
    except ValueError as error:
        raise ValueError(f"cannot convert {os.fspath(source)!r}: {error}") from error
    name, options = trained.metadata["name"], trained.metadata["options"]
    metadata = {"source": trained.metadata["source"]}
    save(destination, name, trained.theta, options=options, metadata=metadata)


def load(
    path_or_name: str | os.PathLike,
    optimizer: base.LearnedOptimizer | None = None,
    options: dict[str, Any] | None = None,
) -> TrainedOptimizer:
    """Loads an optimizer.

    Args:
      path_or_name: a file written by ``save``; published weights of OPEN (``.npy``), of VeLO
        (msgpack) or of Optim4RL as plain arrays (``.npz``); a preset file (``.json``, see
        ``presets``; its options for every task); or the name of a handcrafted optimizer,
        as command lines write it (``adam``, ``adam:breakout``, ``adamw:learning_rate=1e-3``).
      options: of ``learned_opt.make``, for what published files do not hold: of Optim4RL the
        ``learning_rate`` and ``gradient_clip`` (default: those of the Brax tasks), of VeLO
        ``total_updates`` and ``loss``, of OPEN the multipliers.
      optimizer: the family that a saved file's theta belongs to, where the registry does
        not know its name (users' own networks).

    Raises:
      FileNotFoundError: no such file, and no such name.
      ValueError: the file is not what it should be; names the file and what was expected.

    Example:
      >>> import learned_opt
      >>> learned_opt.load("adam:breakout").metadata
      {'name': 'adam', 'options': {'preset': 'breakout'}, 'source': 'handcrafted'}
    """
    text, given = str(path_or_name), options or {}
    named = handcrafted.spelled(text)
    if named is not None:
        name, spelled = named
        return _handcrafted(name, {**spelled, **given}, source="handcrafted")
    path = Path(path_or_name)
    if not path.is_file():
        raise FileNotFoundError(
            f"no optimizer file at {text!r}; give the path of an optimizer.npz saved by this "
            "toolkit, of a published .npy or .npz, or one of the handcrafted optimizers "
            f"{', '.join(n for n in registry.names() if registry.is_handcrafted(n))}"
        )
    try:
        return _parsed(path.read_bytes(), optimizer, given)
    except ValueError as error:
        raise ValueError(f"cannot load an optimizer from {text!r}: {error}") from error


def _parsed(
    content: bytes, optimizer: base.LearnedOptimizer | None, given: dict[str, Any]
) -> TrainedOptimizer:
    """The optimizer in a file, whose kind its first bytes tell."""
    if content[:4] == b"PK\x03\x04":
        arrays = _read_archive(content)
        if "metadata" in arrays:
            _refuse_options(given, "a file that this toolkit saved")
            return _load_saved(arrays, optimizer)
        return _published_optim4rl(_check_optim4rl(arrays), given)
    if content.lstrip()[:1] == b"{":
        _refuse_options(given, "a preset file")
        preset = presets.parse_preset(content)
        about = {"source": "preset file", "provenance": preset.provenance}
        return _handcrafted(preset.optimizer, preset.options, **about)
    if content[:1] == _PICKLE:
        raise ValueError(
            "it is a pickle, which may run code and is never read as such; one of Optim4RL's "
            "release becomes a file of this toolkit by "
            "learned_opt.convert_pickle('in.pickle', 'optimizer.npz')"
        )
    if velo_weights.looks_like_msgpack(content):
        return _published_velo(content, given)
    return _published_open(content, given)


def _refuse_options(given: dict[str, Any], kind: str) -> None:
    if given:
        raise ValueError(f"{kind} holds its own options; leave out {', '.join(given)}")


def _handcrafted(name: str, options: dict[str, Any], **about: Any) -> TrainedOptimizer:
    metadata = {"name": name, "options": options, **about}
    return TrainedOptimizer(registry.make(name, **options), {}, metadata)


def _published_open(content: bytes, given: dict[str, Any]) -> TrainedOptimizer:
    parsed = open_weights.parse(content)
    options = {**given, "hidden_size": parsed.hidden_size, "width": parsed.width}
    return _published("open", "OPEN", options, parsed.arrays)


def _published_optim4rl(
    parsed: optim4rl_weights.Optim4RLWeights, given: dict[str, Any]
) -> TrainedOptimizer:
    settings = {**optim4rl_weights.BRAX_SETTINGS, **given}
    options = {**settings, "hidden_size": parsed.hidden_size}
    return _published(parsed.family, "Optim4RL", options, parsed.arrays)


def _published_velo(content: bytes, given: dict[str, Any]) -> TrainedOptimizer:
    """Without ``total_updates`` the optimizer says, when it is used, that it needs it."""
    parsed = velo_weights.parse(content)
    sizes = {
        "lstm_hidden_size": parsed.lstm_hidden_size,
        "num_parameter_sets": parsed.num_parameter_sets,
    }
    fixed = sorted(set(sizes) & set(given))
    if fixed:
        raise ValueError(f"{', '.join(fixed)}: the file has its own sizes; leave these options out")
    return _published("velo", "VeLO", {**sizes, **given}, parsed.arrays)


def _published(
    name: str, project: str, options: dict[str, Any], arrays: dict[str, np.ndarray]
) -> TrainedOptimizer:
    optimizer = registry.make(name, **options)
    theta = _theta(optimizer, arrays)
    metadata = {"name": name, "options": options, "source": f"published {project} weights"}
    return TrainedOptimizer(optimizer, theta, metadata)


def _check_optim4rl(arrays: dict[str, np.ndarray]) -> optim4rl_weights.Optim4RLWeights:
    try:
        return optim4rl_weights.from_arrays(arrays)
    except ValueError as error:
        raise ValueError(
            "it holds no metadata, so save() did not write it; as a published file of "
            f"Optim4RL: {error}"
        ) from error


def _read_archive(content: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            # Members that are no array files come as bytes; as arrays they are no numbers.
            return {key: np.asarray(archive[key]) for key in archive.files}
    except (zipfile.BadZipFile, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError("it is damaged, or no archive of plain arrays") from error


def _load_saved(
    arrays: dict[str, np.ndarray], optimizer: base.LearnedOptimizer | None
) -> TrainedOptimizer:
    try:
        metadata = json.loads(arrays.pop("metadata").tobytes().decode())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError("it holds no readable metadata, so save() did not write it") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"its metadata is not of the format {FORMAT!r}")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"it has format version {metadata.get('format_version')!r}, this is version "
            f"{FORMAT_VERSION}: load it with the version of the toolkit that wrote it"
        )
    if optimizer is None:
        optimizer = _rebuild(metadata)
    named = {key.removeprefix("theta/"): array for key, array in arrays.items()}
    return TrainedOptimizer(optimizer, _theta(optimizer, named), {"source": "lopt-rl", **metadata})


def _rebuild(metadata: dict[str, Any]) -> base.LearnedOptimizer:
    name = metadata.get("name")
    if name not in registry.names():
        raise ValueError(
            f"it holds theta of {name!r}, which is not registered here: pass "
            "load(path, optimizer=...) or learned_opt.register it first"
        )
    return registry.make(name, **metadata.get("options", {}))


def _flatten(theta: base.MetaParams) -> dict[str, np.ndarray]:
    flat, _ = jax.tree_util.tree_flatten_with_path(theta)
    return {"/".join(base.key_names(path)): np.asarray(leaf) for path, leaf in flat}


def _theta(optimizer: base.LearnedOptimizer, arrays: dict[str, np.ndarray]) -> base.MetaParams:
    """Builds theta by name, checking that names, shapes and values are as they must be."""
    template = jax.eval_shape(optimizer.init, jax.random.key(0))
    flat, treedef = jax.tree_util.tree_flatten_with_path(template)
    names = ["/".join(base.key_names(path)) for path, _ in flat]
    missing, extra = sorted(set(names) - set(arrays)), sorted(set(arrays) - set(names))
    if missing or extra:
        raise ValueError(
            f"theta does not fit: missing {missing or 'nothing'}, unexpected {extra or 'nothing'}"
        )
    leaves = []
    for name, (_, like) in zip(names, flat, strict=True):
        array = arrays[name]
        if array.shape != like.shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {like.shape}")
        if array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
            raise ValueError(
                f"{name} must hold finite numbers, found {array.dtype} with NaN or inf"
            )
        leaves.append(jnp.asarray(array, like.dtype))
    return jax.tree_util.tree_unflatten(treedef, leaves)
