"""Results of format 1: their old names are converted as they are read, and they compare with
new ones.
"""

import json

import pytest
from hotstart.benchmarks import _fuzz_files
from hotstart.commands import compare
from hotstart.commands.entries import read_entries
from hotstart.evaluation import results
from hotstart.evaluation.old_results import convert_result
from hotstart.spec import DataError

TARGET = "hotstart.policy.samplers.warm_start.WarmStart"
OLD_SOLVER = {"_target_": "hotstart.policy.diffusion.solvers.DDIM", "eta": 1.0}
SOLVER = {**OLD_SOLVER, "min_std": 0.0}
NOW = {
    **_fuzz_files.RESULT,
    "precision": "bf16",
    "sampler_settings": {"_target_": TARGET, "ramp": True, "min_start": 0.3, "solver": SOLVER},
    "task_options": {"control": "delta", "rotation": "rotation_6d"},
}
RENAMED = ("format", "precision", "sampler_settings", "task_options")
THEN = {key: value for key, value in NOW.items() if key not in RENAMED} | {
    "weights": "bf16",
    "sampler_settings": {
        "_target_": "hotstart.policy.diffusion.warm_start.WarmStart",
        "rising": True,
        "least_start": 0.3,
        "solver": OLD_SOLVER,
    },
    "task_options": {"control": "delta", "turns": "matrix"},
}
OLDEST = {key: value for key, value in THEN.items() if key != "sampler_settings"} | {
    "settings": THEN["sampler_settings"]
}


def write(path, result):
    path.write_text(json.dumps(result))
    return path


@pytest.mark.parametrize("old", [THEN, OLDEST], ids=["sampler_settings", "settings"])
def test_an_old_result_loads_as_if_it_were_new(old, tmp_path):
    loaded = results.load(write(tmp_path / "old.json", old))
    assert loaded == {key: value for key, value in NOW.items() if key != "format"}


def test_an_old_and_a_new_result_are_paired_without_a_warning(tmp_path):
    files = [write(tmp_path / "old.json", THEN), write(tmp_path / "new.json", NOW)]
    entries = read_entries(files)
    text = compare.describe_comparison(compare.compare(entries, entries[0]))
    assert "same seeds" in text
    assert "Note" not in text
    other = {**THEN, "sampler_settings": {**THEN["sampler_settings"], "least_start": 0.6}}
    entries = read_entries([write(tmp_path / "other.json", other), files[1]])
    text = compare.describe_comparison(compare.compare(entries, entries[0]))
    assert "different settings: min_start" in text


def test_other_peoples_samplers_keep_their_place():
    settings = {"_target_": "somebody.plans.Fresh", "steps": 3}
    assert convert_result({"sampler_settings": settings}) == {"sampler_settings": settings}


def test_a_result_of_a_newer_format_says_to_upgrade(tmp_path):
    file = write(tmp_path / "newer.json", {**NOW, "format": results.FORMAT + 1})
    with pytest.raises(DataError, match="its format is 3, this hotstart reads up to 2: upgrade"):
        results.load(file)


@pytest.mark.parametrize("odd", [None, 3, "text", [], {"_target_": []}, {"turns": {}}])
def test_odd_values_in_an_old_result_are_no_other_error(odd, tmp_path):
    file = write(tmp_path / "odd.json", {**OLDEST, "settings": odd, "task_options": odd})
    if isinstance(odd, dict):
        assert results.load(file)["precision"] == "bf16"
    else:
        with pytest.raises(DataError, match="must be keys with values"):
            results.load(file)
