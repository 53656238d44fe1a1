import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.statistics import dataset_statistics, statistics
from hotstart.spec import DataError


def test_against_a_ramp_whose_statistics_are_known():
    ramp = np.arange(101, dtype=np.float32)
    found = statistics(np.stack([ramp, 2 * ramp - 7], axis=1))
    np.testing.assert_allclose(found["min"], [0, -7])
    np.testing.assert_allclose(found["max"], [100, 193])
    np.testing.assert_allclose(found["mean"], [50, 93])
    np.testing.assert_allclose(
        found["std"], np.sqrt((101**2 - 1) / 12) * np.array([1, 2])
    )  # of 0..n-1
    np.testing.assert_allclose(found["q01"], [1, -5])
    np.testing.assert_allclose(found["q99"], [99, 191])
    assert found["count"] == 101 and all(
        found[key].dtype == np.float64 for key in ("min", "mean", "q99")
    )


def test_float32_far_from_zero_keeps_its_spread():
    values = (1e4 + np.random.default_rng(0).normal(size=(20_000, 1))).astype(np.float32)
    np.testing.assert_allclose(statistics(values)["std"], 1, atol=0.02)


def test_shapes_and_refusals():
    assert statistics(np.zeros((7, 2, 3)))["std"].shape == (2, 3)
    with pytest.raises(DataError, match=r"\[2, 1\] is NaN"):
        statistics(np.array([[0, 0], [0, 0], [0, np.nan]]))
    with pytest.raises(DataError, match="at least one row"):
        statistics(np.zeros((0, 2)))


def test_data_sets_leave_images_out_and_count_each_step_once(episodes):
    data = Arrays(episodes, fps=10)
    found = dataset_statistics(data)
    assert set(found) == {"state", "count", "action"}
    assert found["action"]["count"] == len(data)
    some = dataset_statistics(data, np.array([[0, 0, 1], [1, 2, 2]]))
    np.testing.assert_allclose(
        some["state"]["mean"], data.array("state")[:3].mean(0, dtype=np.float64)
    )
    assert some["state"]["count"] == 3


def test_numbers_with_an_imaginary_half_are_refused():
    with pytest.raises(DataError, match="complex128; real numbers are stored"):
        statistics(np.ones((3, 2)) * 1j)
