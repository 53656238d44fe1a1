"""What a verb advises next is a line that a shell and the command line read as it was meant."""

import shlex

import pytest
from hotstart.commands import next_steps
from hotstart.configs import compose
from hotstart.configs.reader import read_arguments
from hotstart.configs.schema import VERBS
from hotstart.datasets.store import Store
from hotstart.spec import ActionSpec, ObsKey, ObsSpec


def read_back(line):
    """The configuration of an advised line."""
    _, verb, *words = shlex.split(line)
    return compose.compose_config(verb, words)


@pytest.mark.parametrize(
    "name", ["plain", "two words", "it's", "a,b", "a=b", "[x]", "a: b", "$HOME", "100%", ""]
)
def test_a_value_is_read_back_whatever_it_holds(name):
    line = next_steps.write_command("evaluate", "x", next_steps.write_option("out", name))
    assert read_back(line)["out"] == name


@pytest.mark.parametrize("name", ["runs/a", "my runs/a", "a=b", "-x", "it's", "runs/a=b"])
def test_a_path_is_read_back_whatever_it_holds(name):
    line = next_steps.write_command("evaluate", next_steps.write_path(name))
    assert read_back(line)["checkpoint"].removeprefix("./") == name


def test_arguments_are_kept_but_those_of_an_axis():
    given = ["out", "task=lift", "inference=rti", "inference.steps=3", "task.options.inference=1"]
    given += ["solver@inference.solver=ddim", "++inference.start=0.5", "out=a.json"]
    kept = next_steps.keep_arguments(given, ["inference", "out"])
    assert kept == ["out", "task=lift", "task.options.inference=1"]


def make_store(path, task, keys, **made):
    spec = {"fps": 10, "action_spec": ActionSpec.plain(2), "obs_spec": ObsSpec(keys)}
    return Store.create(path, task=task, **spec, **made)


def test_data_of_a_known_task_is_trained_for_that_task_with_its_options(tmp_path):
    keys = {"keypoints": ObsKey((2,)), "agent_pos": ObsKey((2,))}
    options = {"obs": "keypoints", "goal": [1, 2, 0.5]}
    store = make_store(tmp_path / "my data.zarr", "pusht", keys, options=options)
    config = read_back(next_steps.train_on(store))
    assert config["data"] == str(store.path)
    assert config["choices"]["task"] == "pusht"
    assert config["task"]["options"] == options


def test_data_of_ones_own_is_trained_under_its_own_name_on_its_own_keys(tmp_path):
    keys = {"joints": ObsKey((7,)), "front": ObsKey((8, 8, 3), "uint8", "image")}
    store = make_store(tmp_path / "pick, place.zarr", "pick the cube, place it", keys)
    config = read_back(next_steps.train_on(store))
    assert config["name"] == "pick, place"
    assert sorted(config["task"]["obs_keys"]) == ["front", "joints"]
    assert config["choices"]["encoder"] == "image"


def test_data_verbs_read_their_paths_as_they_stand():
    line = next_steps.write_command("data verify", next_steps.write_path("my data, 1.zarr"))
    _, verb, action, *words = shlex.split(line)
    options = read_arguments(words, VERBS[verb].actions[action])
    assert str(options.path) == "my data, 1.zarr"
