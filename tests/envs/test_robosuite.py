import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hotstart.arms.rendering import choose_gl, load_mujoco
from hotstart.envs.demonstrators.demonstrate import demonstrate, make_demonstrator
from hotstart.envs.registry import ROBOSUITE, make
from hotstart.envs.robosuite.env import HAND_DOWN, UPRIGHT, canonical_quat, matrix_columns
from hotstart.envs.robosuite.models import Picture, check_mujoco, without_looks
from hotstart.envs.robosuite.tasks import LiftEnv
from hotstart.spec import ConfigError
from scipy.spatial.transform import Rotation


@pytest.fixture(scope="module")
def env():
    lift = LiftEnv(max_steps=12)
    yield lift
    lift.close()


def cube_size(env):
    return np.array(
        env.simulation.sim.model.geom_size[env.simulation.sim.model.geom_name2id("cube_g0")]
    )


def roll(env, seed, steps=10):
    """What an episode of fixed random actions shows: cube size, joint positions, observations,
    scores.
    """
    observation, info = env.reset(seed=seed)
    seen = [cube_size(env), np.array(env.simulation.sim.data.qpos)]
    actions = np.random.default_rng(7).uniform(-1, 1, (steps, 7))
    for action in actions:
        seen += [*observation.values(), np.array(info["score"])]
        observation, _, _, _, info = env.step(action)
    return [*seen, *observation.values()]


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_a_seed_fixes_everything_in_any_object(env):
    first = roll(env, 3)
    other = roll(env, 4)
    env.reset()  # an unseeded episode in between
    assert same(first, roll(env, 3))
    fresh = LiftEnv(max_steps=12)
    assert same(first, roll(fresh, 3))
    fresh.close()
    assert not np.array_equal(first[0], other[0])  # the cube's size is part of the model
    assert not np.array_equal(first[1], other[1])


def test_physics_is_the_same_without_looks(env):
    mujoco = load_mujoco()
    env.reset(seed=0)
    full = Picture(env.simulation.full_xml).model
    bare = mujoco.MjModel.from_xml_string(without_looks(env.simulation.full_xml))
    assert bare.nmeshface < full.nmeshface / 10
    for name in (
        "body_mass",
        "body_inertia",
        "body_ipos",
        "body_iquat",
        "dof_invweight0",
        "body_invweight0",
        "geom_bodyid",
    ):
        assert np.array_equal(getattr(full, name), getattr(bare, name)), name
    ends = []
    for model in (full, bare):
        data = mujoco.MjData(model)
        data.qpos[:] = env.simulation.sim.data.qpos
        data.ctrl[:] = 1.0
        mujoco.mj_step(model, data, 300)  # the arm falls, the cube rests in contact
        ends.append((data.qpos.copy(), data.qvel.copy(), data.ncon))
    assert same(ends[0], ends[1])
    assert ends[0][2] > 0


def test_gymnasium_accepts_it(env):
    check_env(env, skip_render_check=True)
    observation, info = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert {name: value.shape for name, value in observation.items()} == {
        name: key.shape for name, key in env.obs_spec.keys.items()
    }
    assert info["success"] is False
    assert 0 <= info["score"] < 1


