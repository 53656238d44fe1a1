"""The door: what is understood, what is refused, and how."""

import os
import subprocess
import sys

import pytest
from hotstart.cli import main
from hotstart.configs import compose
from hotstart.spec import ConfigError


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
        ended = subprocess.run([sys.executable, "-m", "hotstart", "compare", "--help"], stdout=gone, stderr=subprocess.PIPE)
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


def test_unknown_verb_names_the_nearest(capsys):
    assert "did you mean 'train'" in refused(capsys, "trian")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "task=push"], r"task=push is unknown (did you mean 'pusht'?); valid: can, door, gymnasium"),
        (["train", "denoiser.chanels=[8]"], "did you mean 'channels'?"),
        (["train", "training.stps=5"], "did you mean 'steps'?"),
        (["train", "training.steps=many"], "(at training.steps)"),
        (["train", "colour=red"], "there is no 'colour'"),
        (["evaluate"], "checkpoint must be given"),
        (["evaluate", "a", "b"], "one word too many"),
        (["evaluate", "a", "--fast"], "is not understood"),
        (["evaluate", "nowhere"], "nowhere is no checkpoint"),
        (["evaluate", "nowhere", "inference=magic"], "valid: anchored, bid, cfg, ddim, ddpm, dpmpp, euler"),
        (["train", "nowhere.zarr"], "nowhere.zarr"),
        (["train", "nowhere.zarr", "horizon.planned=16"], "give horizon.planned=20, or training.regimes.staircase=0"),
        (["train", "nowhere.zarr", "training.steps=9", "training.warmup=10"], "give training.warmup=1, or leave it out"),
        (["demo", "horizon.planned=16"], "give horizon.planned=20, or training.regimes.staircase=0"),
        (["collect", "task=pusht", "out=/tmp/never.zarr"], "unknown scripted expert for environment 'pusht'"),
        (["bench", "nothing"], "there is no benchmark"),
    ],
)
def test_mistakes_are_explained(words, expected, capsys):
    assert expected in refused(capsys, *words)


def test_a_sweep_is_every_combination_each_with_its_own_output():
    runs = compose.sweep("evaluate", ["runs/x", "inference=ddim,dpmpp", "seed=range(1,3)", "out=o/r.json"])
    configs = [compose.composed("evaluate", run) for run in runs]
    assert [(c["choices"]["inference"], c["seed"], c["out"]) for c in configs] == [
        ("ddim", 1, "o/r_ddim_1.json"),
        ("ddim", 2, "o/r_ddim_2.json"),
        ("dpmpp", 1, "o/r_dpmpp_1.json"),
        ("dpmpp", 2, "o/r_dpmpp_2.json"),
    ]
    assert all(c["checkpoint"] == "runs/x" for c in configs)


def test_a_sweep_leaves_names_alone_that_differ_already():
    runs = compose.sweep("evaluate", ["x", "inference.steps=3,4", "out='s${inference.steps}.json'"])
    assert [compose.composed("evaluate", run)["out"] for run in runs] == ["s3.json", "s4.json"]


def test_a_sweep_of_trainings_gives_each_its_own_run():
    runs = compose.sweep("train", ["training.seed=0,1"])
    assert [compose.composed("train", run)["name"] for run in runs] == ["pusht_0", "pusht_1"]


def test_configuration_is_plain_and_says_what_was_chosen():
    config = compose.composed("train", ["denoiser=transformer", "experiment=constant_levels", "horizon.planned=16"])
    assert config["choices"]["denoiser"] == "transformer"
    assert config["training"]["regimes"] == {"staircase": 0.0, "constant": 1.0, "prefix": 0.0}
    assert config["horizon"]["planned"] == 16
    assert config["denoiser"]["_target_"].startswith("hotstart.policy.denoisers.")


def test_a_wrong_choice_raises_and_leaves_hydra_usable():
    with pytest.raises(ConfigError):
        compose.composed("train", ["schedule=linear"])
    assert compose.composed("train", [])["choices"]["schedule"] == "vp_cosine"


@pytest.mark.parametrize(
    ("verb", "axis", "choice"),
    [
        (verb, axis, choice)
        for verb, axes in (("train", ("task", "encoder", "denoiser", "schedule", "actions")), ("evaluate", ("inference",)))
        for axis in axes
        for choice in compose.choices(axis)
    ],
)
def test_every_choice_of_every_axis_composes(verb, axis, choice):
    given = ["task.options.id=Pendulum-v1"] if choice == "gymnasium" else []
    config = compose.composed(verb, ["somewhere", f"{axis}={choice}", *given])
    assert config["choices"][axis] == choice
    assert config[axis]


def test_a_choice_among_words_can_be_given():
    config = compose.composed("train", ["somewhere", "actions=relative", "encoder=vit"])
    assert (config["actions"]["rotation"], config["actions"]["frame"], config["encoder"]["backbone"]) == (
        "matrix",
        "hand",
        "vit",
    )
