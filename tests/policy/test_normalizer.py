"""Normalisation: the range of the data becomes [-1, 1] and back; there is no silent identity."""

import numpy as np
import pytest
import torch
from hotstart.datasets.statistics import statistics
from hotstart.policy.normalizer import ACTION, Normalizer, collect_shapes
from hotstart.spec import ActionSpec, CheckpointError, ConfigError, ObsKey, ObsPart, ObsSpec

OBS_SPEC = ObsSpec(
    {"pose": ObsKey((3,)), "grid": ObsKey((2, 2)), "camera": ObsKey((4, 4, 3), "uint8", "image")}
)
ACTION_SPEC = ActionSpec.plain(2)
SHAPES = {"pose": (3,), "grid": (2, 2), ACTION: (2,)}


def data(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    scale = np.array([1e-3, 1.0, 500.0])
    return {
        "pose": (rng.normal(size=(200, 3)) * scale + np.array([0.0, -7.0, 3000.0])).astype(
            np.float32
        ),
        "grid": rng.normal(size=(200, 2, 2)).astype(np.float32),
        ACTION: rng.normal(size=(200, 2)).astype(np.float32),
    }


def fitted(arrays=None) -> Normalizer:
    arrays = arrays or data()
    return Normalizer.fit({key: statistics(value) for key, value in arrays.items()}, SHAPES)


def test_images_need_no_statistics_and_everything_else_does():
    assert collect_shapes(OBS_SPEC, ACTION_SPEC) == SHAPES


@pytest.mark.parametrize("key", list(SHAPES))
def test_the_data_fill_the_range_and_come_back(key):
    values = torch.as_tensor(data()[key])
    normalised = fitted().normalize(key, values)
    torch.testing.assert_close(normalised.amin(0), torch.full(SHAPES[key], -1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.amax(0), torch.full(SHAPES[key], 1.0), atol=1e-4, rtol=0)
    span = values.amax(0) - values.amin(0)
    assert (
        (fitted().denormalize(key, normalised) - values).abs() <= 1e-5 * span + 1e-6 * values.abs()
    ).all()
    windows = values.reshape(20, 10, *SHAPES[key])  # any leading axes
    assert torch.equal(fitted().normalize(key, windows).flatten(0, 1), normalised)


@pytest.mark.parametrize("value", [0.0, 5.0, -4000.0])
def test_a_constant_number_is_centred_and_not_blown_up(value):
    arrays = data()
    arrays["pose"][:, 1] = value
    normalizer = fitted(arrays)
    normalizer.check()
    normalised = normalizer.normalize("pose", torch.as_tensor(arrays["pose"]))
    assert (normalised[:, 1] == 0).all()
    moved = normalizer.normalize("pose", torch.tensor([0.0, value + 0.5, 0.0]))
    assert float(moved[1]) == pytest.approx(
        0.5, abs=1e-3
    )  # a change at run time counts in its own units
    assert (normalizer.denormalize("pose", normalised)[:, 1] == value).all()


def test_rounding_noise_on_a_large_number_is_constant_too():
    arrays = data()
    arrays["pose"][:, 2] = 4000 + np.random.default_rng(1).uniform(-1, 1, 200) * 1e-3
    assert (
        fitted(arrays).normalize("pose", torch.as_tensor(arrays["pose"]))[:, 2].abs().max() < 0.01
    )


def test_missing_statistics_are_an_error_and_name_the_key():
    found = {key: statistics(value) for key, value in data().items() if key != "grid"}
    with pytest.raises(ConfigError, match=r"no statistics for 'grid'.*\['action', 'pose'\]"):
        Normalizer.fit(found, SHAPES)
    with pytest.raises(ConfigError, match="no statistics for 'camera'"):
        fitted().normalize("camera", torch.zeros(3))
    with pytest.raises(CheckpointError, match="statistics of 'pose' are missing"):
        Normalizer(SHAPES).check()


def test_statistics_of_another_shape_are_an_error():
    found = {key: statistics(value) for key, value in data().items()}
    found["pose"] = statistics(np.zeros((5, 4)))
    with pytest.raises(ConfigError, match=r"'pose' have shape \(4,\).*says \(3,\)"):
        Normalizer.fit(found, SHAPES)


@pytest.mark.parametrize(
    ("name", "value"), [("scale", torch.nan), ("scale", -1.0), ("centre", torch.inf)]
)
def test_impossible_statistics_are_found(name, value):
    normalizer = fitted()
    normalizer.get_buffer(f"grid__{name}")[1, 0] = value
    with pytest.raises(CheckpointError, match="statistics of 'grid'"):
        normalizer.check()


def test_statistics_travel_in_the_state_dict_under_any_name():
    """LeRobot's keys have dots in them."""
    shapes = {"observation.state": (3,), "observation.environment_state": (3,), ACTION: (2,)}
    found = {
        "observation.state": data(0)["pose"],
        "observation.environment_state": data(1)["pose"],
        ACTION: data()[ACTION],
    }
    normalizer = Normalizer.fit({key: statistics(value) for key, value in found.items()}, shapes)
    other = Normalizer(shapes)
    other.load_state_dict(normalizer.state_dict())
    other.check()
    for key, array in found.items():
        values = torch.as_tensor(array)
        assert torch.equal(other.normalize(key, values), normalizer.normalize(key, values))
        assert float(other.normalize(key, values).abs().max()) == pytest.approx(1, abs=1e-4)


def test_disturbed_states_are_off_by_the_share_asked_for_and_images_by_nothing():
    normalizer = Normalizer({"state": (2,)})
    normalizer.set_range("state", np.array([-1.0, 100.0]), np.array([1.0, 500.0]))
    clean = {"state": torch.zeros(20_000, 2), "image": torch.zeros(2, 3, dtype=torch.uint8)}
    noisy = normalizer.augment_with_noise(clean, 0.05, torch.Generator().manual_seed(0))
    torch.testing.assert_close(noisy["state"].std(0), torch.tensor([0.05, 10.0]), rtol=0.03, atol=0)
    assert noisy["image"] is clean["image"]
    again = normalizer.augment_with_noise(clean, 0.05, torch.Generator().manual_seed(0))
    assert torch.equal(again["state"], noisy["state"])


def test_a_number_that_hardly_moves_does_not_shout_where_its_precision_is_known():
    values = np.stack([np.linspace(-1, 1, 50), np.linspace(0.5, 0.5002, 50), np.ones(50)], 1)
    parts = (ObsPart("joints", 3, precision=0.002),)
    known = ObsSpec({"joints": ObsKey((3,), parts=parts)})
    unknown = ObsSpec({"joints": ObsKey((3,))})
    found = {"joints": statistics(values)}
    shapes = {"joints": (3,)}
    moved = torch.tensor([0.0, 0.51, 1.2])  # by a hundredth; the last one was constant
    calm = Normalizer.fit(found, shapes, known).normalize("joints", moved)
    loud = Normalizer.fit(found, shapes, unknown).normalize("joints", moved)
    assert loud[1] > 90
    assert calm[1] == pytest.approx(0.01 / (20 * 0.002), rel=0.02)
    assert calm[0] == loud[0]
    assert calm[2] == loud[2]
    again = ObsSpec.from_json(known.to_json())
    assert again.keys["joints"].parts == parts
    np.testing.assert_array_equal(again.keys["joints"].precisions(), np.full(3, 0.002))
