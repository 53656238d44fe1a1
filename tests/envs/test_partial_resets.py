"""Rows that are reset by themselves: what reinforcement learning reads at terminations,
truncations and snapshots.
"""

import numpy as np
import pytest
from hotstart.envs.registry import make
from hotstart.envs.simulated_robot import SimulatedRobot
from hotstart.spec import ConfigError

# A walk that ends behind a wall (terminated) or after `max_steps` (truncated); its reward is drawn
# anew at every step.
TASK = """
import numpy as np
from hotstart.envs.base import TaskEnv
from hotstart.spec import ActionSpec, ObsKey, ObsSpec

class Walled(TaskEnv):
    keeps_best = False

    def __init__(self, max_steps: int = 7):
        obs_spec = ObsSpec({"place": ObsKey((1,), "float64")})
        super().__init__(obs_spec=obs_spec, action_spec=ActionSpec.plain(1), action_low=-9,
                         action_high=9, rate_hz=5, max_steps=max_steps)

    def _begin(self, options):
        self.place, self.gain = self.np_random.standard_normal(1), 0.0

    def _advance(self, action, substeps):
        self.place = self.place + action[0] + self.np_random.standard_normal(1)
        self.gain = float(self.np_random.standard_normal())

    def _observe(self):
        return {"place": self.place.copy()}

    def _judge(self):
        return self.gain, bool(self.place[0] > 3)

    def _save(self):
        return self.place.copy(), self.gain

    def _load(self, state):
        self.place, self.gain = state[0].copy(), state[1]

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)
"""
DISCOUNT, TRACE = 0.9, 0.8
ROWS, TURNS = 3, 40


@pytest.fixture
def walled(plugin_package):
    return plugin_package("walled_task", TASK, {"hotstart.envs": ["walled = walled_task:Walled"]})


def value(place):
    """A made-up critic."""
    return np.sin(place)


def advantages(rewards, places, following, terminated, ended):
    """GAE (1506.02438, equation 16) of turns in a row; `following` is what was seen after each,
    before any reset.
    """
    found, running = np.zeros(len(rewards)), 0.0
    for turn in reversed(range(len(rewards))):
        next_value = 0.0 if terminated[turn] else value(following[turn])
        delta = rewards[turn] + DISCOUNT * next_value - value(places[turn])
        running = delta + DISCOUNT * TRACE * (0.0 if ended[turn] else running)
        found[turn] = running
    return found


def row_alone(actions, seeds):
    """Advantages of one row's episodes, each stepped by itself in Gymnasium's own loop."""
    env, found, turn = make("walled"), [], 0
    while turn < len(actions):
        place = env.reset(seed=next(seeds))[0]["place"][0]
        rewards, places, following, terminated = [], [], [], False
        over = False
        while turn < len(actions) and not over:
            places.append(place)
            observation, reward, terminated, truncated, _ = env.step(actions[turn])
            place = observation["place"][0]
            rewards.append(reward)
            following.append(place)
            over = terminated or truncated
            turn += 1
        inner = [False] * (len(rewards) - 1)
        found.append(advantages(rewards, places, following, [*inner, terminated], [*inner, over]))
    return np.concatenate(found)


@pytest.mark.parametrize("workers", [0, 2])
def test_gae_over_partial_resets_is_that_of_every_episode_alone(walled, workers):
    actions = np.random.default_rng(0).uniform(-0.5, 1.0, (TURNS, ROWS, 1))
    seeds = [iter(range(100 * row, 100 * row + 99)) for row in range(ROWS)]
    shape = (TURNS, ROWS)
    rewards, places, following = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    terminated, truncated = np.zeros(shape, bool), np.zeros(shape, bool)
    with SimulatedRobot("walled", {}, rows=ROWS, workers=workers) as robot:
        robot.reset([next(each) for each in seeds])
        for turn in range(TURNS):
            places[turn] = robot.observe()["place"][:, 0]
            feedback = robot.act(actions[turn])
            rewards[turn], following[turn] = feedback.reward, robot.observe()["place"][:, 0]
            terminated[turn], truncated[turn] = feedback.terminated, feedback.truncated
            over = np.flatnonzero(feedback.done)
            if len(over):
                again = robot.reset_rows(over, [next(seeds[row]) for row in over])
                assert not again.done.any()
                assert (again.reward[over] == 0).all()
    assert terminated.any()
    assert truncated.any()
    ended = terminated | truncated
    for row in range(ROWS):
        columns = (part[:, row] for part in (rewards, places, following, terminated, ended))
        alone = row_alone(actions[:, row], iter(range(100 * row, 100 * row + 99)))
        np.testing.assert_array_equal(advantages(*columns), alone)


def play(robot, actions):
    """All that a robot shows while the actions are executed."""
    seen = []
    for action in actions:
        feedback = robot.act(action)
        seen.append(np.stack((robot.observe()["place"][:, 0], feedback.reward, feedback.score)))
        seen[-1] = np.concatenate((seen[-1], feedback.terminated[None], feedback.truncated[None]))
    return np.stack(seen)  # (turns, 5, B)


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_go_back_to_a_snapshot_and_the_others_go_on(walled, workers):
    actions = np.random.default_rng(1).uniform(-1.5, 0.2, (9, ROWS, 1))
    with SimulatedRobot("walled", {"max_steps": 100}, rows=ROWS, workers=workers) as robot:
        robot.reset([1, 2, 3])
        play(robot, actions[:3])
        rows = np.array([2, 0])
        saved = robot.snapshot(rows)
        expected = play(robot, actions[3:6])
        back = robot.restore(rows, saved)
        assert not back.done.any()
        again = play(robot, actions[3:6])
        np.testing.assert_array_equal(again[:, :, rows], expected[:, :, rows])
        assert (
            np.abs(again[:, 0, 1] - expected[:, 0, 1]).max() > 0
        )  # row 1 went on from where it was
        robot.restore(np.array([1, 2]), saved)  # into other rows: row 1 is now what row 2 was
        moved = play(robot, actions[3:6][:, [0, 2, 0]])
        np.testing.assert_array_equal(moved[:, :, 1], expected[:, :, 2])


def test_wrong_rows_and_snapshots_are_refused(walled):
    with SimulatedRobot("walled", {}, rows=2) as robot:
        robot.reset([1, 2])
        with pytest.raises(ConfigError, match=r"rows are \[2\]; .* the rows are 0 to 1"):
            robot.reset_rows(np.array([2]), [5])
        with pytest.raises(ConfigError, match=r"rows are \[0, 0\]; each is to be named once"):
            robot.snapshot(np.array([0, 0]))
        with pytest.raises(ConfigError, match="2 rows are to be reset with 1 seeds"):
            robot.reset_rows(np.array([0, 1]), [5])
        with pytest.raises(ConfigError, match="1 rows are to be restored from a snapshot of 2"):
            robot.restore(np.array([0]), robot.snapshot(np.array([0, 1])))
