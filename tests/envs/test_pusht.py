"""Push-T against the human demonstrations, against gym-pusht, and against what geometry demands."""

import os
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

pytest.importorskip("pymunk", reason='pip install "hotstart[pusht]"')

from hotstart.datasets.formats.replay_buffer import read_replay_buffer
from hotstart.envs import pusht
from hotstart.envs.registry import make
from hotstart.spec import ConfigError

SHARED = Path(
    os.environ.get("HOTSTART_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
HUMAN = SHARED / "pusht" / "pusht_cchi_v7_replay_lowdim.npz"


@pytest.fixture(scope="module")
def human_images():
    """Some states (n, 5) of the human data and the pictures (n, 96, 96, 3) recorded in them."""
    source = HUMAN.with_name("pusht_cchi_v7_replay.zarr.zip")
    if not source.exists():
        pytest.skip(
            f"{source} is not there: set HOTSTART_SHARED_DATA to the folder that holds pusht/"
        )
    buffer = read_replay_buffer(source)
    chosen = np.arange(0, 2000, 100)
    return buffer.array("state")[chosen], buffer.array("img")[chosen].astype(np.uint8)


@pytest.fixture(scope="module")
def human():
    if not HUMAN.is_file():
        pytest.skip(f"the human Push-T data is not there: {HUMAN} (set HOTSTART_SHARED_DATA)")
    with np.load(HUMAN) as file:
        return {key: file[key] for key in file.files}


def state_gap(state, recorded):
    """Largest difference of positions [px] and of angles [rad]."""
    difference = state - recorded
    turn = (difference[4] + np.pi) % (2 * np.pi) - np.pi
    return np.abs(difference[:4]).max(), abs(turn)


def pushes(env, seed, steps):
    """A trajectory of pushes round the block, long enough to move it: states (steps, 5)."""
    generator = np.random.default_rng(seed)
    env.reset(seed=seed)
    states, target = [], env.state[:2]
    for step in range(steps):
        if step % 5 == 0:
            target = env.state[2:4] + generator.normal(0, 60, 2)
        observation, *_ = env.step(target)
        states.append(np.concatenate([env.state, *observation.values()]))
    return np.array(states)


def test_score_of_the_human_demonstrations(human):
    scores = pusht.score_of_states(human["state"], human["episode_ends"])
    assert scores.shape == (206,)
    assert scores.mean() == pytest.approx(0.892, abs=0.005)


def test_score_of_states_is_the_best_of_each_episode():
    goal = np.array(pusht.GOAL_POSE)
    far, half = goal + np.array([200, 200, 0]), goal + np.array([10, 5, 0.1])
    states = np.array([[0, 0, *pose] for pose in (far, goal, half, far, far, far)])
    expected = [1.0, pusht.coverage(half) / 0.95, 0.0]
    assert pusht.score_of_states(states, [2, 4, 6]) == pytest.approx(expected, abs=1e-12)


def test_recorded_actions_replay(human):
    """From the recorded first state (rounded to float32) the recorded actions lead along the
    recorded states.
    """
    worst, ends = [], human["episode_ends"]
    env = pusht.PushTEnv()
    for episode in range(0, 206, 5):
        start = 0 if episode == 0 else ends[episode - 1]
        env.restart_from(human["state"][start])
        gaps = []
        for step in range(start, ends[episode]):
            gaps.append(state_gap(env.state, human["state"][step])[0])
            env.step(human["action"][step])
        worst.append(max(gaps))
    # Contacts amplify the rounding of the first state, and in 17 of the 206 first states agent and
    # block overlap:
    # how hard they were being pushed apart at that moment was not recorded.
    assert np.median(worst) < 1e-3
    assert np.mean(np.array(worst) < 0.01) > 0.75
    assert np.mean(np.array(worst) < 1.0) > 0.9


def test_same_physics_as_gym_pusht(monkeypatch):
    """An outside oracle, started from our state: hundreds of contacts later the two agree to
    rounding.
    """
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    peer = pytest.importorskip(
        "gym_pusht.envs.pusht", reason="gym-pusht is not installed"
    ).PushTEnv(obs_type="state")
    env = pusht.PushTEnv()
    generator = np.random.default_rng(0)
    for seed in range(5):
        peer.reset(
            seed=0
        )  # a start without overlap: what one pushes apart would stay in the peer's contacts
        env.reset(seed=seed)
        start, target = env.state, env.state[:2]
        peer.block.angle, peer.block.position = (
            start[4],
            tuple(start[2:4]),
        )  # its own reset turns the block last
        peer.agent.position, peer.agent.velocity = tuple(start[:2]), (0, 0)
        peer.block.velocity, peer.block.angular_velocity = (0, 0), 0
        for body in (peer.block, peer.agent):
            peer.space.reindex_shapes_for_body(body)
        for step in range(60):
            if step % 5 == 0:
                target = env.state[2:4] + generator.normal(0, 60, 2)
            _, reward, *_ = env.step(target)
            _, peer_reward, *_ = peer.step(target)
            theirs = np.array([*peer.agent.position, *peer.block.position, peer.block.angle])
            assert max(state_gap(env.state, theirs)) < 1e-6
            assert reward == pytest.approx(peer_reward, abs=1e-6)
        assert np.abs(env.state - start)[2:4].max() > 20


def test_keypoints_match_the_recorded_ones(human):
    gaps = np.abs(pusht.keypoints(human["state"][:, 2:5]) - human["keypoint"]).max(axis=(1, 2))
    assert np.median(gaps) < 1e-3
    assert np.percentile(gaps, 99) < 0.05
    assert gaps.max() < 3.0


def test_keypoints_are_rigid_and_keep_leading_axes():
    poses = np.random.default_rng(0).uniform(-100, 600, (4, 5, 3))
    points = pusht.keypoints(poses)
    assert points.shape == (4, 5, 9, 2)
    distances = np.linalg.norm(points[..., :, None, :] - points[..., None, :, :], axis=-1)
    assert distances == pytest.approx(np.broadcast_to(distances[0, 0], distances.shape), abs=1e-9)
    assert points[2, 3] == pytest.approx(pusht.keypoints(poses[2, 3]))


@pytest.mark.parametrize("obs", ["keypoints", "state"])
def test_observations_of_states_are_those_of_the_environment(obs):
    env = pusht.PushTEnv(obs=obs)
    observation, _ = env.reset(seed=4)
    states = np.stack([env.state, env.state])
    batch = pusht.observations_from_states(states, obs)
    assert set(batch) == set(env.obs_spec.keys)
    for key, value in observation.items():
        assert batch[key].shape == (2, *env.obs_spec.keys[key].shape)
        assert batch[key].dtype == env.obs_spec.keys[key].dtype
        assert np.array_equal(batch[key][1], value)


def test_state_observation_holds_sine_and_cosine():
    observed = pusht.observations_from_states([1.0, 2.0, 3.0, 4.0, 0.5], "state")["state"]
    assert observed == pytest.approx([1, 2, 3, 4, np.sin(0.5), np.cos(0.5)], abs=1e-6)


def test_set_state_puts_everything_exactly_there():
    env = pusht.PushTEnv()
    env.reset(seed=0)
    generator = np.random.default_rng(0)
    for _ in range(50):
        agent, block = (
            generator.uniform(50, 450, 2),
            np.array([*generator.uniform(100, 400, 2), generator.uniform(-7, 7)]),
        )
        env.set_state(agent, block)
        assert max(state_gap(env.state, np.concatenate([agent, block]))) < 1e-9


def test_physical_corners_lie_where_the_outline_says():
    """The simulated shapes, not just the pose, stand at the asked place: the drawn T is the
    pushed T.
    """
    env = pusht.PushTEnv()
    env.set_state((20, 20), (300, 200, 2.0))
    corners = [
        env._block.local_to_world(v) for shape in env._block.shapes for v in shape.get_vertices()
    ]
    expected = pusht.to_world(np.array([*pusht.BAR, *pusht.STEM]), (300, 200, 2.0))
    assert np.array(sorted(corners)) == pytest.approx(
        np.array(sorted(map(tuple, expected))), abs=1e-9
    )


def test_restart_begins_an_episode_at_the_state():
    env = pusht.PushTEnv(max_steps=3)
    env.reset(seed=0)
    assert [env.step([256, 256])[3] for _ in range(3)] == [False, False, True]
    state = np.array([100.0, 120.0, 256.0, 256.0, np.pi / 4])
    _, info = env.restart_from(state)
    assert env.state == pytest.approx(state, abs=1e-9)
    assert env.steps == 0
    assert (info["success"], info["score"]) == (True, 1.0)


def test_same_start_moves_on_alike_whatever_happened_before():
    fresh, used = pusht.PushTEnv(), pusht.PushTEnv()
    fresh.reset(seed=0)
    pushes(used, 3, 40)
    start = [200.0, 200.0, 240.0, 260.0, 0.3]
    for env in (fresh, used):
        env.restart_from(start)
    for target in ([300, 300], [260, 280], [200, 310]) * 5:
        fresh.step(target)
        used.step(target)
        assert np.array_equal(fresh.state, used.state)


def test_seed_fixes_the_trajectory():
    first, again, other = (pushes(pusht.PushTEnv(), seed, 60) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], other[0])


def centres_of_gravity(states):
    """The block's centre of gravity, (..., 2), 45 px down its stem from the pose's origin."""
    angle = states[..., 4]
    return states[..., 2:4] + 45.0 * np.stack((-np.sin(angle), np.cos(angle)), -1)


def test_starts_are_drawn_as_in_the_human_data():
    """Agent in [50, 450)^2; the block's centre of gravity on whole numbers in [100, 400) x
    [145, 445).
    """
    env = pusht.PushTEnv()
    states = []
    for seed in range(200):
        env.reset(seed=seed)
        states.append(env.state)
    states = np.array(states)
    centres = centres_of_gravity(states)
    np.testing.assert_allclose(centres, np.round(centres), atol=1e-6)
    assert (centres.min(0) >= [100, 145]).all()
    assert (centres.max(0) < [400, 445]).all()
    assert (np.ptp(centres, axis=0) > 280).all()
    assert states[:, :2].min() >= 50
    assert states[:, :2].max() < 450


def test_recorded_starts_have_whole_centres_of_gravity(human):
    first = human["state"][np.r_[0, human["episode_ends"][:-1]]]
    centres = centres_of_gravity(first.astype(np.float64))
    np.testing.assert_allclose(centres, np.round(centres), atol=1e-3)
    assert (centres.min(0) >= [100, 145]).all()
    assert (centres.max(0) < [400, 445]).all()


@pytest.mark.parametrize("obs", ["keypoints", "state"])
def test_gymnasium_accepts_it(obs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice, such as the lack of bounds; what is wrong raises
        check_env(pusht.PushTEnv(obs=obs), skip_render_check=True)


def test_episode_is_cut_at_max_steps_and_keeps_its_best_score():
    env = pusht.PushTEnv(max_steps=30)
    near = np.array(pusht.GOAL_POSE) + np.array([10, 20, 0.1])
    _, info = env.reset(seed=0, options={"state": [256, 330, *near]})
    best, reward, cut = info["score"], 0.0, []
    for target in [(256, 200)] * 15 + [(420, 420)] * 15:
        _, reward, terminated, truncated, info = env.step(target)
        best = max(best, reward)
        assert info["score"] == best
        assert terminated == info["success"]
        cut.append(truncated)
    assert cut == [False] * 29 + [True]
    assert reward < best


def test_reaching_the_goal_terminates():
    env = pusht.PushTEnv()
    env.restart_from([30, 30, *pusht.GOAL_POSE])
    _, reward, terminated, truncated, info = env.step([30, 30])
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["success"], info["score"]) == (True, 1.0)


def test_goal_option_moves_the_goal():
    goal = (150.0, 350.0, -1.0)
    env = pusht.PushTEnv(goal=goal)
    _, there = env.restart_from([400, 60, *goal])
    _, elsewhere = env.restart_from([400, 60, *pusht.GOAL_POSE])
    assert there["success"]
    assert not elsewhere["success"]


def test_coverage_at_the_goal_beside_it_and_far_away():
    assert pusht.coverage(pusht.GOAL_POSE) == pytest.approx(1.0, abs=1e-12)
    assert pusht.coverage((600.0, 600.0, 0.0)) == 0.0
    # Upright T moved sideways by 30 (the stem's width): the bar keeps 90 x 30 of its 120 x 30, the
    # stem nothing.
    assert pusht.coverage((30, 0, 0), (0, 0, 0)) == pytest.approx(90 * 30 / 6300, abs=1e-12)


def test_coverage_is_symmetric_and_ignores_a_common_motion():
    generator = np.random.default_rng(1)
    for _ in range(30):
        block = np.array([*generator.uniform(-25, 25, 2), generator.uniform(-1.5, 1.5)])
        goal = np.array([*generator.uniform(-25, 25, 2), generator.uniform(-1.5, 1.5)])
        turn, shift = generator.uniform(-3, 3), generator.uniform(-500, 500, 2)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        moved = [
            np.array([*(rotation @ pose[:2] + shift), pose[2] + turn]) for pose in (block, goal)
        ]
        covered = pusht.coverage(block, goal)
        assert 0.0 < covered < 1.0
        assert pusht.coverage(goal, block) == pytest.approx(covered, abs=1e-9)
        assert pusht.coverage(moved[0], moved[1]) == pytest.approx(covered, abs=1e-9)


def test_coverages_agree_with_counting_points():
    """A Monte Carlo oracle that knows only the two rectangles."""
    generator = np.random.default_rng(2)
    points = generator.uniform([-60, 0], [60, 120], (40000, 2))

    def inside(local):
        x, y = np.abs(local[:, 0]), local[:, 1]
        return ((x <= 60) & (y >= 0) & (y <= 30)) | ((x <= 15) & (y >= 0) & (y <= 120))

    points = points[inside(points)]
    block = np.array([20.0, -10.0, 0.7])
    cos, sin = np.cos(block[2]), np.sin(block[2])
    local = (points - block[:2]) @ np.array([[cos, -sin], [sin, cos]])
    assert pusht.coverage(block, (0, 0, 0)) == pytest.approx(inside(local).mean(), abs=0.015)


def test_picture_shows_block_agent_goal_and_target():
    env = pusht.PushTEnv(render_size=512)
    env.reset(seed=0)
    env.set_state((60, 60), (400, 100, 0.0))
    image = env.render()
    assert image.shape == (512, 512, 3)
    assert image.dtype == np.uint8
    assert tuple(image[115, 400]) == (143, 163, 184)  # row is y, column is x
    assert tuple(image[60, 70]) == (78, 126, 255)
    red, green, blue = image[280, 234].astype(int)  # on the goal's stem
    assert green > red
    assert green > blue
    env.step([250, 60])
    cross = env.render()[60, 250].astype(int)
    assert cross[0] > cross[1] + 100
    assert pusht.PushTEnv(render_size=96).render().shape == (96, 96, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pusht.PushTEnv(obs=cast(Any, "pixels")), "'pixels'.*keypoints, state"),
        (lambda: pusht.PushTEnv(goal=(1.0, 2.0)), "goal.*x, y, angle"),
        (lambda: pusht.PushTEnv(max_steps=0), "max_steps is 0"),
        (lambda: pusht.PushTEnv(render_size=2), "render_size is 2"),
        (lambda: pusht.PushTEnv().set_state((1, np.nan), (1, 2, 3)), "agent_xy"),
        (lambda: pusht.PushTEnv().restart_from([1, 2, 3]), "state is.*block x, block y, angle"),
        (lambda: pusht.PushTEnv().reset(options={"start": 1}), "'start'.*valid: state"),
        (
            lambda: pusht.observations_from_states(np.zeros((2, 5)), cast(Any, "video")),
            "'video'.*keypoints, state",
        ),
    ],
)
def test_mistakes_are_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_bad_actions_are_refused():
    env = pusht.PushTEnv()
    with pytest.raises(RuntimeError, match="before reset"):
        env.step([1, 2])
    env.reset(seed=0)
    for action in ([1, 2, 3], [np.nan, 1], 5.0):
        with pytest.raises(ConfigError, match="2 finite numbers: target_x, target_y"):
            env.step(action)


