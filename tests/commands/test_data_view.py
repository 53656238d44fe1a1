"""The page of a data set: self-contained, of bounded size, and text of the data stays text."""

import numpy as np
import pytest
from hotstart.cli import run_verb
from hotstart.commands.data_plots import POINTS, thin_out
from hotstart.commands.data_view import choose_shown
from hotstart.datasets.store import Store
from hotstart.spec import ActionSpec, ConfigError, ObsKey, ObsSpec

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def store(tmp_path):
    keys = {HOSTILE.replace("/", ""): ObsKey((2,)), "top": ObsKey((8, 8, 3), "uint8", "image")}
    made = Store.create(
        tmp_path / "data",
        fps=10,
        task=HOSTILE,
        action_spec=ActionSpec.plain(2),
        obs_spec=ObsSpec(keys),
    )
    rng = np.random.default_rng(0)
    for number, count in enumerate((5, 9, 3, 6)):
        made.append(
            {
                HOSTILE.replace("/", ""): rng.normal(size=(count, 2)),
                "top": rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
                "action": rng.normal(size=(count, 2)),
                "success": np.arange(count) == count - 1 + (number == 2),
            }
        )
    made.release()
    return made


def test_the_page_holds_films_strips_and_curves_and_no_foreign_markup(store, tmp_path):
    page = tmp_path / "view.html"
    words = ["view", str(store.path), f"out={page}", "episodes=1"]
    assert run_verb("data", words) == 0
    text = page.read_text()
    for part in ("data:video/mp4", "data:image/jpeg", "<svg", "3 of 4 (75%)", "episode 1 (chosen)"):
        assert part in text
    assert "<script" not in text and "&lt;script&gt;" in text
    assert 'src="http' not in text and 'href="http' not in text
    with pytest.raises(ConfigError, match="not overwritten unasked"):
        run_verb("data", words)


def test_a_few_unlike_episodes_are_shown(store):
    wanted = {0: "first", 1: "longest", 2: "shortest, without success", 3: "last"}
    assert choose_shown(store, "") == wanted
    assert list(choose_shown(store, "1-2")) == [1, 2]


def test_long_lines_keep_their_extremes():
    values = np.zeros(10_000)
    values[1234] = 5
    times, thin = thin_out(np.arange(10_000.0), values)
    assert len(thin) <= 2 * POINTS and times[thin.argmax()] == 1234


def test_a_rerun_recording_holds_every_step(store, tmp_path):
    rerun = pytest.importorskip("rerun")
    target = tmp_path / "some.rrd"
    words = ["view", str(store.path), f"out={tmp_path / 'a.html'}", "video=false", "episodes=1"]
    assert run_verb("data", [*words, f"rerun={target}"]) == 0
    found = rerun.dataframe.load_recording(target)
    table = found.view(index="step", contents="episode_1/**").select().read_all()
    assert table.num_rows == 9
