"""What a key of an observation is: one decision for arrays, stores, converters and environments."""

import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.kinds import decide_key, explain_key, read_key
from hotstart.datasets.store import Store
from hotstart.policy.denoisers.unet import ConditionalUnet
from hotstart.policy.encoders.image import ImageEncoder
from hotstart.policy.training.api import node, train
from hotstart.policy.training.settings import TrainingSettings
from hotstart.spec import ActionSpec, ConfigError, DataError, Horizon, ObsKey, ObsSpec

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 16, 20, 3), dtype=np.uint8)
GRAY = PICTURES[..., :1]
AS_GIVEN = {
    "uint8": (PICTURES, PICTURES),
    "channels first": (np.moveaxis(PICTURES, -1, 1), PICTURES),
    "fractions": (PICTURES / 255, PICTURES),
    "float16 fractions, channels first": (
        (np.moveaxis(PICTURES, -1, 1) / 255).astype(np.float16),
        PICTURES,
    ),
    "whole floats": (PICTURES.astype(np.float32), PICTURES),
    "int64": (PICTURES.astype(np.int64), PICTURES),
    "gray": (GRAY[..., 0], GRAY),
    "gray with channels last": (GRAY, GRAY),
    "gray with channels first": (np.moveaxis(GRAY, -1, 1), GRAY),
}


def an_episode(camera):
    return {
        "action": RNG.normal(size=(len(camera), 2)),
        "state": RNG.normal(size=(len(camera), 3)),
        "camera": camera,
    }


def arrays_of(camera, **specs):
    return Arrays([an_episode(camera)], fps=10, **specs)


@pytest.mark.filterwarnings("ignore:.*is taken for a picture")
@pytest.mark.parametrize("form", AS_GIVEN)
def test_pictures_of_every_form_are_held_alike_and_train(form, tmp_path):
    given, held = AS_GIVEN[form]
    data = arrays_of(given)
    assert data.obs_spec.keys["camera"] == ObsKey(held.shape[1:], "uint8", "image")
    np.testing.assert_array_equal(data.array("camera"), held)
    store = Store.create(
        tmp_path / "data", fps=10, action_spec=ActionSpec.plain(2), obs_spec=data.obs_spec
    )
    store.append(an_episode(given))
    np.testing.assert_array_equal(store.array("camera"), held)
    small = {
        "denoiser": node(ConditionalUnet, channels=[8, 16], groups=4, level_width=8),
        "encoder": node(ImageEncoder, token_width=8, channels=8, stages=1, keypoints=4),
        "horizon": Horizon(2, 10, 4),
    }
    model = train(
        store,
        tmp_path / "run",
        TrainingSettings(steps=1, batch=2, device="cpu"),
        progress=False,
        **small,
    )
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_a_change_of_axes_or_numbers_is_said():
    with pytest.warns(
        UserWarning,
        match=r"'camera' is taken for a picture: its axes \(3, 16, 20\) are channels, height",
    ):
        arrays_of(np.moveaxis(PICTURES, -1, 1))
    assert "held as uint8 from 0 to 255" in explain_key(
        "c", (16, 20, 3), np.dtype("float64"), ObsKey((16, 20, 3), "uint8", "image")
    )
    assert (
        explain_key("c", (16, 20, 3), np.dtype("uint8"), ObsKey((16, 20, 3), "uint8", "image"))
        == ""
    )


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (
            RNG.integers(0, 256, (12, 4, 16, 20), dtype=np.uint8),
            r"steps of shape \(4, 16, 20\).*one frame a step",
        ),
        (
            RNG.integers(0, 256, (12, 16, 20, 9), dtype=np.uint8),
            r"steps of shape \(16, 20, 9\).*one frame a step",
        ),
        (
            RNG.integers(0, 256, (12, 2, 16, 20, 3), dtype=np.uint8),
            r"several pictures\? give one frame a step",
        ),
        (
            RNG.integers(0, 256, (12, 3, 20, 3), dtype=np.uint8),
            r"channels first or last\?.*obs_spec=ObsSpec",
        ),
        (RNG.random((12, 20, 20)), r"a gray picture or a state\?.*a state of 400 numbers"),
        (np.ones((12, 16, 20), bool), r"a gray picture or a state\?"),
        (PICTURES / 127.5 - 1, r"holds numbers from -1\.0 to 1\.0 in float64; .*\(x \+ 1\) / 2"),
        (PICTURES * 0.3, "images are whole numbers from 0 to 255"),
        (
            PICTURES.astype(np.int64) * 2,
            "from 0 to 510 in int64; images are whole numbers from 0 to 255",
        ),
        ((PICTURES > 99).astype(np.int64), "holds only 0 and 1"),
        ((PICTURES > 99).astype(np.float32), "holds only 0 and 1"),
        (np.where(PICTURES > 250, np.nan, 0.5), r"camera\[.*\] is NaN in episode 0"),
    ],
)
def test_what_could_be_two_things_is_refused(camera, message):
    with pytest.raises(DataError, match=message):
        arrays_of(camera)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((9, 2), "float32"),
        ((9, 2), "uint8"),
        ((4, 4), "float64"),
        ((12, 12), "float64"),
        ((6, 3, 3), "float32"),
        ((500,), "uint8"),
        ((), "bool"),
    ],
)
def test_small_arrays_are_states(shape, dtype):
    assert decide_key("state", shape, np.dtype(dtype)) == ObsKey(shape)


