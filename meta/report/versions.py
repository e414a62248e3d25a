"""A report's section on versions: of what wrote it, and of what trained the optimizers."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import learned_opt
from meta.report import page
from meta.report.sources import Folder, with_variants

_PACKAGES = (
    "lopt-rl", "jax", "jaxlib", "numpy", "optax", "flax", "dm-haiku", "evosax", "gymnax", "brax",
    "rliable", "matplotlib", "pillow",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[2]


def section(folders: list[Folder]) -> str:
    """Tables of both."""
    rows: list[list[object]] = [["python", platform.python_version()]]
    for name in _PACKAGES:
        try:
            rows.append([name, metadata.version(name)])
        except metadata.PackageNotFoundError:
            rows.append([name, "not installed"])
    rows.append(["commit of the toolkit", commit() or "unknown (not run from a git checkout)"])
    body = page.table(("package", "version"), rows, "What this report was made with.")
    trained = map(_trained_with, with_variants(folders))
    known = [row for row in trained if row is not None]
    if known:
        body += page.table(
            ("folder", "toolkit", "jax", "meta-steps", "environment steps", "theta of meta-step"),
            known,
            "What the optimizers in the folders were trained with, as their files say.",
        )
    return body


def _trained_with(folder: Folder) -> list[object] | None:
    path = folder.path / "optimizer.npz"
    if not path.is_file():
        return None
    try:
        training = learned_opt.load(path).metadata.get("training", {})
    except (OSError, ValueError, KeyError) as error:
        return [folder.label, f"unreadable: {error}", None, None, None, None]
    fields = ("toolkit", "jax", "meta_steps", "env_steps", "theta_of_meta_step")
    return [folder.label, *(training.get(field) for field in fields)]


def commit() -> str:
    """The toolkit's commit, with a plus sign if files were changed since; empty if unknown."""
    try:
        known = [
            subprocess.run(
                ["git", "-C", str(_ROOT), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for words in (
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
                ("rev-parse", "--show-toplevel"),
            )
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    # Installed somewhere inside another project's checkout, the commit would be that one's.
    if Path(known[2]).resolve() != _ROOT:
        return ""
    return known[0] + ("+" if known[1] else "")
