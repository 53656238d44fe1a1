"""Scenes that are kept: a restored one goes on as one that was set up anew."""

import numpy as np
import pytest
from hotstart.commands.scenes import SharedScenes
from hotstart.envs.simulated_robot import SimulatedRobot


@pytest.mark.parametrize("seeds", [[3, 4], [3]])
def test_a_kept_scene_is_the_scene_of_its_seed(seeds):
    pytest.importorskip("pymunk")
    action = np.full((2, 2), 200.0)
    with SharedScenes("pusht", rows=2) as kept, SimulatedRobot("pusht", rows=2) as plain:
        kept.reset([3, 4])
        kept.act(action)
        for robot in (kept, plain):
            robot.reset(seeds)
            robot.act(action)
        count = len(seeds)
        for name, values in plain.observe().items():
            np.testing.assert_array_equal(kept.observe()[name][:count], values[:count])


def test_other_seeds_are_set_up_anew():
    pytest.importorskip("pymunk")
    with SharedScenes("pusht", rows=1) as kept, SimulatedRobot("pusht", rows=1) as plain:
        kept.reset([3])
        for robot in (kept, plain):
            robot.reset([4])
        for name, values in plain.observe().items():
            np.testing.assert_array_equal(kept.observe()[name], values)
