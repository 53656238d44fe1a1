"""Numbers that never change in the data are commanded as exactly what they were, whatever the
sampler and the form.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.policy import checkpoint
from hotstart.policy.actions import Representation
from hotstart.policy.denoisers.unet import ConditionalUnet
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.encoders.state import StateEncoder
from hotstart.policy.normalizer import Normalizer
from hotstart.policy.samplers.bidirectional import BidirectionalDecoding
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.real_time_chunking import RealTimeChunking
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.policy.training.api import node, train
from hotstart.policy.training.settings import TrainingSettings
from hotstart.spec import ActionDim, ActionSpec, Horizon, ObsKey, ObsSpec
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation

SPEC = ActionSpec(
    (
        *(ActionDim(name, "m") for name in "xyz"),
        *(ActionDim(f"r{name}", "rad", "rotation") for name in "xyz"),
        ActionDim("gripper", "", "discrete"),
        ActionDim("valve", "", "discrete"),
        ActionDim("torque", "N m", "continuous", False),
    )
)
SEEN = ObsSpec({"eef_pos": ObsKey((3,)), "eef_quat_site": ObsKey((4,))})
CONSTANTS = {2: 0.02, 3: 3.1, 4: 0.0, 5: -0.3, 6: -1.0, 8: 0.0}
"""Number of the action -> its one value; x, y and the valve change."""
FORMS: list[dict[str, Any]] = [
    {},
    {"discrete_size": 0.15},
    {"rotation": "rotation_6d"},
    {"rotation": "rotation_6d", "frame": "hand"},
]
SAMPLERS = {
    "fresh": Fresh(2),
    "fresh without clipping": Fresh(2, clip=None),
    "rti": WarmStart(2, cold=2),
    "rti flat, without noise": WarmStart(1, cold=2, renoise=False),
    "rti with fallback": WarmStart(1, cold=2, fallback=0.01),
    "sdp": Streaming(2),
    "rtc full": RealTimeChunking(2, mode="full"),
    "rtc identity": RealTimeChunking(2, mode="identity"),
    "rtc trained": RealTimeChunking(2, mode="trained"),
    "bid": BidirectionalDecoding(samples=3, kept=2, steps=2, weak_steps=1),
}


def record(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    action = rng.normal(size=(30, SPEC.width)).astype(np.float32)
    action[:, 7] = np.sign(action[:, 7])
    for number, value in CONSTANTS.items():
        action[:, number] = value
    quat = Rotation.random(30, rng=np.random.default_rng(seed)).as_quat()
    return {"eef_pos": rng.normal(size=(30, 3)), "eef_quat_site": quat, "action": action}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Form of the actions -> a run of one training step: its network has learned nothing."""
    runs: dict[str, Path] = {}

    def train_once(form: dict[str, Any]) -> Path:
        if str(form) not in runs:
            data = Arrays(
                [record(seed) for seed in range(3)], 10.0, action_spec=SPEC, obs_spec=SEEN
            )
            folder = tmp_path_factory.mktemp("run")
            parts = {
                "denoiser": node(ConditionalUnet, channels=[16, 32], groups=4, level_width=16),
                "encoder": node(StateEncoder),
                "actions": node(Representation, **form),
                "horizon": Horizon(1, 10, 4),
            }
            train(
                data,
                folder,
                TrainingSettings(steps=1, batch=8, warmup=0, threads=1),
                progress=False,
                **parts,
            )
            runs[str(form)] = folder
        return runs[str(form)]

    return train_once


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("name", SAMPLERS)
def test_constants_are_commanded_exactly(name: str, form: dict[str, Any], run_of: Any) -> None:
    if name == "sdp" and "frame" in form:
        pytest.skip("streaming refuses actions relative to the hand")
    policy = DiffusionPolicy.load(run_of(form), SAMPLERS[name])
    rng = np.random.default_rng(5)
    state = policy.initial_state([3, 4])
    for _ in range(3):
        quat = Rotation.random(2, rng=np.random.default_rng(1)).as_quat()
        state = policy.observe(state, {"eef_pos": rng.normal(size=(2, 3)), "eef_quat_site": quat})
        planned = policy.plan(state, np.arange(2), np.full(2, 3), np.full(2, 1))
        for number, value in CONSTANTS.items():
            assert (planned.actions[..., number] == np.float32(value)).all(), SPEC.dims[number].name
        assert np.unique(planned.actions[..., 0]).size > 4  # what changes in the data does change
        assert set(np.unique(planned.actions[..., 7])) <= {-1.0, 1.0}
        state = policy.adopt(state, planned)


def test_a_small_true_motion_is_no_constant() -> None:
    normalizer = Normalizer({"action": (3,)})
    low = np.array([-2e-6, 0.5, 4000.0])
    normalizer.set_range("action", low, low + np.array([4e-6, 2e-5, 1e-3]))
    commanded = normalizer.denormalize("action", torch.ones(3)).double().numpy()
    np.testing.assert_allclose(commanded[:2], [2e-6, 0.50002], rtol=1e-6)
    assert commanded[2] == pytest.approx(
        4000.0005
    )  # what rounding to float32 leaves of 4000 is no motion


def test_noise_on_observations_leaves_constants_alone() -> None:
    normalizer = Normalizer({"state": (2,)})
    normalizer.set_range("state", np.array([-1.0, 0.02]), np.array([1.0, 0.02]))
    seen = {"state": torch.tensor([[0.0, 0.02]]).repeat(100, 1)}
    noisy = normalizer.augment_with_noise(seen, 0.1, torch.Generator().manual_seed(0))["state"]
    assert (noisy[:, 1] == 0.02).all()
    assert noisy[:, 0].std() > 0.05


def test_a_checkpoint_without_the_robots_own_ranges_still_loads(
    run_of: Any, tmp_path: Path
) -> None:
    trained, meta = checkpoint.load(run_of({"rotation": "rotation_6d"}))
    checkpoint.save(tmp_path / "older", trained, {})
    older = {
        name: tensor for name, tensor in trained.state_dict().items() if "command__" not in name
    }
    save_file(older, tmp_path / "older" / checkpoint.MODEL)
    checkpoint.write_meta(
        tmp_path / "older",
        {name: value for name, value in meta.items() if name != checkpoint.HASHES},
    )
    model, _ = checkpoint.load(tmp_path / "older")
    assert model.normalizer.get_buffer("command__scale").tolist() == [1.0] * SPEC.width
