"""Every format that is written can be written through the one door, and reads back the same."""

import numpy as np
import pytest
from hotstart import Arrays
from hotstart.datasets.formats.conversion import export
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.registry import list_written
from hotstart.datasets.opening import open_dataset
from hotstart.spec import DataError


@pytest.mark.parametrize("to", list_written())
def test_what_is_exported_opens_again_with_every_number(tmp_path, to):
    rng = np.random.default_rng(0)
    episodes = []
    for length in (5, 3):
        state, action = rng.normal(size=(2, length, 2)).astype(np.float32)
        episodes.append({"state": state, "action": action})
    data = Arrays(episodes, fps=10)
    target = tmp_path / "made"
    export(data, target, to, task="lift")
    again = open_dataset(target, ReadOptions(fps=10))
    assert not isinstance(again, Arrays)
    assert again.fps == 10
    np.testing.assert_array_equal(again.episode_ends, data.episode_ends)
    for key in ("state", "action"):
        np.testing.assert_array_equal(again.array(key), data.array(key))
    with pytest.raises(DataError, match="is there already"):
        export(data, target, to)
