import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotstart.cli import main, run_verb
from hotstart.datasets.store import Store
from hotstart.spec import ConfigError, DataError


@pytest.fixture
def npz(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "a.npz",
        action=rng.normal(size=(9, 2)),
        obs=rng.normal(size=(9, 3)),
        episode_ends=np.array([4, 9]),
    )
    return tmp_path / "a.npz"


@pytest.fixture
def pusht():
    shared = Path(
        os.environ.get("HOTSTART_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
    )
    if not (shared / "pusht").is_dir():
        pytest.skip(
            f"the Push-T demonstrations are not at {shared}/pusht (set HOTSTART_SHARED_DATA)"
        )
    return shared / "pusht"


def test_convert_then_info_then_verify(npz, tmp_path, capsys):
    target = tmp_path / "data"
    assert run_verb("data", ["convert", str(npz), str(target), "fps=20", "task=lift the cube"]) == 0
    assert run_verb("data", ["info", str(target)]) == 0
    shown = capsys.readouterr().out
    assert (
        "2 episodes of 4 to 5 steps, 9 steps, 0.00 h at 20 fps" in shown
        and "lift the cube" in shown
    )
    row = next(line.split() for line in shown.splitlines() if line.strip().startswith("action"))
    values = Store.open(target).array("action")
    assert row == ["action", "2", "float32", "action", f"{values.min():g}", f"{values.max():g}"]
    assert run_verb("data", ["verify", str(target)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out


def test_a_stopped_conversion_says_that_it_goes_on(npz, tmp_path, capsys, monkeypatch):
    words = ["data", "convert", str(npz), str(tmp_path / "data"), "fps=20"]
    whole = Store.create
    monkeypatch.setattr(
        Store, "create", lambda *args, **options: signal.raise_signal(signal.SIGTERM)
    )
    assert main(words) == 143
    said = (
        f"hotstart data: stopped; {tmp_path / 'data'} appears when it is whole; "
        "the same command goes on behind the last finished episode"
    )
    assert said in capsys.readouterr().err
    monkeypatch.setattr(Store, "create", whole)
    assert main(words) == 0


def test_verify_returns_1_for_errors(npz, tmp_path, capsys):
    run_verb(
        "data",
        ["convert", str(npz), str(tmp_path / "data"), "fps=20", "keys=action:action,state:obs"],
    )
    state: Any = Store.open(tmp_path / "data")._group["data/state"]
    state[2, 1] = np.nan
    assert run_verb("data", ["verify", f"path={tmp_path / 'data'}"]) == 1
    assert "error: state[2, 1] is NaN" in capsys.readouterr().out


def test_info_of_an_empty_store(tmp_path, capsys):
    from hotstart.spec import ActionSpec, ObsKey, ObsSpec

    Store.create(
        tmp_path / "data",
        fps=10,
        action_spec=ActionSpec.plain(1),
        obs_spec=ObsSpec({"state": ObsKey((1,))}),
    )
    assert run_verb("data", ["info", str(tmp_path / "data")]) == 0
    assert "0 episodes, 0 steps" in capsys.readouterr().out


def test_wrong_arguments_are_refused_with_the_valid_ones():
    with pytest.raises(
        ConfigError, match=r"no action .inform..*info, inspect, convert, verify, repair, download"
    ):
        run_verb("data", ["inform"])
    with pytest.raises(
        ConfigError, match=r"did you mean 'layout'\?.*source, target, to, format, keys"
    ):
        run_verb("data", ["convert", "a", "b", "layuot=pusht"])
    with pytest.raises(ConfigError, match=r"unknown format 'lerobot'.*valid: .*dp-zarr"):
        run_verb("data", ["convert", ".", "b", "format=lerobot"])
    with pytest.raises(DataError, match="does not exist"):
        run_verb("data", ["info", "nowhere"])


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--help"], 0), (["help"], 0)])
def test_help_names_every_action(arguments, status, capsys):
    assert run_verb("data", arguments) == status
    shown = capsys.readouterr().out
    assert all(
        f"hotstart data {name}" in shown for name in ("info", "convert", "verify", "download")
    )


def test_help_of_one_action(capsys):
    assert run_verb("data", ["convert", "--help"]) == 0
    assert "none finds it out: shards, dp-zarr" in capsys.readouterr().out


def test_a_pusht_zip_fetched_by_hand_becomes_a_data_set(pusht, tmp_path, capsys):
    shutil.copy(pusht / "pusht_cchi_v7_replay.zarr.zip", tmp_path / "pusht.zip")
    for _ in range(2):  # the second time all is there already
        assert run_verb("data", ["download", "pusht", f"folder={tmp_path}"]) == 0
        assert (
            "206 episodes of 49 to 246 steps, 25,650 steps, 0.71 h at 10 fps"
            in capsys.readouterr().out
        )
    assert Store.open(tmp_path / "pusht.zarr").keys == (
        "keypoints",
        "agent_pos",
        "state",
        "action",
        "timestamp",
    )


def test_a_pusht_npz_is_known_by_its_shapes(pusht, tmp_path):
    assert (
        run_verb(
            "data",
            ["convert", str(pusht / "pusht_cchi_v7_replay_lowdim.npz"), str(tmp_path / "data")],
        )
        == 0
    )
    assert Store.open(tmp_path / "data").fps == 10


def test_verify_writes_json_and_repair_mends(npz, tmp_path, capsys):
    source = tmp_path / "data"
    run_verb("data", ["convert", str(npz), str(source), "fps=20"])
    state: Any = Store.open(source)._group["data/obs"]
    state[2, 1] = np.nan
    report = tmp_path / "report.json"
    assert run_verb("data", ["verify", str(source), f"json={report}"]) == 1
    found = json.loads(report.read_text())
    assert [one["code"] for one in found["findings"]] == ["not-finite"]
    assert run_verb("data", ["repair", str(source), str(tmp_path / "mended")]) == 0
    shown = capsys.readouterr().out
    assert "nan: left out 1 episodes (episodes 0)" in shown
    assert "1 of 2 episodes" in shown
    assert run_verb("data", ["verify", str(tmp_path / "mended"), "quick=true"]) == 0
