import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.checks.motion import find_surprises
from hotstart.datasets.checks.verify import verify
from hotstart.datasets.store import Store
from hotstart.spec import TEXT_KEY, ActionSpec, ObsKey, ObsSpec, text_to_bytes


def walk(seed, steps=40):
    """A smooth random motion without faults."""
    rng = np.random.default_rng(seed)
    state = np.cumsum(rng.normal(size=(steps, 2)), axis=0)
    return {
        "state": state,
        "action": state + rng.normal(size=(steps, 2)),
        "image": rng.integers(0, 256, (steps, 4, 4, 3), dtype=np.uint8),
    }


def findings(*episodes):
    return verify(Arrays(episodes, fps=10))


def changed(seed, **changes):
    return {**walk(seed), **changes}


def test_sound_data_has_no_findings():
    assert findings(walk(0), walk(1)) == []


def expect(found, *parts):
    assert len(found) == 1, found
    assert all(part in str(found[0]) for part in parts), found


def test_episodes_that_are_short_still_or_double():
    expect(findings(walk(0), walk(1), walk(0)), "warning: episode 2 is the same as episode 0")
    expect(findings(walk(0), walk(1, 1)), "warning: episode 1 has 1 step: training leaves it out")
    expect(findings(walk(0, 1), walk(1, 1)), "error: no episode has 2 steps")
    frozen = walk(1)
    for key in ("state", "action"):
        frozen[key][10:] = frozen[key][10]
    expect(findings(walk(0), frozen), "warning: in episode 1 nothing changes in 74% of the steps")


def test_dimensions_and_outliers():
    flat = [walk(0), walk(1)]
    for episode in flat:
        episode["action"][:, 1] = 3
    expect(
        findings(*flat),
        "never changes in dimensions [1]: action_1 is always 3; a policy will command exactly this",
    )
    far = walk(0)
    far["state"][17, 0] = 1e6
    expect(
        findings(far, walk(1)),
        "warning: state[:, 0] is 1e+06 at step 17",
        "far outside in episodes 0",
    )


def test_what_the_normaliser_takes_for_constant_is_said():
    nearly = [walk(0), walk(1)]
    for episode in nearly:
        episode["action"][:, 0] = (
            0.8 + 1e-7 * episode["action"][:, 0] / 99
        )  # what rounding to float32 leaves
    expect(findings(*nearly), "action never changes in dimensions [0]: action_0 is always 0.8")
    small = [walk(0), walk(1)]
    for episode in small:
        episode["action"][:, 0] *= 1e-6  # small commands are commands
    assert findings(*small) == []


def test_states_of_a_tiny_range_are_named():
    tiny = [walk(0), walk(1)]
    for episode in tiny:
        points = np.random.default_rng(3).normal(size=(len(episode["state"]), 4, 2))
        points[:, 3, 1] = 0.1 + 3e-4 * np.linspace(0, 1, len(points))  # 0.3 mrad
        episode["points"] = points
    expect(
        findings(*tiny),
        "warning: points[:, 3, 1] stays between 0.1 and 0.1003",
        "off by 0.0015 looks like 10 normalised units",
    )


def test_timestamps():
    stamps = np.arange(40) / 10
    back = stamps.copy()
    back[7] = stamps[6]
    expect(
        findings(changed(0, timestamp=stamps), changed(1, timestamp=back)),
        "error: timestamps of episode 1",
        "at its step 7",
    )
    slow = findings(changed(0, timestamp=stamps), changed(1, timestamp=stamps * 1.25))
    expect(slow, "warning: 1 episodes do not run at 10 fps; the worst, episode 1, at 8.00")
    assert findings(changed(0, timestamp=1e9 + stamps), changed(1, timestamp=stamps * 1.01)) == []


def test_cameras():
    still = walk(1)
    still["image"][5:20] = still["image"][5]
    expect(findings(walk(0), still), "warning: image repeats its frames", "in episodes 1; ")
    black = walk(0)
    black["image"][3] = 0
    expect(
        findings(black, walk(1)), "warning: image holds frames of one colour only, in episodes 0"
    )
    dark = [changed(seed, image=walk(seed)["image"] // 128) for seed in (0, 1)]
    expect(findings(*dark), "warning: image holds only 0 and 1")


@pytest.fixture
def store(tmp_path):
    spec = ObsSpec({"state": ObsKey((2,)), "image": ObsKey((4, 4, 3), "uint8", "image")})
    store = Store.create(tmp_path / "data", fps=10, action_spec=ActionSpec.plain(2), obs_spec=spec)
    for seed in range(2):
        store.append(walk(seed))
    return store


def test_numbers_that_went_bad_on_disk_are_errors(store):
    assert verify(store) == []
    store._group["data/action"][50, 1] = np.inf
    expect(verify(Store.open(store.path)), "error: action[50, 1] is infinite")


def test_damaged_images_are_errors_and_come_first(store):
    store._group["data/state"][:, 1] = 2
    chunk = store.path / "data/image/c/3/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    found = verify(Store.open(store.path))
    assert [finding.severity for finding in found] == ["error", "warning"]
    assert "data/image is damaged" in found[0].message


def test_an_empty_data_set_is_an_error(tmp_path):
    spec = ObsSpec({"state": ObsKey((2,))})
    store = Store.create(tmp_path / "data", fps=10, action_spec=ActionSpec.plain(2), obs_spec=spec)
    expect(verify(store), "error: there are no episodes")


def test_the_words_of_a_task_need_not_change():
    words = text_to_bytes("open the door")[None].repeat(40, 0)
    spec = ObsSpec({"state": ObsKey((2,), "float64"), "instruction": TEXT_KEY})
    episodes = []
    for seed in (0, 1):
        episodes.append(
            {**{key: walk(seed)[key] for key in ("state", "action")}, "instruction": words}
        )
    assert verify(Arrays(episodes, fps=10, obs_spec=spec)) == []


def test_a_motion_that_ends_within_a_step_is_no_jump():
    ramp = np.array([[1.0], [1.1], [0.9], [1.0]])
    stop = np.concatenate([[[0.0]], ramp, [[0.0]]])
    assert find_surprises(stop)[[0, -1]].max() == 0
    jump = np.concatenate([[[-0.5]], ramp, [[3.0]]])
    np.testing.assert_allclose(find_surprises(jump)[[0, -1], 0], [0.5, 2])
    assert find_surprises(np.ones((1, 2))).tolist() == [[0, 0]]
