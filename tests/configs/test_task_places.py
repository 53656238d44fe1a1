"""Where each task writes unless told otherwise: no two share a run, or a store to collect into."""

from pathlib import Path

import pytest
from hotstart.configs.compose import compose_config, list_choices, read_task
from hotstart.configs.schema import Download
from hotstart.datasets.download import SOURCES
from hotstart.envs.registry import options_of

TASKS = list_choices("task")


def test_no_two_tasks_have_one_name():
    """Runs, and what is collected, are named after it."""
    owners = {}
    for task in TASKS:
        assert owners.setdefault(read_task(task)["name"], task) == task
    assert len(owners) == len(TASKS) > 10


def test_every_task_says_how_its_environment_is_built():
    for task in TASKS:
        assert "env" in read_task(task)
        options_of(read_task(task))


def test_only_tasks_that_say_so_train_on_the_data_of_another():
    sharing = {}
    for task in TASKS:
        found = read_task(task)
        if found.get("data", found["name"]) != found["name"]:
            sharing[task] = found["data"]
    assert sharing == {"pusht_image": "pusht", "pusht_state": "pusht"}


@pytest.mark.parametrize("task", ["pusht", "pusht_state"])
def test_names_lead_to_the_places_and_to_the_downloaded_demonstrations(task):
    training = compose_config("train", [f"task={task}"])
    assert (training["runs"], training["name"]) == ("runs", task)
    assert "pusht" in SOURCES
    assert Path(training["data"]) == Download("pusht").folder / "pusht.zarr"
    assert compose_config("collect", [f"task={task}"])["out"] == f"data/{task}.zarr"