def test_object_observation_is_cube_pose_and_offset_from_the_hand(env):
    observation, _ = env.reset(seed=2)
    cube, offset = observation["object"][:3], observation["object"][7:]
    np.testing.assert_allclose(np.abs(offset), np.abs(cube - observation["eef_pos"]), atol=1e-6)
    assert np.linalg.norm(observation["object"][3:7]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_moves_follow_the_action_and_the_gripper_closes(env, axis):
    before, _ = env.reset(seed=1)
    action = np.zeros(7)
    action[axis], action[6] = 0.5, 1.0
    for _ in range(8):
        after, *_ = env.step(action)
    moved = after["eef_pos"] - before["eef_pos"]
    assert np.argmax(np.abs(moved)) == axis
    assert moved[axis] > 0.02
    assert np.ptp(after["gripper_qpos"]) < np.ptp(before["gripper_qpos"])


def test_truncates_at_max_steps(env):
    env.reset(seed=1)
    ends = [env.step(np.zeros(7))[2:4] for _ in range(12)]
    assert ends == [(False, False)] * 11 + [(False, True)]


def test_quaternion_sign_is_canonical_and_does_not_flip_where_the_hand_works():
    rng = np.random.default_rng(0)
    for quat in rng.standard_normal((100, 4)):
        chosen = canonical_quat(quat, UPRIGHT)
        assert chosen[3] >= 0
        assert np.array_equal(np.outer(chosen, chosen), np.outer(quat, quat))  # the same rotation
        assert np.array_equal(canonical_quat(-quat, UPRIGHT), chosen)
    hands = [np.array([0.99, 0.05, 0.05, w]) for w in (-1e-3, 1e-3)]
    around = [canonical_quat(sign * hand, HAND_DOWN) for hand in hands for sign in (-1, 1)]
    assert max(np.linalg.norm(a - b) for a in around for b in around) < 0.01


def test_unknown_robot_and_bad_action_are_refused(env):
    with pytest.raises(ConfigError, match="Panda"):
        LiftEnv(robot="Pandora")
    env.reset(seed=1)
    with pytest.raises(ConfigError, match="gripper"):
        env.step(np.full(7, np.nan))


def test_import_and_specifications_need_no_simulator():
    program = (
        "import sys; from hotstart.envs.robosuite.tasks import LiftEnv; LiftEnv(); "
        "sys.exit(any(name in sys.modules for name in ('mujoco', 'robosuite', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_picture_is_right_side_up_and_leaves_the_physics_alone(env):
    if choose_gl() is None:
        pytest.skip("no OpenGL library that draws without a screen")
    env.render_size = 64
    plain = roll(env, 5)
    env.reset(seed=5)
    picture = env.render()
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert (
        picture[-16:].mean() > 1.3 * picture[:16].mean()
    )  # the white table below, the grey wall above
    red = picture[..., 0].astype(int) - picture[..., 1]
    assert 32 < np.argmax(red.max(axis=1)) < 60  # the cube lies on the table
    for action in np.random.default_rng(7).uniform(-1, 1, (10, 7)):
        observation, *_ = env.step(action)
        moved = env.render()
    assert same(list(observation.values()), plain[-len(observation) :])
    assert np.abs(moved.astype(int) - picture).mean() > 0.5


@pytest.mark.parametrize("name", ROBOSUITE)
def test_every_task_resets_steps_and_repeats(name):
    task = make(name, max_steps=4)
    ends = []
    for seed in (1, 1, 2):
        observation, info = task.reset(seed=seed)
        assert info["instruction"]
        assert task.observation_space.contains(observation)
        for action in np.random.default_rng(0).uniform(-1, 1, (4, task.action_spec.width)):
            observation, *_ = task.step(action)
        assert task.observation_space.contains(observation)
        ends.append(list(observation.values()))
    task.close()
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_turns_of_objects_as_matrices_are_those_of_the_quaternions_and_never_jump():
    quaternions, matrices = (
        make("square", max_steps=6),
        make("square", max_steps=6, rotation="rotation_6d"),
    )
    for seed in range(3):
        seen, shown = (env.reset(seed=seed)[0]["object"] for env in (quaternions, matrices))
        assert (seen.shape, shown.shape) == ((14,), (18,))
        for action in np.random.default_rng(seed).uniform(-1, 1, (4, 7)):
            seen, shown = (env.step(action)[0]["object"] for env in (quaternions, matrices))
            for quat, six in ((seen[3:7], shown[3:9]), (seen[10:14], shown[12:18])):
                np.testing.assert_allclose(
                    six.reshape(2, 3).T, Rotation.from_quat(quat).as_matrix()[:, :2], atol=1e-5
                )
            np.testing.assert_array_equal(
                np.r_[seen[:3], seen[7:10]], np.r_[shown[:3], shown[9:12]]
            )
    half_turn = [
        matrix_columns(Rotation.from_euler("z", angle).as_quat())
        for angle in np.linspace(0, 2 * np.pi, 100)
    ]
    assert np.abs(np.diff(half_turn, axis=0)).max() < 0.1
    with pytest.raises(
        ConfigError,
        match="rotation of environment 'square' is 'euler'; it must be one of quaternion, "
        "rotation_6d",
    ):
        make("square", rotation="euler")
    quaternions.close()
    matrices.close()


def test_two_arms_have_names_of_their_own():
    task = make("two_arm_lift", max_steps=4)
    assert task.action_spec.width == 14
    assert {"robot0_eef_pos", "robot1_eef_pos"} <= set(task.obs_spec.keys)
    assert task.action_spec.dims[13].name == "robot1_gripper"


def test_absolute_poses_do_what_the_changes_they_stand_for_do():
    changes, absolute = make("lift", max_steps=40), make("lift", max_steps=40, control="absolute")
    changes.reset(seed=6)
    absolute.reset(seed=6)
    for change in np.random.default_rng(1).uniform(-0.6, 0.6, (30, 7)):
        seen, *_ = changes.step(change)
        follows, *_ = absolute.step(absolute.command(change))
        for name in seen:
            # What is observed is 2 ms older than what the controller starts from, so the goals
            # differ by tenths of a mm.
            np.testing.assert_allclose(follows[name], seen[name], atol=4e-3)
    assert all(dim.absolute for dim in absolute.action_spec.dims)
    assert not changes.action_spec.dims[0].absolute
    changes.close()
    absolute.close()


def test_an_expert_works_with_absolute_poses():
    env = make("can", control="absolute")
    shown = demonstrate(env, make_demonstrator("can", 0.2), seed=3)
    env.close()
    assert shown.success
    assert shown.arrays["action"][:, 2].min() > 0.8  # heights above the table, in metres


def test_an_unknown_control_is_refused():
    with pytest.raises(ConfigError, match="delta, absolute"):
        make("lift", control="joint")


@pytest.mark.parametrize("version", ["3.10.0", "3.12.1", "4.0.0", "3.2.7"])
def test_a_mujoco_that_cannot_work_is_refused_with_the_command_that_mends_it(version):
    with pytest.raises(
        ConfigError, match=rf"mujoco {version}.*pip install --force-reinstall 'mujoco>=3.3,<3.10'"
    ):
        check_mujoco(version)


@pytest.mark.parametrize("version", ["3.3.0", "3.9.0"])
def test_a_mujoco_that_works_is_taken(version):
    check_mujoco(version)


def test_the_hands_quaternions_never_show_their_other_sign():
    env = make("lift", max_steps=4)
    env.reset(seed=1)
    before = env.observe()
    for name in ("eef_quat", "eef_quat_site"):
        env._seen = {**env._seen, f"robot0_{name}": -env._seen[f"robot0_{name}"]}
        assert before[name][0] > 0
        assert np.array_equal(env.observe()[name], before[name])
    env.close()