def test_pictures_are_observed_as_the_human_data_has_them(human_images):
    states, recorded = human_images
    drawn = pusht.observations_from_states(states, "image")["image"]
    assert drawn.shape == recorded.shape
    assert (
        np.abs(drawn.astype(float) - recorded).mean() < 3
    )  # of 255: edges are smoothed in another way
    moved = states + np.array([0, 0, 16, 0, 0])
    shifted = pusht.observations_from_states(moved, "image")["image"]
    assert (
        np.abs(shifted.astype(float) - recorded).mean()
        > 1.5 * np.abs(drawn.astype(float) - recorded).mean()
    )


def test_a_picture_does_not_show_where_the_agent_is_sent():
    env = pusht.PushTEnv(obs="image")
    env.reset(seed=1)
    before = env.observe()["image"]
    env._target = np.array([400.0, 30.0])
    assert np.array_equal(env.observe()["image"], before)
    assert before.shape == (96, 96, 3)


# --- the belt


def test_a_belt_carries_the_block_at_its_speed_in_a_direction_of_the_episode():
    env, samplers = make("pusht", belt_px_s=20.0), []
    for seed in (1, 2):
        env.reset(seed=seed, options={"state": [60.0, 60.0, 256.0, 256.0, 0.3]})
        before = env.state
        for _ in range(10):
            env.step(env.hold_position())
        samplers.append(env.state[2:4] - before[2:4])
        assert np.linalg.norm(samplers[-1]) == pytest.approx(20.0, rel=1e-6)  # one second
        assert env.state[4] == pytest.approx(before[4])
    assert not np.allclose(*samplers)
    for _ in range(200):
        env.step(env.hold_position())
    assert (env.state[2:4] >= 60).all()
    assert (env.state[2:4] <= 452).all()  # it ends before the walls


def test_an_episode_on_the_belt_is_gone_on_with_to_the_bit():
    one, other = make("pusht", belt_px_s=15.0), make("pusht", belt_px_s=15.0)
    one.reset(seed=4)
    rng = np.random.default_rng(0)
    targets = rng.uniform(100, 400, (20, 2))
    for target in targets[:10]:
        one.step(target, 7)
    other.restore(one.snapshot())
    for target in targets[10:]:
        one.step(target)
        other.step(target)
    assert np.array_equal(one.state, other.state)
    with pytest.raises(ConfigError, match="belt_px_s is -1"):
        make("pusht", belt_px_s=-1.0)


@pytest.mark.parametrize("steps", [0, 10**12, 1e3, "9"])
def test_an_episode_has_a_believable_length(steps):
    with pytest.raises(ConfigError, match=r"an episode has 1 to 100,000 steps"):
        pusht.PushTEnv(max_steps=steps)
