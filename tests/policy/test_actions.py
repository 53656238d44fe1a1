"""Representations of actions: round trips, scipy's rotations as oracle, and a policy trained
and run through each.
"""

from typing import Any, cast

import numpy as np
import pytest
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.policy.actions import (
    MATRIX_UNIT,
    Representation,
    axis_angle_to_matrix,
    find_pose_groups,
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    quaternion_to_matrix,
    rotation_6d_to_matrix,
)
from hotstart.policy.denoisers.unet import ConditionalUnet
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.encoders.state import StateEncoder
from hotstart.policy.samplers.base import Capabilities
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.policy.training.api import node, train
from hotstart.policy.training.settings import TrainingSettings
from hotstart.spec import ActionDim, ActionSpec, ConfigError, Horizon, ObsKey, ObsSpec
from scipy.spatial.transform import Rotation

POSE = ActionSpec(
    (
        *(ActionDim(name, "m") for name in "xyz"),
        *(ActionDim(f"r{name}", "rad", "rotation") for name in "xyz"),
        ActionDim("gripper", "", "discrete"),
    )
)
TWO_ARMS = ActionSpec((*POSE.dims, *POSE.dims))
SEEN = ObsSpec({"eef_pos": ObsKey((3,)), "eef_quat_site": ObsKey((4,))})


def poses(count, steps, arms=1, seed=0):
    """Absolute poses all around, half a turn among them, and a closing gripper: (count, steps,
    7 arms).
    """
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(arms):
        rotations = (
            Rotation.random(count * steps, rng=np.random.default_rng(seed))
            .as_rotvec()
            .reshape(count, steps, 3)
        )
        rotations[0, 0] = [np.pi, 0, 0]
        rotations[0, 1] = 0
        parts += [
            rng.normal(size=(count, steps, 3)),
            rotations,
            np.sign(rng.normal(size=(count, steps, 1))),
        ]
    return torch.as_tensor(np.concatenate(parts, -1))


def observed(count, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "eef_pos": torch.as_tensor(rng.normal(size=(count, 2, 3)), dtype=torch.float32),
        "eef_quat_site": torch.as_tensor(rng.normal(size=(count, 2, 4)), dtype=torch.float32),
    }


def same_actions(left, right, arms=1):
    """Equal but for the sign of rotation vectors of half a turn."""
    for arm in range(arms):
        a, b = (
            value[..., 7 * arm : 7 * arm + 7].double().reshape(-1, 7) for value in (left, right)
        )
        torch.testing.assert_close(a[:, :3], b[:, :3], atol=1e-5, rtol=0)
        torch.testing.assert_close(a[:, 6], b[:, 6])
        between = Rotation.from_rotvec(a[:, 3:6].numpy()).inv() * Rotation.from_rotvec(
            b[:, 3:6].numpy()
        )
        assert between.magnitude().max() < 1e-5


@pytest.mark.parametrize("spec", [POSE, TWO_ARMS])
def test_matrices_round_trip_and_leave_the_rest_alone(spec):
    arms = spec.width // 7
    view = Representation(spec, SEEN, "rotation_6d")
    actions = poses(5, 8, arms)
    encoded = view.encode(actions, {})
    assert encoded.shape == (5, 8, 10 * arms)
    assert view.spec.width == 10 * arms
    same_actions(view.decode(encoded, {}), actions, arms)
    for arm in range(arms):
        torch.testing.assert_close(
            encoded[..., 10 * arm : 10 * arm + 3], actions[..., 7 * arm : 7 * arm + 3]
        )
        torch.testing.assert_close(encoded[..., 10 * arm + 9], actions[..., 7 * arm + 6])
        assert [d.unit for d in view.spec.dims[10 * arm + 3 : 10 * arm + 9]] == [MATRIX_UNIT] * 6
    assert view.discrete.tolist() == ([False] * 9 + [True]) * arms


