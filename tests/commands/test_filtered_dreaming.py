"""A policy with a filter from its data to its tuning in dreams, and in the simulator afterwards."""

import json

import pytest
from hotstart.cli import main
from hotstart.commands import train
from hotstart.configs.compose import compose_config
from hotstart.policy import checkpoint
from hotstart.policy.filters.latent import LATENT
from hotstart.world_model import files
from hotstart.world_model.fitting import FitSettings
from hotstart.world_model.latent import LatentOptions
from hotstart.world_model.latent_training import LatentSettings
from hotstart.world_model.latents import check_filter
from hotstart.world_model.learning import learn
from hotstart.world_model.play import load_play

from ..world_model.gate_play import CHUNK
from .dream_world import save_play

QUICK = [
    *("method=diwa", "method.force=true", "method.clone_updates=2", "method.repeats=1"),
    *("method.rows=4", "method.chunks=6", "method.iterations=1", "method.trained_steps=1"),
    *("inference.steps=2", "episodes=0"),
]
TRAIN = [
    *("task=gate", "denoiser=mlp", "denoiser.hidden=16", "training.batch=4", "training.steps=1"),
    *("horizon.planned=12", f"horizon.executed={CHUNK}", "task.max_steps=24"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Play, a latent world model that has hardly learned from it, and a policy with its filter."""
    folder = tmp_path_factory.mktemp("filtered")
    save_play(folder)
    learned, _ = learn(
        load_play(folder / "play.zarr"),
        CHUNK,
        "latent",
        FitSettings(batch=64, judge_updates=10),
        latent=LatentOptions(hidden=16, groups=2, classes=4),
        latent_fitting=LatentSettings(steps=2, batch=4, length=12, imagined=4),
        progress=False,
    )
    files.save(folder / "world", learned)
    words = [str(folder / "play.zarr"), f"filter={folder / 'world'}", *TRAIN]
    config = compose_config("train", words)
    store, latent = train.open_data(config, folder / "base")
    train.build(config, store, folder / "base", latent).run(progress=False)
    return folder


def tune(folder, name, *words):
    return main(
        [
            *("finetune", str(folder / "base"), f"play={folder / 'play.zarr'}", f"runs={folder}"),
            *(f"name={name}", *QUICK, *words),
        ]
    )


def test_it_is_tuned_in_dreams_and_keeps_its_filter(folder):
    assert tune(folder, "tuned", f"world_model={folder / 'world'}") == 0
    model, meta = checkpoint.load(folder / "tuned")
    assert model.filter is not None
    check_filter(model.filter, files.load(folder / "world").model)
    assert list(model.config.obs_spec.keys) == [LATENT]
    assert meta["ledger"].get("training", 0) == 0
    audit = json.loads((folder / "tuned" / "audit.json").read_text())
    assert LATENT not in {row["part"] for row in audit["open_loop"]}
    out = folder / "result.json"
    words = ["episodes=2", "num_envs=2", "workers=0", f"out={out}", "inference.steps=2"]
    assert main(["evaluate", str(folder / "tuned"), *words]) == 0
    assert len(json.loads(out.read_text())["per_episode"]) == 2


def test_its_world_model_is_audited_on_play_that_came_later(folder, tmp_path):
    play = save_play(tmp_path, episodes=80)
    out = tmp_path / "audit.json"
    words = [f"play={play}", f"checkpoint={folder / 'base'}", f"out={out}"]
    quick = ["repeats=1", "inference=ddim-2"]
    assert main(["world-model", "audit", str(folder / "world"), *words, *quick]) == 1  # it fails
    assert json.loads(out.read_text())["held_out"]["episodes"] == 80


def test_its_world_model_must_be_named(folder, capsys):
    assert tune(folder, "nameless") != 0
    assert "world_model=FOLDER" in capsys.readouterr().err
