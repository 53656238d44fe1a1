import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.spec import ActionDim, ActionSpec, ConfigError, ObsKey, ObsPart, ObsSpec
from hotstart.world_model.layout import (
    Layout,
    list_differences,
    put_late,
    put_moving,
    straighten,
    take_moving,
)
from hotstart.world_model.layout_search import find_layout, join_states, trace_set_points
from hotstart.world_model.play import Play
from scipy.spatial.transform import Rotation

PARTS = (
    ObsPart("hand", 2, "position"),
    ObsPart("cube", 2, "position"),
    ObsPart("cube_rotation", 4, "quaternion"),
    ObsPart("angle", 2, "angle"),
    ObsPart("before", 2),
    ObsPart("again"),
    ObsPart("goal", 2, "position"),
    ObsPart("nothing"),
)
STEP = ActionSpec(
    (
        ActionDim("hand_dx", "0.1 m", absolute=False),
        ActionDim("dy", "0.1 m", absolute=False),
        ActionDim("gripper"),
    )
)


@pytest.fixture(scope="module")
def play():
    """Three episodes of eight steps."""
    rng = np.random.default_rng(0)
    steps = 24
    ends = np.array([8, 16, 24])
    actions = rng.uniform(-1, 1, (steps, 3))
    hand = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
    before = np.roll(hand, 1, 0)
    before[[0, 8, 16]] = hand[[0, 8, 16]]
    turned = Rotation.from_quat(rng.standard_normal((steps, 4))).as_quat()
    angle = rng.uniform(-3, 3, steps)
    goal = np.repeat(rng.uniform(-1, 1, (3, 2)), 8, 0)
    columns = [
        hand,
        rng.uniform(-1, 1, (steps, 2)),
        turned,
        np.stack((np.sin(angle), np.cos(angle)), 1),
        before,
        hand[:, :1],
        goal,
        np.zeros((steps, 1)),
    ]
    state = np.concatenate(columns, 1).astype(np.float32)
    return Play(
        observations={"state": state},
        actions=actions,
        reached=np.zeros(steps, bool),
        score=None,
        explored=np.ones(steps, bool),
        episode_ends=ends,
        obs_spec=ObsSpec({"state": ObsKey((16,), parts=PARTS)}),
        action_spec=STEP,
        rate_hz=10.0,
        content_hash="",
    )


def test_every_number_of_a_state_finds_its_role(play):
    layout = find_layout(play)
    assert layout.roles == ["moving"] * 10 + ["copy"] * 3 + ["context"] * 3
    assert layout.sources[10:13] == [0, 1, 0]
    assert layout.lags[10:13] == [1, 1, 0]
    assert [group.kind for group in layout.groups] == ["plain", "plain", "quaternion", "angle"]
    assert layout.context == [13, 14]  # the last number is the same in all episodes
    assert [position.name for position in layout.positions] == ["hand", "cube", "goal"]
    assert layout.moving == 12
    pairs = list_differences(layout)
    assert pairs == [(0, 2), (1, 3), (0, 12), (1, 13), (2, 12), (3, 13)]
    assert [point.place for point in layout.set_points] == [0, 1, -1]
    assert layout.set_points[0].scale == 0.1
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_states_without_parts_move_number_by_number(play):
    plain = replace(play, obs_spec=ObsSpec({"state": ObsKey((16,))}))
    layout = find_layout(plain)
    assert {group.kind for group in layout.groups} == {"plain"}
    assert layout.moving == 10
    assert layout.positions == []


def test_what_moves_goes_back_into_the_state_with_its_copies(play):
    layout = find_layout(play)
    states = torch.as_tensor(join_states(play.obs_spec, play.observations))
    moving = take_moving(layout, states)
    torch.testing.assert_close(straighten(layout, moving), moving, atol=1e-5, rtol=0)
    moved = put_moving(layout, states.roll(1, 0), moving)
    flipped = (moved[:, 4:8] * states[:, 4:8]).sum(1).sign()[:, None]
    torch.testing.assert_close(moved[:, 4:8] * flipped, states[:, 4:8], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[:, :4], states[:, :4])
    torch.testing.assert_close(moved[:, 12], states[:, 0])
    near = (moved[:, 4:8] * states.roll(1, 0)[:, 4:8]).sum(1)
    assert bool((near >= 0).all())  # the sign that is nearer to the state before
    late = put_late(layout, states, states + 1)
    torch.testing.assert_close(late[:, 10:12], states[:, :2] + 1)


def test_set_points_add_up_increments_within_what_was_seen(play):
    layout = find_layout(play)
    moving = take_moving(
        layout, torch.as_tensor(join_states(play.obs_spec, play.observations))
    ).numpy()
    rest = np.array([9.0, 9.0, 0.5])
    points = trace_set_points(layout, play, moving, rest)
    assert points[8, :2].tolist() == moving[8, :2].tolist()
    expected = moving[8, 0] + 0.1 * play.actions[8, 0]
    expected = np.clip(expected, moving[:, 0].min(), moving[:, 0].max())
    assert points[9, 0] == pytest.approx(expected)
    assert points[[0, 8, 16], 2].tolist() == [0.5] * 3
    assert points[9, 2] == play.actions[8, 2]


def test_play_without_a_state_is_refused(play):
    pictures = ObsSpec({"image": ObsKey((4, 4, 3), "uint8", "image")})
    with pytest.raises(ConfigError, match="observes no state"):
        find_layout(replace(play, obs_spec=pictures))


@pytest.mark.parametrize("rule", ["last", "first", "largest", "near"])
def test_quaternions_keep_the_sign_that_the_recorded_ones_keep_to(play, rule):
    state = play.observations["state"].copy()
    turned = state[:, 4:8]
    if rule == "largest":
        place = np.abs(turned).argmax(1)[:, None]
        turned *= np.sign(np.take_along_axis(turned, place, 1))
    elif rule != "near":
        turned *= np.sign(turned[:, [3 if rule == "last" else 0]])
    layout = find_layout(replace(play, observations={"state": state}))
    assert layout.groups[2].sign == rule
    states = torch.as_tensor(join_states(play.obs_spec, {"state": state}))
    back = put_moving(layout, -states, take_moving(layout, states))[:, 4:8]
    if rule == "near":
        back = -back
    torch.testing.assert_close(back, states[:, 4:8], atol=1e-5, rtol=0)


def test_parts_of_a_state_are_stored_and_wrong_ones_refused(play):
    spec = play.obs_spec
    again = ObsSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again.keys["state"].parts == PARTS
    assert again == ObsSpec({"state": ObsKey((16,))})  # what numbers mean is no other observation
    assert "parts" not in ObsSpec({"state": ObsKey((16,))}).to_json()["state"]
    plain = {"shape": [2], "dtype": "float32", "kind": "state"}
    for parts in (
        [{"name": "hand", "size": 3}],
        [{"name": "hand", "size": 0}, {"name": "rest", "size": 2}],
        [{"name": "hand", "size": True}, {"name": "rest"}],
        [{"name": "hand", "size": 2, "kind": "pose"}],
        [{"size": 2}],
        ["hand", "rest"],
    ):
        with pytest.raises(ConfigError, match=r"parts must have|a part has a name"):
            ObsSpec.from_json({"state": {**plain, "parts": parts}})