def test_relative_trajectories_round_trip_and_do_not_see_where_the_hand_is():
    view = Representation(POSE, SEEN, "rotation_6d", "hand")
    actions, seen = poses(6, 8).float(), observed(6)
    encoded = view.encode(actions, seen)
    same_actions(view.decode(encoded, seen), actions)
    # Move the whole scene: everything relative stays.
    turn, shift = Rotation.random(rng=np.random.default_rng(3)), np.array([0.3, -2.0, 1.0])
    moved_actions = actions.clone().double().numpy()
    flat = moved_actions.reshape(-1, 7)
    flat[:, :3] = turn.apply(flat[:, :3]) + shift
    flat[:, 3:6] = (turn * Rotation.from_rotvec(flat[:, 3:6])).as_rotvec()
    moved_seen = {
        "eef_pos": torch.as_tensor(
            turn.apply(seen["eef_pos"].reshape(-1, 3).numpy()) + shift
        ).reshape(6, 2, 3),
        "eef_quat_site": torch.as_tensor(
            (turn * Rotation.from_quat(seen["eef_quat_site"].reshape(-1, 4))).as_quat()
        ).reshape(6, 2, 4),
    }
    moved = view.encode(torch.as_tensor(flat.reshape(6, 8, 7)).float(), moved_seen)
    torch.testing.assert_close(moved, encoded, atol=1e-5, rtol=0)
    here = view.encode(torch.cat([seen["eef_pos"][:, -1:], actions[:, :1, 3:]], -1), seen)
    assert here[..., :3].abs().max() < 1e-5


