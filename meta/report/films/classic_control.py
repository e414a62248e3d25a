"""Scenes of gymnax's classic control tasks, drawn from what the agent observes.

Geometry is that of the environments (gymnax, after OpenAI's gym); lengths are in their own units.
Where nothing better is known, numbers that an agent sees are drawn as bars.

Axes: T steps.
"""

from collections.abc import Callable

import numpy as np

from meta.report.films.frames import Dot, Line, Scene

_CART, _POLE, _GOAL = 1, 0, 2  # colours of things
_MOST_BARS = 32


def cartpole(observations: np.ndarray) -> Scene:
    """Position of the cart, and angle of the pole from upright, clockwise: ``[T, 4]``."""
    x, angle = observations[:, 0], observations[:, 2]
    foot = np.stack([x, np.zeros_like(x)], axis=-1)
    tip = foot + np.stack([np.sin(angle), np.cos(angle)], axis=-1)  # the pole is 2 * 0.5 long
    track = np.array([[[-2.4, -0.1], [2.4, -0.1]]])
    lines = [
        Line(track, 0.0, None),
        Line(np.array([[[-2.4, -0.2], [-2.4, 0.2]]]), 0.0, None),
        Line(np.array([[[2.4, -0.2], [2.4, 0.2]]]), 0.0, None),
        Line(np.stack([_moved(foot, -0.25, 0), _moved(foot, 0.25, 0)], axis=1), 0.2, _CART),
        Line(np.stack([foot, tip], axis=1), 0.08, _POLE),
    ]
    return Scene(lines, [], (-2.6, -0.4, 2.6, 1.3))


def acrobot(observations: np.ndarray) -> Scene:
    """Cosine and sine of both joints' angles, the first from hanging down: ``[T, 6]``."""
    first = np.arctan2(observations[:, 1], observations[:, 0])
    second = first + np.arctan2(observations[:, 3], observations[:, 2])
    elbow = np.stack([np.sin(first), -np.cos(first)], axis=-1)
    hand = elbow + np.stack([np.sin(second), -np.cos(second)], axis=-1)
    base = np.zeros_like(elbow)
    lines = [
        Line(np.array([[[-2.2, 1.0], [2.2, 1.0]]]), 0.0, _GOAL),
        Line(np.stack([base, elbow], axis=1), 0.12, _POLE),
        Line(np.stack([elbow, hand], axis=1), 0.12, _CART),
    ]
    return Scene(lines, [Dot(base, 0.08, None), Dot(elbow, 0.08, None)], (-2.3, -2.3, 2.3, 2.3))


def pendulum(observations: np.ndarray) -> Scene:
    """Cosine and sine of the angle from upright, counter-clockwise: ``[T, 3]``."""
    tip = np.stack([-observations[:, 1], observations[:, 0]], axis=-1)
    base = np.zeros_like(tip)
    rod = Line(np.stack([base, tip], axis=1), 0.16, _POLE)
    return Scene([rod], [Dot(base, 0.08, None)], (-1.4, -1.3, 1.4, 1.3))


def mountain_car(observations: np.ndarray) -> Scene:
    """Position along the valley: ``[T, 2]``. The goal is a flag."""
    return _valley(observations, 0.5)


def mountain_car_continuous(observations: np.ndarray) -> Scene:
    """As ``mountain_car``, with a nearer goal."""
    return _valley(observations, 0.45)


def _valley(observations: np.ndarray, goal: float) -> Scene:
    def on_ground(x: np.ndarray) -> np.ndarray:
        return np.stack([x, 0.45 * np.sin(3 * x) + 0.55], axis=-1)

    flag = on_ground(np.array([goal]))
    lines = [
        Line(on_ground(np.linspace(-1.2, 0.6, 60))[None], 0.0, None),
        Line(np.stack([flag, _moved(flag, 0.0, 0.2)], axis=1), 0.0, _GOAL),
        Line(np.stack([_moved(flag, 0.0, 0.2), _moved(flag, 0.08, 0.16)], axis=1), 0.04, _GOAL),
    ]
    car = _moved(on_ground(observations[:, 0]), 0.0, 0.05)
    return Scene(lines, [Dot(car, 0.05, _CART)], (-1.25, 0.0, 0.65, 1.3))


def _moved(points: np.ndarray, across: float, up: float) -> np.ndarray:
    return np.add(points, (across, up))


def bars(observations: np.ndarray) -> Scene:
    """The first numbers of any observation ``[T, ...]``, each divided by its largest size."""
    values = observations.reshape(len(observations), -1)[:, :_MOST_BARS].astype(float)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(values).max(axis=0, initial=0.0)
    values = values / np.where(largest > 0, largest, 1.0)
    count = values.shape[1]
    places = np.arange(count) + 0.5
    lines = [Line(np.array([[[0.0, 0.0], [count, 0.0]]]), 0.0, None)]
    for place, heights in zip(places, values.T, strict=True):
        ends = [[np.full_like(heights, place), part] for part in (np.zeros_like(heights), heights)]
        lines.append(Line(np.moveaxis(np.array(ends), -1, 0), 0.6, _CART))
    return Scene(lines, [], (-0.5, -1.1, count + 0.5, 1.1), stretch=True)


# By the environment's short name.
SCENES: dict[str, Callable[[np.ndarray], Scene]] = {
    "cartpole": cartpole,
    "acrobot": acrobot,
    "pendulum": pendulum,
    "mountaincar": mountain_car,
    "mountaincarcontinuous": mountain_car_continuous,
}
