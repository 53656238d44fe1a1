"""Collecting: who acts, what is kept, going on after a stop."""

import json

import numpy as np
from hotstart.cli import main
from hotstart.datasets.store import Store

FETCH = ["task=gymnasium", "task.options.id=Pendulum-v1", "task.max_steps=20", "workers=0"]


def test_all_episodes_are_kept_with_labels_and_go_on(tmp_path):
    out = tmp_path / "play.zarr"
    assert main(["collect", str(out), "expert=random", "keep=all", "episodes=2", *FETCH]) == 0
    first = Store.open(out).array("action")
    assert main(["collect", str(out), "expert=random", "keep=all", "episodes=3", *FETCH]) == 0
    store = Store.open(out)
    assert len(store.episode_ends) == 3
    assert np.array_equal(store.array("action")[: len(first)], first)
    assert json.loads((out / "seeds.json").read_text()) == [0, 1, 2]
    assert not store.array("success").any()
    assert (store.array("reward") < 0).all()
    assert store.task == "Pendulum-v1"


def test_another_expert_does_not_mix_in(tmp_path, capsys):
    out = tmp_path / "play.zarr"
    assert main(["collect", str(out), "expert=random", "keep=all", "episodes=1", *FETCH]) == 0
    assert main(["collect", str(out), "expert=random", "keep=success", "episodes=2", *FETCH]) == 2
    assert "holds other data" in capsys.readouterr().err


def test_mistakes_are_said(tmp_path, capsys):
    for words, said in (
        (["keep=some"], "valid: success, all"),
        (["expert=scripted"], "expert=random"),
        (["expert=nowhere", "keep=all"], "nowhere"),
        (["task.options.id=Pendulun-v1", "expert=random"], "did you mean 'Pendulum-v1'"),
        (["task.options.colour=red", "expert=random"], "does not take these options"),
    ):
        assert main(["collect", str(tmp_path / "out.zarr"), *FETCH, *words]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out.zarr").exists()


def test_a_trained_policy_can_act(tmp_path):
    data = tmp_path / "random.zarr"
    assert main(["collect", str(data), "expert=random", "keep=all", "episodes=3", *FETCH]) == 0
    tiny = ["denoiser.channels=[8,16]", "denoiser.groups=4", "denoiser.level_width=8", "encoder.token_width=8"]
    words = ["training.steps=3", "training.batch=4", f"runs={tmp_path}", "name=run", *tiny]
    assert main(["train", str(data), *FETCH[:3], *words]) == 0
    own = tmp_path / "own.zarr"
    acting = [f"expert={tmp_path / 'run'}", "noise=0.1", "keep=all", "episodes=2"]
    assert main(["collect", str(own), *acting, *FETCH]) == 0
    actions = Store.open(own).array("action")
    assert actions.shape == (40, 1)
    assert main(["evaluate", str(tmp_path / "run"), "episodes=2", "workers=0", f"out={tmp_path / 'r.json'}"]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["task"] == "Pendulum-v1"


def test_data_of_another_arm_is_refused_with_the_words_that_mend_it(tmp_path, capsys):
    data = tmp_path / "ur.zarr"
    assert main(["collect", str(data), "task=lift", "task.options.robot=UR5e", "episodes=1", "workers=0"]) == 0
    assert main(["train", str(data), "task=lift", f"runs={tmp_path}"]) == 2
    assert "was collected with robot UR5e, the task says None: train with task.options.robot=UR5e" in capsys.readouterr().err
    assert main(["train", str(data), "task=lift", "task.options.control=absolute", f"runs={tmp_path}"]) == 2
    assert "train with the task's own control" in capsys.readouterr().err
