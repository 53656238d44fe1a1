"""What a policy makes of an observation: windows, dtypes, pictures, and what it refuses."""

import numpy as np
import pytest
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.spec import ConfigError, HotstartError, ObsKey, ObsSpec

ROWS = 7


def test_the_first_observation_fills_the_window_and_later_ones_shift_it(policy, observation):
    state = policy.initial_state([0, 1])
    seen = [observation(2, tick)["state"] for tick in range(4)]
    state = policy.observe(state, {"state": seen[0]})
    assert np.array_equal(state.history["state"], np.stack((seen[0], seen[0]), 1))
    for tick in range(1, 4):
        state = policy.observe(state, {"state": seen[tick]})
        assert np.array_equal(state.history["state"], np.stack((seen[tick - 1], seen[tick]), 1))
    state = policy.observe(
        policy.reset_rows(state, np.array([1]), [7]), {"state": seen[0]}
    )  # one row begins anew
    assert np.array_equal(state.history["state"][0], np.stack((seen[3][0], seen[0][0])))
    assert np.array_equal(state.history["state"][1], np.stack((seen[0][1], seen[0][1])))


def test_an_observation_that_is_reused_by_its_owner_does_not_change_the_past(policy, observation):
    buffer = observation()["state"]
    state = policy.observe(policy.initial_state(list(range(ROWS))), {"state": buffer})
    before = state.history["state"].copy()
    buffer += 1.0
    assert np.array_equal(state.history["state"], before)


def test_wrong_observations_are_named(policy):
    state = policy.initial_state([0, 1])
    with pytest.raises(
        ConfigError, match=r"wants \['state'\]; the observation has no \['state'\], only \['pose'\]"
    ):
        policy.observe(state, {"pose": np.zeros((2, 2))})
    for shape in ((2, 3), (3, 2), (2,), (1, 2, 2)):
        with pytest.raises(ConfigError, match=r"'state' has shape .*; \(2, 2\) was expected"):
            policy.observe(state, {"state": np.zeros(shape)})
    more = policy.observe(
        state, {"state": np.zeros((2, 2)), "unused": np.zeros(5)}
    )  # what it does not use is let be
    assert list(more.history) == ["state"]


def test_an_observation_of_another_dtype_is_converted(policy):
    state = policy.initial_state([0])
    from_double = policy.observe(state, {"state": np.array([[1.5, 2.5]])})
    assert from_double.history["state"].dtype == np.float32


@pytest.fixture
def seeing(tiny_model, tiny_problem):
    """A policy that observes words and a picture too."""
    keys = {
        "words": ObsKey((2,), "uint8", "language"),
        "pixels": ObsKey((8, 9, 3), "uint8", "image"),
    }
    policy = DiffusionPolicy(tiny_model())
    policy.obs_spec = ObsSpec({**tiny_problem.make_dataset().obs_spec.keys, **keys})
    return policy


def test_whole_number_observations_are_not_cut_from_fractions(seeing):
    seen = {
        "state": np.zeros((1, 2)),
        "words": np.array([[0.5, 0.9]]),
        "pixels": np.zeros((1, 8, 9, 3), np.uint8),
    }
    with pytest.raises(ConfigError, match=r"'words' is float64.*uint8"):
        seeing.observe(seeing.initial_state([0]), seen)


def test_pictures_are_read_as_training_data_are(seeing):
    """A camera image in [0, 1] where 0 to 255 is wanted would be all black, without an error."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3), dtype=np.uint8)
    rest = {"state": np.zeros((1, 2)), "words": np.zeros((1, 2), np.uint8)}
    fractions = picture.astype(np.float32) / 255
    for form in (
        picture,
        fractions,
        picture.astype(np.int64),
        np.moveaxis(fractions, -1, 1),
        np.moveaxis(picture, -1, 1),
    ):
        state = seeing.observe(seeing.initial_state([0]), {**rest, "pixels": form})
        np.testing.assert_array_equal(state.history["pixels"][:, -1], picture)
    for form, message in (
        (fractions * 255, "best as uint8"),
        (fractions[0], "was expected"),
        (fractions[:, :7], "end in"),
    ):
        with pytest.raises(HotstartError, match=message):
            seeing.observe(seeing.initial_state([0]), {**rest, "pixels": form})
