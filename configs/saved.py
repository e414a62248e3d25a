"""An experiment or study again, from the config that its folder kept.

python launchers/train.py --config=configs/saved.py:runs/demo/config.json --workdir=runs/again

Any field can be overridden as in other configs, e.g. ``--config.seed=1``.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict


def get_config(path: str = "") -> ConfigDict:
    if not path:
        raise ValueError("give a workdir's config after a colon: saved.py:runs/demo/config.json")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no readable config.json: {error}") from error
    if not isinstance(content, dict) or not {"outer", "base"} & set(content):
        raise ValueError(f"{path} is not the config of a meta-training or of a study")
    # Variants' names and fields may have dots, which a ConfigDict's own look-up would split.
    return ConfigDict(_tuples(content), convert_dict=True).lock()


def _tuples(value: object) -> object:
    """Lists as the tuples that configs are written with."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return value