def test_a_specification_of_the_users_wins_and_is_checked():
    frames = RNG.integers(0, 256, (12, 4, 16, 20), dtype=np.uint8)
    kept = arrays_of(
        frames, obs_spec=ObsSpec({"state": ObsKey((3,)), "camera": ObsKey((4, 16, 20))})
    )
    np.testing.assert_array_equal(kept.array("camera"), frames.astype(np.float32))
    rgba = ObsSpec({"state": ObsKey((3,)), "camera": ObsKey((16, 20, 4), "uint8", "image")})
    with pytest.warns(UserWarning, match="channels, height, width"):
        np.testing.assert_array_equal(
            arrays_of(frames, obs_spec=rgba).array("camera"), np.moveaxis(frames, 1, -1)
        )
    for key, message in (
        (
            ObsKey((20, 16, 3), "uint8", "image"),
            r"it must end in \(height, width, channels\) = \(20, 16, 3\)",
        ),
        (
            ObsKey((3, 16, 20), "uint8", "image"),
            r"20 channels.*with channels first in the arrays, write \(16, 20, 3\)",
        ),
        (ObsKey((16, 20, 3), "float32", "image"), "images are uint8"),
        (ObsKey((16, 20, 3), "uint8", "picture"), "the kinds are state, image, language"),  # type: ignore[arg-type]
    ):
        with pytest.raises(DataError, match=message):
            arrays_of(PICTURES, obs_spec=ObsSpec({"state": ObsKey((3,)), "camera": key}))


@pytest.mark.parametrize(
    ("array", "mend"),
    [
        (np.ones((5, 2)) * 1j, "real and imaginary part"),
        (np.zeros((5, 2), "datetime64[ms]"), "seconds since the episode's start"),
        (np.zeros((5, 2), "timedelta64[ms]"), "seconds as float64"),
        (np.array([[None]] * 5), "one shape for all steps"),
        (np.array([["a"]] * 5), "words of a task"),
        (np.zeros(5, [("x", "f4"), ("y", "f4")]), "give numbers"),
    ],
)
def test_arrays_that_hold_no_real_numbers_are_refused_by_name(array, mend):
    sound = {"action": np.ones((5, 1)), "state": np.ones((5, 2))}
    for key in ("action", "state"):
        with pytest.raises(DataError, match=f"'{key}' is .*; real numbers are stored: .*{mend}"):
            Arrays([{**sound, key: array}], fps=10, action_spec=ActionSpec.plain(1))


def test_the_scale_of_a_single_frame_can_be_told():
    key = ObsKey((16, 20, 3), "uint8", "image")
    np.testing.assert_array_equal(
        read_key("c", np.ones((16, 20, 3)), key, scale=255), np.full((16, 20, 3), 255)
    )
    with pytest.raises(DataError, match="holds only 0 and 1"):
        read_key("c", np.ones((16, 20, 3)), key)


def test_the_encoder_refuses_channels_that_it_does_not_read():
    spec = ObsSpec({"camera": ObsKey((16, 20, 4), "uint8", "image")})
    with pytest.raises(ConfigError, match="'camera' has 4 channels; this encoder reads 1"):
        ImageEncoder(spec, 2)
