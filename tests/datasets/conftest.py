"""Small episodes, and the recorded Push-T data where it is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from hotstart.spec import ActionDim, ActionSpec, ObsKey, ObsSpec

ACTION_SPEC = ActionSpec(
    (ActionDim("x", "m"), ActionDim("y", "m"), ActionDim("grip", "", "discrete", False))
)
OBS_SPEC = ObsSpec(
    {
        "state": ObsKey((4,)),
        "image": ObsKey((6, 5, 3), "uint8", "image"),
        "count": ObsKey((), "int64"),
    }
)


def make_episode(number: int, steps: int | None = None) -> dict[str, np.ndarray]:
    """Episode `number`: always the same numbers, 3 to 22 steps, so more than one chunk of
    images.
    """
    rng = np.random.default_rng(number)
    steps = steps or int(rng.integers(3, 23))
    return {
        "state": rng.normal(size=(steps, 4)).astype(np.float32),
        "image": rng.integers(0, 256, (steps, 6, 5, 3), dtype=np.uint8),
        "count": np.arange(steps) * number,
        "action": rng.normal(size=(steps, 3)).astype(np.float32),
    }


@pytest.fixture
def pusht_data() -> Path:
    """The folder with the published Push-T demonstrations."""
    shared = Path(
        os.environ.get("HOTSTART_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
    )
    if not (shared / "pusht").is_dir():
        pytest.skip(
            f"the Push-T demonstrations are not at {shared}/pusht (set HOTSTART_SHARED_DATA)"
        )
    return shared / "pusht"


@pytest.fixture
def episodes():
    return [make_episode(number) for number in range(4)]


@pytest.fixture
def specs():
    return {"action_spec": ACTION_SPEC, "obs_spec": OBS_SPEC}


@pytest.fixture
def episode_maker():
    return make_episode
