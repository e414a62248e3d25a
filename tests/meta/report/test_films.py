"""Films of environments without maps: what is drawn is where the environment has things."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from agents import environments
from meta.report.films import classic_control, episodes, frames

NAMES = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0")


@pytest.mark.parametrize("name", NAMES)
def test_every_task_of_classic_control_has_a_drawing(name):
    env = environments.make(f"gymnax/{name}")
    assert episodes.what_is_drawn(env) == ""
    _, observation = env.reset(jax.random.key(0))
    seen = np.stack([np.asarray(observation)] * 3)
    gif = episodes.draw(env, episodes.Footage({"observation": seen}, np.arange(3.0), True))
    with Image.open(io.BytesIO(gif)) as image:
        assert image.n_frames == 3 and len(image.convert("RGB").getcolors()) >= 3


def test_what_has_no_drawing_is_shown_as_bars_and_says_so():
    env = environments.make("gymnax/MemoryChain-bsuite")
    assert "Bars" in episodes.what_is_drawn(env)
    seen = np.array([[1.0, -2.0], [0.5, np.nan]])
    ground, first, second = classic_control.bars(seen).lines
    np.testing.assert_allclose(first.points[:, 1, 1], [1.0, 0.5])
    np.testing.assert_allclose(second.points[:, 1, 1], [-1.0, 0.0])
    assert len(ground.points) == 1


def test_poles_stand_where_angles_say():
    upright = classic_control.cartpole(np.array([[1.0, 0, 0, 0], [0, 0, np.pi / 2, 0]]))
    pole = upright.lines[-1].points
    np.testing.assert_allclose(pole[0], [[1, 0], [1, 1]])
    np.testing.assert_allclose(pole[1, 1], [1, 0], atol=1e-12)  # clockwise
    hanging = classic_control.acrobot(np.array([[1.0, 0, 1, 0, 0, 0]]))
    np.testing.assert_allclose(hanging.lines[-1].points[0], [[0, -1], [0, -2]], atol=1e-12)
    swung = classic_control.pendulum(np.array([[1.0, 0, 0], [0, 1, 0]]))
    np.testing.assert_allclose(swung.lines[0].points[:, 1], [[0, 1], [-1, 0]], atol=1e-12)
    car = classic_control.mountain_car(np.array([[0.5, 0.0]]))
    flag = car.lines[1].points[0, 0]
    np.testing.assert_allclose(car.dots[0].centres[0] - flag, [0, 0.05], atol=1e-12)


def test_positions_that_are_not_finite_are_refused():
    scene = classic_control.cartpole(np.full((2, 4), np.nan))
    with pytest.raises(ValueError, match="finite"):
        frames.scene_animation(scene, 2, np.zeros(2), 1)
