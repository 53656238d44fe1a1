"""Any registered environment: Gymnasium's own, gymnasium-robotics' and the user's."""

from importlib import import_module
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hotstart.cli import main
from hotstart.configs.compose import compose_config
from hotstart.datasets.store import Store
from hotstart.envs.gymnasium import GymnasiumEnv
from hotstart.envs.registry import make, options_of
from hotstart.envs.simulated_robot import SimulatedRobot
from hotstart.spec import ConfigError, HotstartError, ObsKey


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
    assert (terminated, truncated, info["success"], env.reports_success) == (
        False,
        True,
        False,
        False,
    )
    assert info["score"] < 0
    assert env.rate_hz == pytest.approx(1 / plain.unwrapped.dt)
    assert GymnasiumEnv("Pendulum-v1").max_steps == 200


class Nested(gymnasium.Env):
    """Observations of every kind, an end without success, and success as gymnasium-robotics
    says it.
    """

    observation_space = spaces.Dict(
        {
            "robot": spaces.Dict(
                {"left arm": spaces.Box(-1, 1, (2, 3)), "mode": spaces.Discrete(4)}
            ),
            "camera": spaces.Box(0, 255, (4, 5, 3), np.uint8),
        }
    )
    action_space = spaces.Box(-2.0, 3.0, (2, 2))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total = np.zeros((2, 2))
        return self.observed(), {}

    def observed(self):
        return {
            "robot": {"left arm": np.ones((2, 3)), "mode": 2},
            "camera": np.full((4, 5, 3), 7, np.uint8),
        }

    def step(self, action):
        self.total += action
        return (
            self.observed(),
            1.0,
            bool(self.total[0, 0] < -3),
            False,
            {"is_success": self.total[1, 1] > 5},
        )


@pytest.fixture
def nested():
    gymnasium.register("HotstartNested-v0", entry_point=cast(Any, Nested))
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


def test_fetch():
    pytest.importorskip("gymnasium_robotics", reason="pip install 'hotstart[gymnasium-robotics]'")
    fetch = make("gymnasium", id="FetchReach-v4")
    observation, info = fetch.reset(seed=3)
    assert set(observation) == {"observation", "achieved_goal", "desired_goal"}
    assert fetch.reports_success
    while not info["success"] and fetch.steps < 50:
        sampler = 5 * (observation["desired_goal"] - observation["achieved_goal"])
        observation, *_, info = fetch.step(np.clip([*sampler, 0.0], -1, 1))
    assert info["success"]


def test_a_goal_that_is_reached_before_the_first_action_is_seen_at_reset():
    """Of FetchPush's first seeds some begin solved; gymnasium-robotics itself says so only
    after a step.
    """
    pytest.importorskip("gymnasium_robotics", reason="pip install 'hotstart[gymnasium-robotics]'")
    with SimulatedRobot("gymnasium", {"id": "FetchPush-v4"}, rows=1) as robot:
        found = []
        for seed in range(24):
            start = robot.reset([seed])
            after = robot.act(np.zeros((1, 4)))
            assert start.fulfilled(0) == after.fulfilled(
                0
            )  # an arm that stands still changes nothing
            found.append(bool(start.fulfilled(0)))
    assert 0 < sum(found) < 8


