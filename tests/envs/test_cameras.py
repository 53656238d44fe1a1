"""Pictures in the observation: any number and size, the same for the same seed, and mistakes
that say what would be right.
"""

import numpy as np
import pytest
from hotstart.arms.rendering import choose_gl
from hotstart.envs.cameras import Cameras
from hotstart.envs.registry import make
from hotstart.spec import ConfigError

needs_gl = pytest.mark.skipif(
    choose_gl() is None, reason="no OpenGL library that draws without a screen"
)


@needs_gl
def test_robosuite_shows_what_was_asked_for():
    env = make("can", cameras={"agentview": [40, 56], "robot0_eye_in_hand": 32}, max_steps=30)
    assert list(env.obs_spec.keys)[-2:] == ["agentview_image", "robot0_eye_in_hand_image"]
    first, _ = env.reset(seed=2)
    for name, shape in (
        ("agentview_image", (40, 56, 3)),
        ("robot0_eye_in_hand_image", (32, 32, 3)),
    ):
        assert first[name].shape == shape
        assert first[name].dtype == np.uint8
        assert first[name].std() > 15
    renderer = env._renderer
    for _ in range(5):
        moved, *_ = env.step([1, 0, 0, 0, 0, 0, 1])
    assert (moved["robot0_eye_in_hand_image"] != first["robot0_eye_in_hand_image"]).mean() > 0.2
    again, _ = env.reset(seed=2)
    assert env._renderer is renderer  # the scene is the same: nothing is compiled again
    assert all(np.array_equal(again[name], first[name]) for name in first)
    env.render_size = 48
    assert env.render().shape == (48, 48, 3)  # a video beside the cameras
    env.close()


@needs_gl
def test_pictures_leave_the_physics_alone():
    plain, seen = make("lift", max_steps=9), make("lift", max_steps=9, cameras=["agentview"])
    plain.reset(seed=3)
    seen.reset(seed=3)
    for action in np.random.default_rng(0).uniform(-1, 1, (8, 7)):
        a, b = plain.step(action)[0], seen.step(action)[0]
    assert all(np.array_equal(a[name], b[name]) for name in a)
    plain.close()
    seen.close()


@needs_gl
def test_metaworld_shows_too():
    pytest.importorskip("metaworld")
    env = make("metaworld", task="drawer-open-v3", cameras=["corner", "topview"])
    seen, _ = env.reset(seed=0)
    assert seen["corner_image"].shape == seen["topview_image"].shape == (84, 84, 3)
    assert not np.array_equal(seen["corner_image"], seen["topview_image"])
    env.close()


@needs_gl
def test_an_unknown_camera_is_refused_with_the_nearest():
    env = make("lift", cameras=["agentveiw"])
    with pytest.raises(
        ConfigError,
        match=r"unknown camera 'agentveiw' \(did you mean 'agentview'\?\); valid: frontview",
    ):
        env.reset(seed=0)
    env.close()


@pytest.mark.parametrize("size", [4, [84], [84, 84, 3], "large", [84, 5000], 2.5])
def test_sizes_that_cannot_be_are_refused(size):
    with pytest.raises(ConfigError, match="one side or \\[height, width\\]"):
        Cameras.of({"agentview": size})


def test_names_alone_get_a_size():
    assert Cameras.of(["a", "b"]).sizes == {"a": (84, 84), "b": (84, 84)}
    assert not Cameras.of(None)


def test_a_camera_that_is_asked_for_twice_is_refused():
    with pytest.raises(ConfigError, match="camera 'rgb' is asked for twice"):
        Cameras.of(["rgb", "rgb"])
    assert list(Cameras.of(["front", "wrist"]).keys) == ["front_image", "wrist_image"]
