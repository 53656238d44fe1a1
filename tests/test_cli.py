"""The door: what is understood, what is refused, and how."""

import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest
from hotstart.cli import main
from hotstart.configs import compose
from hotstart.policy.diffusion.regimes import Regimes
from hotstart.policy.training.settings import TrainingSettings
from hotstart.spec import ConfigError, Horizon


def refused(capsys, *words):
    """The message of a command line that is refused."""
    assert main(words) == 2
    return capsys.readouterr().err


def test_without_words_it_says_what_there_is(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in ("demo", "collect", "data", "train", "evaluate", "compare", "bench"):
        assert f"  {verb}" in shown


def test_a_reader_that_leaves_ends_the_command_quietly():
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does once it has its lines
    with os.fdopen(writing, "w") as gone:
        ended = subprocess.run(
            [sys.executable, "-m", "hotstart", "compare", "--help"],
            stdout=gone,
            stderr=subprocess.PIPE,
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_another_broken_pipe_is_no_quiet_end(monkeypatch):
    def broken(verb, words):
        raise BrokenPipeError("a worker is gone")

    monkeypatch.setattr("hotstart.cli._call", broken)
    with pytest.raises(BrokenPipeError, match="a worker"):
        main(["compare"])


@pytest.mark.parametrize("verb", ["demo", "collect", "train", "evaluate"])
def test_help_of_composed_verbs_shows_choices_and_defaults(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "one of" in shown
    assert "[default" in shown
    assert "???" not in shown


@pytest.mark.parametrize(
    "settings", [Horizon, Regimes, TrainingSettings, compose.TaskConfig, *compose.VERBS.values()]
)
def test_every_key_has_a_meaning(settings):
    untold = [f.name for f in fields(settings) if not f.metadata.get("help")]
    assert set(untold) <= {*compose.groups(), "horizon", "training"}


@pytest.mark.parametrize("verb", list(compose.VERBS))
def test_help_lists_each_key_once_with_its_meaning(verb, capsys):
    assert main([verb, "--help"]) == 0
    keys = [
        line.split()[0]
        for line in capsys.readouterr().out.splitlines()
        if re.match(r"  [\w.]+= ", line)
    ]
    assert len(keys) == len(set(keys))
    known = {f"{f.name}=" for f in fields(compose.VERBS[verb])} - {"horizon=", "training="}
    assert known <= set(keys)
    training = {f"training.{f.name}=" for f in fields(TrainingSettings)} - {"training.regimes="}
    assert training <= set(keys) or verb not in ("train", "demo")


def test_help_needs_no_torch():
    text = "import sys; from hotstart.cli import main; main(['train', '--help']); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60
    )
    assert "training.learning_rate=" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_help_lists_the_keys_of_a_part(capsys):
    assert main(["train", "--help", "denoiser=transformer"]) == 0
    shown = capsys.readouterr().out
    assert "    heads: " in shown
    assert "channels:" not in shown
    assert "did you mean 'unet'" in refused(capsys, "train", "--help", "denoiser=unett")


def test_help_of_a_task_lists_the_options_of_its_environment_with_units(capsys):
    pytest.importorskip("pymunk")
    assert main(["evaluate", "--help", "task=pusht_belt"]) == 0
    line = next(
        line for line in capsys.readouterr().out.splitlines() if "task.options.belt_px_s=" in line
    )
    assert "[px/s] [default 10.0]" in line  # the task's own value
    assert "did you mean 'pusht'" in refused(capsys, "evaluate", "--help", "task=push")


def test_unknown_verb_names_the_nearest(capsys):
    assert "did you mean 'train'" in refused(capsys, "trian")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["train", "task=push"],
            r"task=push is unknown (did you mean 'pusht'?); valid: can, door, gymnasium",
        ),
        (["train", "denoiser.chanels=[8]"], "did you mean 'channels'?"),
        (["train", "training.stps=5"], "did you mean 'steps'?"),
        (["train", "training.steps=many"], "(at training.steps)"),
        (["train", "colour=red"], "there is no 'colour'"),
        (["evaluate"], "checkpoint must be given"),
        (["evaluate", "a", "b"], "one word too many"),
        (["evaluate", "a", "--fast"], "is not understood"),
        (["evaluate", "nowhere"], "nowhere is no checkpoint"),
        (
            ["evaluate", "nowhere", "inference=magic"],
            "valid: anchored, bid, cfg, ddim, ddpm, dpmpp, euler",
        ),
        (["train", "nowhere.zarr"], "nowhere.zarr"),
        (
            ["train", "nowhere.zarr", "horizon.planned=16"],
            "give horizon.planned=20, or training.regimes.staircase=0",
        ),
        (
            ["train", "nowhere.zarr", "training.steps=9", "training.warmup=10"],
            "give training.warmup=1, or leave it out",
        ),
        (
            ["train", "nowhere.zarr", "task.max_steps=1000000000000"],
            "task.max_steps is 1000000000000; it must be at most 100,000",
        ),
        (
            ["collect", "episodes=1000000000000"],
            "episodes is 1000000000000; it must be at most 1,000,000",
        ),
        (
            ["evaluate", "nowhere", "num_envs=1000000000000"],
            "num_envs is 1000000000000; it must be at most 10,000",
        ),
        (
            ["train", "nowhere.zarr", "training.steps=1000000000000"],
            "it must be at most 1,000,000,000",
        ),
        (
            ["train", "nowhere.zarr", "horizon.planned=1000000000"],
            "horizon.planned is 1000000000; it must be",
        ),
        (
            ["demo", "horizon.planned=16"],
            "give horizon.planned=20, or training.regimes.staircase=0",
        ),
        (
            ["collect", "task=pusht", "out=/tmp/never.zarr"],
            "unknown scripted demonstrator for environment 'pusht'",
        ),
        (["bench", "nothing"], "there is no benchmark"),
    ],
)
def test_mistakes_are_explained(words, expected, capsys):
    assert expected in refused(capsys, *words)


