"""Play around a checkpoint: the words that ask for it, and the store that comes of it."""

import json

import numpy as np
import pytest
from hotstart.cli import main
from hotstart.commands.play import settle_play
from hotstart.configs.compose import compose_config, fill
from hotstart.configs.schema import PlaySettings
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.store import Store
from hotstart.envs.demonstrators.demonstrate import demonstrate, make_demonstrator
from hotstart.envs.gate import GateEnv
from hotstart.spec import ConfigError, Horizon

TASK = {
    "name": "gate",
    "env": "gate",
    "options": {"width": 0.3},
    "obs_keys": ["state"],
    "max_steps": 30,
}


@pytest.fixture(scope="module")
def base(tiny_model, tmp_path_factory):
    """The checkpoint of an untrained policy for a wide gate."""
    from hotstart.policy import checkpoint

    env = GateEnv()
    shown = demonstrate(env, make_demonstrator("gate", 0.1), 0).arrays
    episode = {name: shown[name] for name in ("state", "action")}
    data = Arrays([episode], env.rate_hz, env.action_spec, env.obs_spec)
    folder = tmp_path_factory.mktemp("base")
    model = tiny_model(dataset=data, horizon=Horizon(observed=2, planned=20, executed=16))
    checkpoint.save(folder / "c", model, {"task": TASK, "rate_hz": env.rate_hz})
    return folder / "c"


def collect(base, out, *words):
    fast = ["inference=ddim", "inference.steps=2", "workers=0"]
    return main(["collect", str(out), f"demonstrator={base}", "play.on=true", *fast, *words])


def test_play_takes_the_checkpoints_task_and_holds_failures(base, tmp_path, capsys):
    out = tmp_path / "play.zarr"
    assert collect(base, out, "episodes=6") == 0
    store = Store.open(out)
    assert store.task == "gate"
    assert store.attrs["options"] == {"width": 0.3}
    assert '"max_steps": 30' in store.attrs["source"]
    assert '"hold_ticks": 10' in store.attrs["source"]
    assert '"steps": 2' in store.attrs["source"]
    assert f"next: hotstart world-model train {out} checkpoint=" in capsys.readouterr().out
    kinds = []
    outcomes = set()
    for number in range(6):
        episode = store.episode(number)
        kinds.append(np.unique(episode["explored"]).tolist())
        outcomes.add(bool(episode["success"].any()))
    assert kinds.count([False]) + kinds.count([True]) == 6
    assert [False] in kinds
    assert outcomes == {True, False}
    assert len(store) == store.lengths.sum() == len(store.array("score"))
    assert main(["data", "info", str(out)]) == 0
    assert f"; {kinds.count([False])} episodes are undisturbed" in capsys.readouterr().out
    again = tmp_path / "again.zarr"
    for episodes in (2, 6):  # goes on
        assert collect(base, again, f"episodes={episodes}") == 0
    assert json.loads((again / "seeds.json").read_text()) == list(range(6))
    assert Store.open(again).content_hash() == store.content_hash()


def test_words_that_contradict_play_are_refused(base, tmp_path, capsys):
    config = compose_config("collect", [f"demonstrator={base}", "play.on=true"])
    for words, changed, said in (
        (["keep=success"], {}, "play holds failures too: leave keep out"),
        ([], {"noise": 0.1}, "say the largest as play.noise"),
        (["task.max_steps=9"], {}, "task.max_steps needs its task beside it"),
    ):
        with pytest.raises(ConfigError, match=said):
            settle_play({**config, **changed, "arguments": words})
    assert settle_play(config)["out"] == "data/gate_play.zarr"
    assert collect("scripted", tmp_path / "play.zarr") == 2
    assert "demonstrator is scripted; play.on=true records play" in capsys.readouterr().err
    assert not (tmp_path / "play.zarr").exists()


def test_settings_of_play_that_cannot_be_are_refused():
    for changed, said in (
        ({"undisturbed": 0.9}, "together they must be at most 1"),
        ({"hold_chance": 2.0}, "play.hold_chance is 2.0; a share"),
        ({"noise": -1.0}, "a finite number from 0 on"),
        ({"hold_ticks": 0}, "at least 1 and 0 are wanted"),
        ({"after_success": -1}, "at least 1 and 0 are wanted"),
    ):
        with pytest.raises(ConfigError, match=said):
            fill(PlaySettings, changed)
