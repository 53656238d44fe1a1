"""Any registered environment: Gymnasium's own, gymnasium-robotics' and the user's."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hotstart.envs.gymnasium import GymnasiumEnv
from hotstart.envs.registry import make
from hotstart.spec import ConfigError


def test_pendulum_is_a_task_with_its_return_as_score():
    env = make("gymnasium", id="Pendulum-v1", max_steps=30)
    check_env(env, skip_render_check=True)
    env.reset(seed=1)
    plain = gymnasium.make("Pendulum-v1")
    total = 0.0
    for _ in range(30):
        _, reward, terminated, truncated, info = env.step(np.array([0.5]))
        total += reward
    assert info["score"] == pytest.approx(total)
    assert (terminated, truncated, info["success"]) == (False, True, False)
    assert env.rate_hz == pytest.approx(1 / plain.unwrapped.dt)
    assert GymnasiumEnv("Pendulum-v1").max_steps == 200


class Nested(gymnasium.Env):
    """Observations of every kind, an end without success, and success as gymnasium-robotics says it."""

    observation_space = spaces.Dict(
        {
            "robot": spaces.Dict({"left arm": spaces.Box(-1, 1, (2, 3)), "mode": spaces.Discrete(4)}),
            "camera": spaces.Box(0, 255, (4, 5, 3), np.uint8),
        }
    )
    action_space = spaces.Box(-2.0, 3.0, (2, 2))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total = np.zeros((2, 2))
        return self.observed(), {}

    def observed(self):
        return {"robot": {"left arm": np.ones((2, 3)), "mode": 2}, "camera": np.full((4, 5, 3), 7, np.uint8)}

    def step(self, action):
        self.total += action
        return self.observed(), 1.0, bool(self.total[0, 0] < -3), False, {"is_success": self.total[1, 1] > 5}


@pytest.fixture
def nested():
    gymnasium.register("HotstartNested-v0", entry_point=Nested)
    yield GymnasiumEnv("HotstartNested-v0", max_steps=10, score="success")
    del gymnasium.registry["HotstartNested-v0"]


def test_nested_observations_are_flat_and_typed(nested):
    observation, _ = nested.reset(seed=0)
    assert {name: (value.shape, value.dtype.name) for name, value in observation.items()} == {
        "robot_left_arm": ((2, 3), "float32"),
        "robot_mode": ((1,), "float32"),
        "camera": ((4, 5, 3), "uint8"),
    }
    assert nested.obs_spec.keys["camera"].kind == "image"


def test_ends_and_successes_are_told_apart(nested):
    nested.reset(seed=0)
    ends = [nested.step([-9, 0, 0, 0])[2] for _ in range(2)]  # clipped to -2 each
    assert ends == [False, True]
    nested.reset(seed=0)
    *_, info = [nested.step([0, 0, 0, 3])[4] for _ in range(2)]
    assert (info["success"], info["score"]) == (True, 1.0)


def test_fetch_and_kitchen():
    pytest.importorskip("gymnasium_robotics", reason="pip install 'hotstart[gymnasium-robotics]'")
    fetch = make("gymnasium", id="FetchReach-v4")
    observation, info = fetch.reset(seed=3)
    assert set(observation) == {"observation", "achieved_goal", "desired_goal"}
    while not info["success"] and fetch.steps < 50:
        way = 5 * (observation["desired_goal"] - observation["achieved_goal"])
        observation, *_, info = fetch.step(np.clip([*way, 0.0], -1, 1))
    assert info["success"]
    kitchen = make("gymnasium", id="FrankaKitchen-v1", score="success")
    observation, info = kitchen.reset(seed=3)
    assert "desired_goal_microwave" in observation
    assert (info["success"], kitchen.max_steps) == (False, 280)
    kitchen.step(np.zeros(9))


def test_mistakes_name_the_mend():
    with pytest.raises(ConfigError, match="did you mean 'Pendulum-v1'"):
        make("gymnasium", id="Pendulun-v1")
    with pytest.raises(ConfigError, match="needs a box"):
        make("gymnasium", id="CartPole-v1")
    with pytest.raises(ConfigError, match="does not take these options"):
        make("gymnasium", id="Pendulum-v1", colour="red")
    with pytest.raises(ConfigError, match="return or success"):
        make("gymnasium", id="Pendulum-v1", score="points")
