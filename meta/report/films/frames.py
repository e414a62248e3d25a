"""Animations of episodes as GIF files, drawn from what was recorded of each step.

Axes: T frames.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

CELL = 18  # pixels of a cell of a map
MILLISECONDS = 90  # that a frame is shown
_LEGEND = 132  # pixels: width of the legend
_HEAD = 18  # pixels: height of the line with step and return
_STICK = (420, 260)  # pixels: size of a robot's picture
_BACK, _TEXT, _WALL = 0, 1, 2
# Background, letters, walls; then colours of things (Okabe and Ito's on dark, and more).
_PALETTE = (
    (22, 24, 28), (235, 235, 235), (110, 115, 122), (230, 159, 0), (86, 180, 233), (0, 158, 115),
    (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178), (170, 220, 170), (200, 160, 120),
    (150, 150, 255), (255, 150, 150),
)  # fmt: skip
_THINGS = 3  # the first palette entry of things

# What the channels of MinAtar's observations are; empty: drawn by another channel already.
CHANNELS = {
    "breakout": ("paddle", "ball", "trail", "brick"),
    "asterix": ("player", "enemy", "trail", "gold"),
    "freeway": ("chicken", "car", *(f"trail, speed {speed}" for speed in range(1, 6))),
    "spaceinvaders": ("cannon", "alien", "", "", "own bullet", "enemy bullet"),
    "seaquest": (
        "submarine", "trail", "own bullet", "trail of others", "enemy bullet", "fish",
        "enemy submarine", "oxygen", "divers aboard", "diver",
    ),
}  # fmt: skip


class Map(NamedTuple):
    """Cells to draw: ``cells`` int ``[T, rows, columns]``, -1 empty, -2 wall, else a thing.

    ``names`` are the things' names; empty ones have no line in the legend.
    """

    cells: np.ndarray
    names: tuple[str, ...]


class Sticks(NamedTuple):
    """A robot's parts as sticks.

    Attributes:
      ends: ``[T, sticks, 2, 3]``, both ends in metres, z up.
      radii: ``[sticks]`` metres.
    """

    ends: np.ndarray
    radii: np.ndarray


class Line(NamedTuple):
    """A moving line.

    Attributes:
      points: ``[T, K, 2]``, across and up; ``[1, K, 2]`` if it stands still.
      width: in the same unit; at least a pixel is drawn.
      thing: whose colour it has; None: that of walls.
    """

    points: np.ndarray
    width: float
    thing: int | None


class Dot(NamedTuple):
    """A moving disc: ``centres`` ``[T, 2]``; else as ``Line``."""

    centres: np.ndarray
    radius: float
    thing: int | None


class Scene(NamedTuple):
    """Lines and, over them, discs.

    Attributes:
      bounds: left, bottom, right and top of what is shown.
      stretch: whether both directions have scales of their own.
    """

    lines: list[Line]
    dots: list[Dot]
    bounds: tuple[float, float, float, float]
    stretch: bool = False


def from_channels(observations: np.ndarray, names: Sequence[str]) -> Map:
    """A map from observations ``[T, rows, columns, channels]``: the first channel is on top."""
    cells = np.full(observations.shape[:3], -1)
    for channel in reversed(range(observations.shape[3])):
        if channel < len(names) and names[channel]:
            cells[observations[..., channel] > 0] = channel
    return Map(cells, tuple(names))


def map_animation(shown: Map, returns: np.ndarray, every: int) -> bytes:
    """A GIF of a map with a legend.

    Args:
      returns: ``[T]``, undiscounted return up to each frame.
      every: environment steps from frame to frame.

    Raises:
      ValueError: there are no frames.
    """
    from PIL import ImageDraw

    _, rows, columns = shown.cells.shape
    used = [i for i, name in enumerate(shown.names) if name]
    height = max(rows * CELL, 16 * (len(used) + 1))
    width = columns * CELL + _LEGEND

    def draw(pen: ImageDraw.ImageDraw, frame: int) -> None:
        for (row, column), thing in np.ndenumerate(shown.cells[frame]):
            left, top = column * CELL, _HEAD + row * CELL
            box = (left, top, left + CELL - 1, top + CELL - 1)
            fill = _WALL if thing == -2 else _color(thing) if thing >= 0 else _BACK
            pen.rectangle(box, fill=fill, outline=_WALL if thing == -2 else 14)
        for line, thing in enumerate(used):
            top = _HEAD + 4 + 16 * line
            left = columns * CELL + 8
            pen.rectangle((left, top, left + 9, top + 9), fill=_color(thing))
            pen.text((left + 15, top - 3), shown.names[thing], fill=_TEXT, font=_font())

    return _animate((width, _HEAD + height), len(shown.cells), draw, returns, every)


def stick_animation(shown: Sticks, returns: np.ndarray, every: int) -> bytes:
    """A GIF of a robot from the side, the picture moving along with it; marks stand 1 m apart.

    Args:
      returns, every: see ``map_animation``.

    Raises:
      ValueError: there are no frames, or positions are not finite.
    """
    from PIL import ImageDraw

    if not np.isfinite(shown.ends).all():
        raise ValueError("the simulation left the finite numbers")
    ends = _project(shown.ends)
    middle = ends[..., 0].mean(axis=(1, 2))  # [T]
    across = float(np.abs(ends[..., 0] - middle[:, None, None]).max())
    high = float(max(ends[..., 1].max(), 0.5))
    low = float(min(ends[..., 1].min(), 0.0))
    width, height = _STICK
    scale = min(width / (2.3 * max(across, 0.5)), (height - 30) / (1.15 * (high - low)))
    ground = height - 14 + low * scale

    def draw(pen: ImageDraw.ImageDraw, frame: int) -> None:
        pen.line((0, ground, width, ground), fill=_WALL)
        reach = int(width / (2 * scale)) + 1
        for mark in range(int(middle[frame]) - reach, int(middle[frame]) + reach + 2):
            x = width / 2 + (mark - middle[frame]) * scale
            pen.line((x, ground, x, ground + 5), fill=_WALL)
        for stick, (both, radius) in enumerate(zip(ends[frame], shown.radii, strict=True)):
            points = [
                (width / 2 + (x - middle[frame]) * scale, _HEAD / 2 + ground - z * scale)
                for x, z in both
            ]
            size = max(2.0, float(radius) * scale)
            pen.line(points, fill=_color(stick), width=max(2, round(2 * size)))
            for x, z in points:
                pen.ellipse((x - size, z - size, x + size, z + size), fill=_color(stick))

    return _animate((width, height + _HEAD // 2), len(ends), draw, returns, every)


def scene_animation(shown: Scene, length: int, returns: np.ndarray, every: int) -> bytes:
    """A GIF of a scene.

    Args:
      length: T, how many frames there are.
      returns, every: see ``map_animation``.

    Raises:
      ValueError: there are no frames, or positions are not finite.
    """
    from PIL import ImageDraw

    if not all(np.isfinite(part[0]).all() for part in (*shown.lines, *shown.dots)):
        raise ValueError("the simulation left the finite numbers")
    left, bottom, right, top = shown.bounds
    width, height = _STICK
    scales = np.array([width / (right - left), (height - _HEAD) / (top - bottom)])
    if not shown.stretch:
        scales = np.full(2, scales.min())
    middle = np.array([(left + right) / 2, (bottom + top) / 2])
    centre = np.array([width / 2, _HEAD + (height - _HEAD) / 2])

    def at(points: np.ndarray, frame: int) -> np.ndarray:
        return centre + (points[frame % len(points)] - middle) * scales * [1, -1]

    def fill(thing: int | None) -> int:
        return _WALL if thing is None else _color(thing)

    def draw(pen: ImageDraw.ImageDraw, frame: int) -> None:
        for points, thick, thing in shown.lines:
            drawn = [tuple(point) for point in at(points, frame).tolist()]
            pen.line(drawn, fill=fill(thing), width=max(2, round(thick * scales[0])))
        for centres, radius, thing in shown.dots:
            x, y = at(centres, frame)
            size = max(2.0, radius * scales[0])
            pen.ellipse((x - size, y - size, x + size, y + size), fill=fill(thing))

    return _animate((width, height), length, draw, returns, every)


def _project(ends: np.ndarray) -> np.ndarray:
    """``[..., 3]`` metres to ``[..., 2]``: across and up, seen a little from above."""
    x, y, z = np.moveaxis(ends, -1, 0)
    return np.stack([x + 0.35 * y, z + 0.2 * (y - y.mean())], axis=-1)


def _animate(
    size: tuple[int, int],
    frames: int,
    draw: Callable[[Any, int], None],
    returns: np.ndarray,
    every: int,
) -> bytes:
    from PIL import Image, ImageDraw

    if not frames:
        raise ValueError("there is no frame to draw")
    images = []
    for frame in range(frames):
        image = Image.new("P", size, _BACK)
        image.putpalette([value for color in (*_PALETTE, (44, 48, 54)) for value in color])
        pen = ImageDraw.Draw(image)
        draw(pen, frame)
        line = f"step {frame * every}   return {returns[frame]:.4g}"
        pen.text((4, 2), line, fill=_TEXT, font=_font())
        images.append(image)
    file = io.BytesIO()
    # The last frame stays for a moment before it begins anew.
    durations = [MILLISECONDS] * (frames - 1) + [1200]
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return file.getvalue()


def _color(thing: int) -> int:
    return _THINGS + int(thing) % (len(_PALETTE) - _THINGS)


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(11)
