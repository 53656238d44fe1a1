"""Every check finds its fault in a small clean set; the rates are those of a benchmark."""

import numpy as np
import pytest
from hotstart.benchmarks._planted_kinds import FAULTS
from hotstart.benchmarks._planted_sets import make_arm
from hotstart.benchmarks.planted_faults import Options, run, try_fault
from hotstart.datasets.checks.finding import Finding
from hotstart.datasets.checks.verify import examine, find_faults, verify
from hotstart.spec import DataError, ObsSpec

SIZES = {"leakage": 0, "near copy": 1e-4, "actions in degrees": 10, "teleport": 0.5}


@pytest.fixture(scope="module")
def clean():
    return make_arm(7, 10)


@pytest.fixture(scope="module")
def blind(clean):
    """The same without cameras, which take most of the time."""
    data = clean.copy()
    data.obs_spec = ObsSpec({"state": data.obs_spec.keys["state"]})
    for episode in data.episodes:
        del episode["front"], episode["wrist"]
    return data


def test_a_clean_set_has_no_findings(clean):
    assert verify(clean, task_hz=20) == []


@pytest.mark.parametrize("kind", list(FAULTS))
def test_a_planted_fault_is_found(clean, blind, kind):
    fault = FAULTS[kind]
    if not kind.startswith(("camera", "frames")):
        clean = blind
    size = SIZES.get(kind, fault.sizes[1])
    assert try_fault(clean, fault, size, np.random.default_rng(1), [])


def codes(data, **options):
    return {finding.code: finding for finding in examine(data, **options).findings}


def test_the_rate_of_the_task_is_compared(blind):
    assert codes(blind, task_hz=10)["rate-task"].numbers == {"fps": 20.0, "task_hz": 10.0}


def test_an_angle_that_wraps_is_no_jump(blind):
    data = blind.copy()
    for episode in data.episodes:
        turned = np.linspace(0, 12, len(episode["state"]))
        episode["state"][:, 0] = (turned + np.pi) % (2 * np.pi) - np.pi
    found = codes(data)
    assert "angle-wraps" in found
    assert "jump" not in found


def test_the_lag_of_a_camera_is_given_in_steps_with_its_sign(clean):
    for late in (3, -3):
        data = clean.copy()
        for episode in data.episodes:
            places = np.clip(np.arange(len(episode["front"])) - late, 0, None)
            places = np.minimum(places, len(places) - 1)
            episode["front"] = episode["front"][places]
        found = codes(data)["out-of-step"]
        assert (found.key, found.numbers["lag_steps"]) == ("front", late)
        assert found.repair == f"shift the camera (shift=front:{late})"


def test_the_units_of_actions_are_those_of_the_states_they_follow(blind):
    data = blind.copy()
    for episode in data.episodes:
        episode["action"][:, :6] *= 180 / np.pi
    assert codes(data)["action-unit"].numbers["factor"] == pytest.approx(57.3, rel=0.01)


def test_a_format_tells_of_its_own_files(blind):
    data = blind.copy()
    wrong = Finding("frame-count", "error", "front.mp4 has 99 frames, the table 100 rows", "front")
    data.check_files = lambda: [wrong]
    assert verify(data) == [wrong]


def test_the_quick_part_reads_a_sample_and_says_so(clean):
    data = make_arm(7, 2)
    for episode in data.episodes:
        episode.update({key: values[:12] for key, values in episode.items()})
    data.episodes *= 300
    data._joined.clear()
    report = find_faults(data)
    assert report.sampled == (
        "the numbers of 500 of 600 episodes and at most 64 pictures of 8 of 600 episodes"
    )
    assert report.seconds < 10
    data.episodes[0] = {key: values.copy() for key, values in data.episodes[0].items()}
    data.episodes[0]["state"][3] = np.nan
    assert 0 in np.sort(np.random.default_rng(0).choice(600, 500, replace=False))
    data._joined.clear()
    with pytest.raises(DataError, match=r"cannot be trained on: state\[3, 0\] is NaN"):
        find_faults(data)


def test_the_table_names_kinds_and_false_alarms(tmp_path, capsys):
    run(Options(sets=("hand",), kinds=("NaN",), draws=1, seed=5, out=str(tmp_path / "a.json")))
    shown = capsys.readouterr().out
    assert "1 numbers: 1/1 [0.21, 1.00]" in shown
    assert "clean sets with a finding, of 1" in shown
