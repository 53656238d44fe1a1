import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.spec import ActionSpec, DataError, ObsKey


def test_specs_are_deduced(episode_maker):
    data = Arrays([episode_maker(0), episode_maker(1)], fps=10)
    assert data.action_spec == ActionSpec.plain(3)
    assert data.obs_spec.keys == {
        "state": ObsKey((4,)),
        "image": ObsKey((6, 5, 3), "uint8", "image"),
        "count": ObsKey(()),
    }
    assert data.array("count").dtype == np.float32
    np.testing.assert_array_equal(data.episode(1)["action"], episode_maker(1)["action"])
    np.testing.assert_array_equal(data.episode_ends, np.cumsum(data.lengths))
    np.testing.assert_array_equal(data.rows("state", 2, 5), data.array("state")[2:5])


def test_float64_arrays_are_taken_as_float32():
    data = Arrays([{"state": np.arange(6.0).reshape(3, 2), "action": np.ones((3, 1))}], fps=5)
    assert data.array("state").dtype == data.array("action").dtype == np.float32
    np.testing.assert_allclose(data.array("timestamp"), [0, 0.2, 0.4])


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([], "there are no episodes"),
        ([{"state": np.zeros((3, 1))}], "no key 'action'"),
        ([{"action": np.zeros((3, 1))}], "no observation"),
        ([{"action": np.zeros(3), "state": np.zeros((3, 1))}], r"must be \(steps, A\)"),
        (
            [{"action": np.zeros((3, 1)), "text": np.array(["a", "b", "c"])}],
            "'text' is <U1; real numbers are stored",
        ),
        (
            [{"action": np.zeros((3, 1)), "s": np.zeros((3, 1))}, {"action": np.zeros((3, 1))}],
            r"episode 1: missing keys \['s'\]",
        ),
        (
            [
                {"action": np.zeros((3, 1)), "s": np.zeros((3, 1)), "reward": np.zeros(3)},
                {"action": np.ones((3, 1)), "s": np.zeros((3, 1))},
            ],
            "episode 1 has no 'reward'",
        ),
    ],
)
def test_wrong_episodes_are_refused(episodes, message):
    with pytest.raises(DataError, match=message):
        Arrays(episodes, fps=10)