def test_a_sweep_is_every_combination_each_with_its_own_output():
    runs = compose.sweep(
        "evaluate", ["runs/x", "inference=ddim,dpmpp", "seed=range(1,3)", "out=o/r.json"]
    )
    configs = [compose.compose_config("evaluate", run) for run in runs]
    assert [(c["choices"]["inference"], c["seed"], c["out"]) for c in configs] == [
        ("ddim", 1, "o/r_ddim_1.json"),
        ("ddim", 2, "o/r_ddim_2.json"),
        ("dpmpp", 1, "o/r_dpmpp_1.json"),
        ("dpmpp", 2, "o/r_dpmpp_2.json"),
    ]
    assert all(c["checkpoint"] == "runs/x" for c in configs)


def test_a_sweep_leaves_names_alone_that_differ_already():
    runs = compose.sweep("evaluate", ["x", "inference.steps=3,4", "out='s${inference.steps}.json'"])
    assert [compose.compose_config("evaluate", run)["out"] for run in runs] == [
        "s3.json",
        "s4.json",
    ]


def test_a_sweep_of_trainings_gives_each_its_own_run():
    runs = compose.sweep("train", ["training.seed=0,1"])
    assert [compose.compose_config("train", run)["name"] for run in runs] == ["pusht_0", "pusht_1"]


def test_configuration_is_plain_and_says_what_was_chosen():
    config = compose.compose_config(
        "train", ["denoiser=transformer", "experiment=constant_levels", "horizon.planned=16"]
    )
    assert config["choices"]["denoiser"] == "transformer"
    assert config["training"]["regimes"] == {"staircase": 0.0, "constant": 1.0, "prefix": 0.0}
    assert config["horizon"]["planned"] == 16
    assert config["denoiser"]["_target_"].startswith("hotstart.policy.denoisers.")


def test_a_wrong_choice_raises_and_leaves_hydra_usable():
    with pytest.raises(ConfigError):
        compose.compose_config("train", ["schedule=linear"])
    assert compose.compose_config("train", [])["choices"]["schedule"] == "vp_cosine"


@pytest.mark.parametrize(
    ("verb", "axis", "choice"),
    [
        (verb, axis, choice)
        for verb, axes in (
            ("train", ("task", "encoder", "denoiser", "schedule", "actions")),
            ("evaluate", ("inference",)),
        )
        for axis in axes
        for choice in compose.choices(axis)
    ],
)
def test_every_choice_of_every_axis_composes(verb, axis, choice):
    given = ["task.options.id=Pendulum-v1"] if choice == "gymnasium" else []
    config = compose.compose_config(verb, ["somewhere", f"{axis}={choice}", *given])
    assert config["choices"][axis] == choice
    assert config[axis]


def test_a_choice_among_words_can_be_given():
    config = compose.compose_config("train", ["somewhere", "actions=relative", "encoder=vit"])
    assert (
        config["actions"]["rotation"],
        config["actions"]["frame"],
        config["encoder"]["backbone"],
    ) == (
        "rotation_6d",
        "hand",
        "vit",
    )