def test_rotations_agree_with_scipy():
    rotations = Rotation.random(200, rng=np.random.default_rng(5))
    matrices = torch.as_tensor(rotations.as_matrix())
    torch.testing.assert_close(
        axis_angle_to_matrix(torch.as_tensor(rotations.as_rotvec())), matrices, atol=1e-12, rtol=0
    )
    torch.testing.assert_close(
        quaternion_to_matrix(torch.as_tensor(3 * rotations.as_quat())), matrices, atol=1e-12, rtol=0
    )
    torch.testing.assert_close(
        rotation_6d_to_matrix(matrix_to_rotation_6d(matrices)), matrices, atol=1e-12, rtol=0
    )
    torch.testing.assert_close(
        matrix_to_axis_angle(matrices), torch.as_tensor(rotations.as_rotvec()), atol=1e-9, rtol=0
    )
    tiny = 1e-9 * torch.ones(1, 3, dtype=torch.float64)
    torch.testing.assert_close(
        axis_angle_to_matrix(tiny)[0], torch.as_tensor(Rotation.from_rotvec(tiny[0]).as_matrix())
    )
    noisy = matrix_to_rotation_6d(matrices) + 0.2 * torch.randn(
        200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    repaired = rotation_6d_to_matrix(noisy)
    torch.testing.assert_close(
        repaired @ repaired.transpose(-1, -2), torch.eye(3, dtype=torch.float64).expand(200, 3, 3)
    )
    assert (torch.linalg.det(repaired) > 0.99).all()


def test_matrices_do_not_jump_where_vectors_do():
    angles = np.linspace(np.pi - 0.2, np.pi + 0.2, 41)
    vectors = torch.as_tensor(
        Rotation.from_rotvec(angles[:, None] * np.array([1.0, 0, 0])).as_rotvec()
    )
    assert vectors.diff(dim=0).abs().max() > 6
    assert matrix_to_rotation_6d(axis_angle_to_matrix(vectors)).diff(dim=0).abs().max() < 0.02


def test_impossible_choices_name_the_mend():
    changes = ActionSpec(
        tuple(ActionDim(d.name, d.unit, d.kind, absolute=d.kind == "discrete") for d in POSE.dims)
    )
    with pytest.raises(ConfigError, match="control=absolute"):
        Representation(changes, SEEN, "rotation_6d", "hand")
    with pytest.raises(ConfigError, match="rotation=rotation_6d"):
        Representation(POSE, SEEN, "vector", "hand")
    with pytest.raises(ConfigError, match=r"eef_quat_site.*obs_keys"):
        Representation(POSE, ObsSpec({"eef_pos": ObsKey((3,))}), "rotation_6d", "hand")
    with pytest.raises(ConfigError, match="vector or rotation_6d"):
        Representation(POSE, SEEN, cast(Any, "euler"))
    with pytest.raises(ConfigError, match="fewer than three"):
        find_pose_groups(ActionSpec((*POSE.dims[:5], POSE.dims[6])))
    assert not Representation(ActionSpec.plain(3), SEEN, "rotation_6d").changes


def trained(episodes, folder, observed, **options):
    """A tiny model of two training steps on poses, with actions represented as `options` say."""
    return train(
        Arrays(episodes, fps=10, action_spec=POSE, obs_spec=SEEN),
        folder,
        TrainingSettings(steps=2, batch=8, validation_share=0),
        progress=False,
        denoiser=node(ConditionalUnet, channels=[8, 16], groups=4, level_width=8),
        encoder=node(StateEncoder, token_width=8),
        horizon=Horizon(observed, 10, 4),
        actions=node(Representation, **options),
    )


def test_a_plan_said_again_from_another_pose_means_the_same():
    view = Representation(POSE, SEEN, "rotation_6d", "hand")
    actions, before, now = poses(6, 8).float(), observed(6), observed(6)
    now = {name: value.flip(0) for name, value in now.items()}
    plan = view.encode(actions, before)
    again = view.rebase(plan, before, now)
    assert not torch.allclose(again, plan, atol=0.1)
    same_actions(view.decode(again, now), actions)
    still = Representation(POSE, SEEN, "rotation_6d")
    assert torch.equal(still.rebase(plan, {}, {}), plan)  # poses in the world need nothing


def test_a_warm_start_goes_on_from_the_same_poses_though_the_hand_has_moved(tmp_path):
    """The guess, brought back to the robot's own units, is the plan before; without re-basing
    it would move with the hand.
    """
    episodes = [
        {
            "eef_pos": np.random.default_rng(seed).normal(size=(30, 3)),
            "eef_quat_site": Rotation.random(30, rng=np.random.default_rng(seed)).as_quat(),
            "action": poses(1, 30, seed=seed)[0].numpy().astype(np.float32),
        }
        for seed in range(3)
    ]
    model = trained(episodes, tmp_path / "run", 1, rotation="rotation_6d", frame="hand")
    guesses = []

    class Watching(WarmStart):
        def guess(self, request):
            assert request.previous is not None
            guesses.append(request.previous.plan.clone())
            return super().guess(request)

    policy = DiffusionPolicy(model, Watching(1, cold=2))
    rows, seen = (
        np.arange(2),
        [
            {name: np.stack([e[name][t] for e in episodes[:2]]) for name in SEEN.keys}
            for t in (0, 9)
        ],
    )
    asked = policy.observe(policy.initial_state([0, 1]), seen[0])
    planned = policy.plan(asked, rows, np.zeros(2, int))
    for state in (
        policy.observe(policy.adopt(asked, planned), seen[1]),
        policy.adopt(policy.observe(asked, seen[1]), planned),
    ):  # adopted late, it is relative to the same pose still
        policy.plan(state, rows, np.zeros(2, int))
    torch.testing.assert_close(guesses[1], guesses[0])
    units = model.normalizer.denormalize("action", guesses[0])
    now = {name: torch.as_tensor(value)[:, None] for name, value in seen[1].items()}
    back = model.actions.decode(units, now)[:, :4]
    np.testing.assert_allclose(back[..., :3], planned.actions[..., :3], atol=1e-4)
    with pytest.raises(ConfigError, match=r"sdp .*another pose of the hand.*actions=rotation_6d"):
        Streaming().adapt_to(
            Capabilities(None, Horizon(1, 24, 8), relative=True), Horizon(1, 24, 8)
        )


def test_discrete_numbers_are_shown_as_small_as_was_asked_and_come_back_whole(tmp_path):
    view = Representation(POSE, SEEN, discrete_size=0.15)
    found = {"min": np.full(7, -1.0), "max": np.full(7, 1.0), "count": np.array(3)}
    ranged = view.set_known_ranges(found)
    assert ranged["max"][6] == pytest.approx(1 / 0.15)
    assert ranged["min"][6] == pytest.approx(-1 / 0.15)
    assert ranged["max"][:6].tolist() == [1.0] * 6
    with pytest.raises(ConfigError, match="discrete_size is 0"):
        Representation(POSE, SEEN, discrete_size=0.0)


OPTIONS = [
    {},
    {"discrete_size": 0.15},
    {"rotation": "rotation_6d"},
    {"rotation": "rotation_6d", "frame": "hand"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_policy_answers_in_the_robots_own_units(tmp_path, options):
    rng = np.random.default_rng(0)
    episodes = []
    for seed in range(3):
        actions = poses(1, 30, seed=seed)[0].numpy().astype(np.float32)
        quat = Rotation.random(30, rng=np.random.default_rng(seed)).as_quat()
        episodes.append(
            {"eef_pos": rng.normal(size=(30, 3)), "eef_quat_site": quat, "action": actions}
        )
    model = trained(episodes, tmp_path / "run", 2, **options)
    expected = 10 if "rotation" in options else 7
    assert model.normalizer.shapes["action"] == (expected,)
    if "rotation" in options:
        half = model.normalizer.get_buffer("action__scale")
        assert torch.equal(half[3:9], torch.ones(6))
    policy = DiffusionPolicy.load(tmp_path / "run")
    first = {name: np.stack([episode[name][0] for episode in episodes[:2]]) for name in SEEN.keys}
    state = policy.observe(policy.initial_state([0, 1]), first)
    planned = policy.plan(state, np.arange(2), np.zeros(2, int))
    assert planned.actions.shape == (2, 4, 7)
    assert set(np.unique(planned.actions[..., 6])) <= {-1.0, 1.0}
    if "rotation" in options:
        assert np.linalg.norm(planned.actions[..., 3:6], axis=-1).max() <= np.pi + 1e-5


def test_angles_relative_to_the_measured_ones_come_back_and_the_gripper_stays(tmp_path):
    dims = [ActionDim("shoulder", "rad"), ActionDim("elbow", "rad"), ActionDim("gripper")]
    spec = ActionSpec(tuple(dims))
    seen = ObsSpec({"joints": ObsKey((3,))})
    view = Representation(spec, seen, frame="joints")
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(4, 6, 3, generator=generator)
    before = {"joints": torch.randn(4, 2, 3, generator=generator)}
    now = {"joints": torch.randn(4, 2, 3, generator=generator)}
    plan = view.encode(actions, before)
    torch.testing.assert_close(plan[..., :2], actions[..., :2] - before["joints"][:, -1:, :2])
    assert torch.equal(plan[..., 2], actions[..., 2])
    torch.testing.assert_close(view.decode(plan, before), actions)
    torch.testing.assert_close(view.decode(view.rebase(plan, before, now), now), actions)
    assert view.reads == ("joints",)
    assert view.changes
    with torch.device("meta"):  # as models of a checkpoint are built
        assert Representation(spec, seen, frame="joints").angles == [True, True, False]


def test_angles_that_cannot_be_relative_are_refused():
    angles = ActionSpec((ActionDim("shoulder", "rad"),))
    for spec, seen, expected in (
        (angles, ObsSpec({"tool": ObsKey((1,))}), "no such observation"),
        (angles, ObsSpec({"joints": ObsKey((2,))}), "no such observation"),
        (ActionSpec.plain(1), ObsSpec({"joints": ObsKey((1,))}), "needs absolute angles"),
    ):
        with pytest.raises(ConfigError, match=expected):
            Representation(spec, seen, frame="joints")
