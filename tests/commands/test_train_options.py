"""A training compares the options that the data was collected with to those of the task."""

import numpy as np
import pytest
from hotstart.commands.train import build
from hotstart.configs.compose import compose_config
from hotstart.datasets.store import Store
from hotstart.spec import ActionSpec, DataError, ObsKey, ObsSpec

SMALL = [
    "denoiser.channels=[8,16]",
    "denoiser.groups=4",
    "denoiser.level_width=8",
    "training.steps=1",
    "training.batch=4",
    "task.obs_keys=[state]",
]


@pytest.fixture
def earlier(tmp_path):
    """A data set of the version that called the option `turns`, and its value `matrix`."""
    store = Store.create(
        tmp_path / "earlier.zarr",
        fps=20,
        action_spec=ActionSpec.plain(2),
        obs_spec=ObsSpec({"state": ObsKey((3,))}),
        task="lift",
        options={"turns": "matrix"},
    )
    rng = np.random.default_rng(0)
    for _ in range(2):
        store.append(
            {
                "state": rng.normal(size=(40, 3)).astype(np.float32),
                "action": rng.normal(size=(40, 2)).astype(np.float32),
            }
        )
    return store


def test_data_collected_before_the_renaming_trains_by_todays_option(earlier, tmp_path):
    words = ["task=lift", "task.options.rotation=rotation_6d", *SMALL]
    trainer = build(compose_config("train", words), earlier, tmp_path / "run")
    trainer.run()
    assert trainer.step == 1


def test_the_mend_of_a_refusal_has_todays_name(earlier, tmp_path):
    config = compose_config("train", ["task=lift", *SMALL])
    with pytest.raises(DataError, match=r"train with task\.options\.rotation=rotation_6d"):
        build(config, earlier, tmp_path / "run")