class Kitchen(gymnasium.Env):
    """Says what a kitchen of gymnasium-robotics says; its action names the task that it fulfils."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(0.0, 9.0, (1,))

    def __init__(self, tasks_to_complete=("kettle", "microwave"), remove_task_when_completed=True):
        self.goal, self.removes = dict.fromkeys(tasks_to_complete), remove_task_when_completed
        self.episode_task_completions = []

    def reset(self, *, seed=None, options=None):
        self.episode_task_completions.clear()
        return np.zeros(1), self.said()

    def said(self):
        left = set(self.goal) - set(self.episode_task_completions if self.removes else ())
        return {
            "tasks_to_complete": list(left),
            "episode_task_completions": self.episode_task_completions,
        }

    def step(self, action):
        named = list(self.goal)[int(action[0])] if action[0] < len(self.goal) else None
        if named is not None and named not in self.episode_task_completions:
            self.episode_task_completions.append(named)
        return np.zeros(1), float(named is not None), False, False, self.said()


@pytest.mark.parametrize("removes", [True, False])
def test_a_kitchen_succeeds_with_its_named_tasks_and_scores_their_share(removes):
    gymnasium.register("HotstartKitchen-v0", entry_point=cast(Any, Kitchen))
    try:
        env = GymnasiumEnv("HotstartKitchen-v0", 9, "tasks", remove_task_when_completed=removes)
    finally:
        del gymnasium.registry["HotstartKitchen-v0"]
    _, info = env.reset(seed=0)
    assert (env.reports_success, info["success"], info["score"]) == (True, False, 0.0)
    seen = [env.step([task])[2:] for task in (9.0, 1.0, 9.0, 0.0)]
    assert [info["score"] for *_, info in seen] == [0.0, 0.5, 0.5, 1.0]
    assert [terminated for terminated, *_ in seen] == [False, False, False, True]
    _, info = env.reset(seed=1)
    assert (info["success"], info["score"]) == (False, 0.0)


def test_the_kitchen_of_the_configuration_can_succeed():
    """The tasks are those of the usual data, each is there, and doing all of them is success."""
    pytest.importorskip("gymnasium_robotics", reason="pip install 'hotstart[gymnasium-robotics]'")
    task = compose_config("collect", ["task=kitchen"])["task"]
    env = make(task["env"], **options_of(task))
    observation, info = env.reset(seed=3)
    assert "desired_goal_microwave" in observation
    assert (info["success"], info["score"], env.max_steps) == (False, 0.0, 280)
    *_, info = env.step(np.zeros(9))
    assert (info["success"], info["score"]) == (False, 0.0)
    kitchen = env.simulation
    places = import_module("gymnasium_robotics.envs.franka_kitchen.kitchen_env").OBS_ELEMENT_INDICES
    assert sorted(kitchen.goal) == ["kettle", "light switch", "microwave", "slide cabinet"]
    for done, name in enumerate(
        sorted(kitchen.goal), start=1
    ):  # put each thing where the task wants it
        kitchen.data.qpos[places[name]] = kitchen.goal[name]
        *_, info = env.step(np.zeros(9))
        assert info["score"] >= done / 4
    assert (info["success"], info["score"]) == (True, 1.0)


def test_mistakes_name_the_mend():
    with pytest.raises(ConfigError, match="did you mean 'Pendulum-v1'"):
        make("gymnasium", id="Pendulun-v1")
    with pytest.raises(ConfigError, match="needs a box"):
        make("gymnasium", id="CartPole-v1")
    with pytest.raises(ConfigError, match="does not take these options"):
        make("gymnasium", id="Pendulum-v1", colour="red")
    with pytest.raises(ConfigError, match="return"):
        make("gymnasium", id="Pendulum-v1", score="points")


SHOWN = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
BOXES = {
    "bytes": (spaces.Box(0, 255, (16, 20, 3), np.uint8), SHOWN, SHOWN),
    "channels first": (spaces.Box(0, 255, (3, 16, 20), np.uint8), np.moveaxis(SHOWN, -1, 0), SHOWN),
    "fractions": (
        spaces.Box(0, 1, (3, 16, 20)),
        np.moveaxis(SHOWN, -1, 0) / np.float32(255),
        SHOWN,
    ),
    "white": (
        spaces.Box(0, 1, (16, 20, 3)),
        np.ones((16, 20, 3), np.float32),
        np.full((16, 20, 3), 255),
    ),
    "int64": (spaces.Box(0, 255, (16, 20, 3), np.int64), SHOWN.astype(np.int64), SHOWN),
    "gray": (spaces.Box(0, 255, (16, 20), np.uint8), SHOWN[..., 0], SHOWN[..., :1]),
}


class Seen(gymnasium.Env):
    """Returns one observation for ever."""

    action_space = spaces.Box(-1.0, 1.0, (2,))

    def __init__(self, space, value):
        self.observation_space, self.value = space, value

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.value, {}

    def step(self, action):
        return self.value, 0.0, False, False, {}


@pytest.fixture
def seen():
    """Makes an environment that observes a value of a space."""

    def register(space, value=None):
        gymnasium.register("HotstartSeen-v0", entry_point=lambda **_: Seen(space, value))
        return "HotstartSeen-v0"

    yield register
    gymnasium.registry.pop("HotstartSeen-v0", None)


@pytest.mark.parametrize("form", BOXES)
def test_pictures_of_every_box_become_bytes_with_channels_last(seen, form):
    space, value, shown = BOXES[form]
    env = GymnasiumEnv(seen(space, value))
    observation, _ = env.reset(seed=0)
    assert env.obs_spec.keys == {"image": ObsKey(shown.shape, "uint8", "image")}
    assert env.observation_space.contains(observation)
    np.testing.assert_array_equal(observation["image"], shown)
    assert len(env.notes) == (form != "bytes")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Box(0, 255, (4, 16, 20), np.uint8),
            "one frame a step.*task.options.kinds={state:state}",
        ),
        (spaces.Box(0, 255, (16, 20)), "a gray picture or a state"),
        (
            spaces.Box(-1, 1, (16, 20, 3)),
            "goes from -1 to 1 in float32; pictures go from 0 to 255, or from 0 to 1",
        ),
        (spaces.Box(0, 1, (16, 20, 3), np.uint8), "goes from 0 to 1 in uint8"),
        (
            spaces.Dict({"a": spaces.Dict({"rgb": spaces.Box(0, 1)}), "a rgb": spaces.Box(0, 1)}),
            "both be called 'a_rgb'",
        ),
        (spaces.MultiBinary(3), "'of the environment' is MultiBinary"),
    ],
)
def test_boxes_that_could_be_two_things_are_refused(seen, space, message):
    with pytest.raises(HotstartError, match=message):
        GymnasiumEnv(seen(space))


def test_kinds_settle_what_a_box_is(seen):
    stack = np.zeros((4, 16, 20), np.uint8)
    made = seen(spaces.Box(0, 255, (4, 16, 20), np.uint8), stack)
    assert GymnasiumEnv(made, kinds={"state": "state"}).obs_spec.keys == {
        "state": ObsKey((4, 16, 20))
    }
    assert GymnasiumEnv(made, kinds={"image": "image"}).obs_spec.keys["image"].shape == (16, 20, 4)
    with pytest.raises(ConfigError, match="unknown observation in kinds 'camera'"):
        GymnasiumEnv(made, kinds={"camera": "image", "state": "state"})


def test_an_observation_that_is_not_of_its_space_is_refused(seen):
    with pytest.raises(ConfigError, match=r"'state' has shape \(3,\); its space says \(2,\)"):
        GymnasiumEnv(seen(spaces.Box(-1, 1, (2,)), np.zeros(3))).reset(seed=0)
    with pytest.raises(HotstartError, match="images are whole numbers from 0 to 255"):
        GymnasiumEnv(seen(spaces.Box(0, 255, (16, 20, 3), np.uint8), SHOWN / 255)).reset(seed=0)


@pytest.mark.parametrize("form", ["fractions", "gray"])
def test_pictures_of_other_forms_are_collected_trained_on_and_evaluated(
    seen, form, tmp_path, capsys
):
    space, value, shown = BOXES[form]
    task = ["task=gymnasium", f"task.options.id={seen(space, value)}", "task.max_steps=20"]
    data, run = tmp_path / "data.zarr", tmp_path / "run"
    assert (
        main(
            [
                "collect",
                str(data),
                *task,
                "demonstrator=random",
                "keep=all",
                "episodes=2",
                "workers=0",
            ]
        )
        == 0
    )
    assert "'image' is taken for a picture" in capsys.readouterr().out
    np.testing.assert_array_equal(Store.open(data).array("image")[7], shown)
    tiny = [
        "denoiser.channels=[8,16]",
        "denoiser.groups=4",
        "denoiser.level_width=8",
        "encoder.token_width=8",
    ]
    image = ["encoder=image", "encoder.channels=8", "encoder.stages=1", "encoder.keypoints=4"]
    words = ["training.steps=1", "training.batch=2", f"runs={tmp_path}", "name=run"]
    assert main(["train", str(data), *task, *words, *tiny, *image]) == 0
    assert (
        main(["evaluate", str(run), "episodes=1", "workers=0", f"out={tmp_path / 'r.json'}"]) == 0
    )
