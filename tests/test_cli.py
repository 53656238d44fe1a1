"""The door: what is understood, what is refused, and how."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hotstart.cli import main
from hotstart.commands import bench
from hotstart.configs import compose
from hotstart.configs.examples import EXAMPLES, START
from hotstart.configs.reader import read_arguments
from hotstart.configs.schema import VERBS
from hotstart.spec import REQUIRED, ConfigError
from hotstart.system.options import read_options

COMPOSED = [name for name, verb in VERBS.items() if verb.composed]


def refuse(capsys, *arguments):
    """The message of a command line that is refused."""
    assert main(arguments) == 2
    return capsys.readouterr().err


def list_options(shown):
    """The names of the options that a help text lists."""
    return [line.split("=")[0].strip() for line in shown.splitlines() if re.match(OPTION, line)]


OPTION = r" +[\w.@]+=  "


def test_without_arguments_it_says_what_there_is(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in ("demo", "collect", "data", "train", "evaluate", "compare", "bench"):
        assert f"  {verb}" in shown


def test_it_says_where_to_begin_in_commands_that_are_understood():
    assert len(START.splitlines()) <= 15
    joined = START.replace("\\\n", " ")
    commands = re.findall(r"hotstart ((?:demo|data|train)\b.*)", joined)
    assert [line.split()[0] for line in commands] == ["demo", "data", "train"]
    for line in commands:
        verb, *words = shlex.split(line)
        if VERBS[verb].composed:
            assert compose.compose_config(verb, words)
        else:
            assert read_arguments(words[1:], VERBS[verb].actions[words[0]])


@pytest.mark.parametrize("words", [words.split() for words in EXAMPLES])
def test_a_verb_without_its_argument_says_what_is_missing_and_gives_an_example(
    words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr()
    lines = (told.err + told.out).splitlines()
    (example,) = [line for line in lines if line.startswith(("for example: ", "there is none"))]
    _, verb, *rest = shlex.split(example.split(": ", 1)[1].split("   ")[0])
    if VERBS[verb].composed:
        assert compose.compose_config(verb, rest)
    else:
        assert read_arguments(rest[1:], VERBS[verb].actions[rest[0]])


def test_an_example_takes_what_lies_in_the_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "my run" / "checkpoints").mkdir(parents=True)
    assert "for example: hotstart evaluate 'runs/my run'\n" in refuse(capsys, "evaluate")
    (tmp_path / "data" / "own.zarr").mkdir(parents=True)
    told = refuse(capsys, "data", "verify")
    assert told.startswith("hotstart data verify: path must be given")
    assert "for example: hotstart data verify data/own.zarr\n" in told
    assert "for example" not in refuse(capsys, "data", "verify", "nowhere.zarr")


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
    def broken(verb, arguments):
        raise BrokenPipeError("a worker is gone")

    monkeypatch.setattr("hotstart.cli.run_verb", broken)
    with pytest.raises(BrokenPipeError, match="a worker"):
        main(["compare"])


@pytest.mark.parametrize("verb", COMPOSED)
def test_help_of_composed_verbs_shows_every_choice_and_every_option_once(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    listed = list_options(shown)
    assert len(listed) == len(set(listed))
    parts = {"horizon", "training", "training.regimes", "play", "read"}
    options = VERBS[verb].options
    assert options is not None
    assert set(compose.flatten_options(options)) - parts <= set(listed)
    for axis in compose.default_choices(verb):
        for choice, meaning in compose.describe_group(axis).items():
            assert re.search(rf"^ +{choice} +{re.escape(meaning)}$", shown, re.MULTILINE)
    assert "???" not in shown


def test_help_of_actions_shows_every_option(capsys):
    for name, verb in VERBS.items():
        for action, cls in verb.actions.items():
            assert main([name, action, "--help"]) == 0
            shown = capsys.readouterr().out
            assert shown.startswith(f"hotstart {name} {action} ")
            assert list_options(shown) == list(compose.flatten_options(cls))
        if verb.actions and not verb.composed:
            assert main([name]) == 2
            assert f"hotstart {name} {list(verb.actions)[-1]}" in capsys.readouterr().out


def test_every_option_of_every_verb_has_a_meaning():
    for verb in VERBS.values():
        for cls in filter(None, (verb.options, *verb.actions.values())):
            options = compose.flatten_options(cls)
            assert [name for name, option in options.items() if not option.meaning] == []


@pytest.mark.parametrize("axis", compose.TARGETS)
def test_every_option_of_every_part_has_a_meaning(axis):
    for target in compose.TARGETS[axis]:
        for option in read_options(compose.find_target(target)).values():
            assert option.meaning or option.default is REQUIRED, f"{target}: {option.name}"


@pytest.mark.parametrize("group", compose.list_groups())
def test_every_choice_of_every_axis_has_a_meaning(group):
    assert [name for name, text in compose.describe_group(group).items() if not text] == []


def test_help_needs_no_torch():
    text = (
        "import sys; from hotstart.cli import main; main(['train', '--help']); "
        "main(['checkpoint', '--help']); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60
    )
    assert "training.learning_rate=" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_help_is_quick():
    """0.3 s on a quiet machine; processor time, since a busy one makes it wait."""
    command = [sys.executable, "-m", "hotstart", "train", "--help"]
    before = os.times()
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    after = os.times()
    used_s = after.children_user + after.children_system
    assert used_s - before.children_user - before.children_system < 4.0


def test_help_lists_the_options_of_a_part(capsys):
    assert main(["train", "--help", "denoiser=transformer"]) == 0
    shown = capsys.readouterr().out
    assert "  denoiser.heads=        attention heads (whole number; default 4)\n" in shown
    assert "denoiser.channels=" not in shown
    assert "did you mean 'unet'" in refuse(capsys, "train", "--help", "denoiser=unett")


def test_help_lists_the_options_of_parts_inside_a_part(capsys):
    assert main(["evaluate", "--help", "inference=rti", "solver@inference.solver=dpmpp"]) == 0
    assert "  inference.solver.order=  " in capsys.readouterr().out


def test_help_of_a_task_lists_the_options_of_its_environment_with_units(capsys):
    pytest.importorskip("pymunk")
    assert main(["evaluate", "--help", "task=pusht_belt"]) == 0
    line = next(
        line for line in capsys.readouterr().out.splitlines() if "task.options.belt_px_s=" in line
    )
    assert "[px/s] (number; default 10.0)" in line  # the task's own value
    assert "did you mean 'pusht'" in refuse(capsys, "evaluate", "--help", "task=push")


def test_unknown_verb_names_the_nearest(capsys):
    assert "did you mean 'train'" in refuse(capsys, "trian")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["train", "task=push"],
            r"task=push is unknown (did you mean 'pusht'?); valid: can, door, franka_push, ",
        ),
        (["train", "denoiser.chanels=[8]"], "did you mean 'channels'?"),
        (["train", "training.stps=5"], "did you mean 'steps'?"),
        (
            ["train", "training.steps=many"],
            "training.steps=many does not fit; it must be a whole number",
        ),
        (["train", "colour=red"], "there is no 'colour'"),
        (["evaluate"], "checkpoint must be given"),
        (["evaluate", "a", "b"], "one argument too many"),
        (["evaluate", "a", "--fast"], "is not understood"),
        (["evaluate", "nowhere"], "nowhere is no checkpoint"),
        (
            ["evaluate", "nowhere", "inference=magic"],
            "valid: anchored, best_of, bid, cfg, ddim, ddpm, dpmpp",
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
        (
            ["evaluate", "x", "task.options.goal=[1,2,3]"],
            "task.options.goal needs its task beside it, as task=pusht task.options.goal=",
        ),
        (
            ["evaluate", "x", "task=pusht", "task.options.goal=1,2,3"],
            "write a list in brackets and quotes, as 'task.options.goal=[1,2,3]'",
        ),
        (["evaluate", "x", "task=pusht", "task.options.max_steps=5"], "is task.max_steps= here"),
        (["evaluate", "x", "task=gymnasium"], "task.options.id must be given"),
        (["collect", "task=pusht", "out=/tmp/never.zarr"], "hotstart data download pusht"),
        (["bench", "nothing"], "there is no benchmark"),
        (["evaluate", "x", "rate=sam"], "rate=sam is not possible (did you mean 'same'?)"),
        (["evaluate", "x", "seed=1", "seed=2"], "'seed' is given twice"),
        (["train", "x", "task.maxsteps=3"], "did you mean 'max_steps'?"),
        (["data", "inf"], "there is no action 'inf' (did you mean 'info'?)"),
        (["data", "info", "a", "b"], "one argument too many"),
    ],
)
def test_mistakes_are_explained(arguments, expected, capsys):
    assert expected in refuse(capsys, *arguments)


def list_documented_commands():
    """The command lines of the README and the documentation, those included that no test runs."""
    root = Path(__file__).parents[1]
    lines = []
    for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S):
            whole = block.replace("\\\n", "")
            found = re.findall(r"^hotstart +(\w.*)$", whole, re.M)
            lines += [line for line in found if "--help" not in line]
    return sorted(set(lines))


def test_commands_are_found():
    assert len(list_documented_commands()) > 10


@pytest.mark.parametrize("line", list_documented_commands())
def test_documented_commands_are_understood(line):
    verb, *arguments = shlex.split(line, comments=True)
    if arguments and arguments[0] in VERBS[verb].actions:
        assert read_arguments(arguments[1:], VERBS[verb].actions[arguments[0]])
    elif VERBS[verb].composed:
        given = [argument for argument in arguments if argument != "--multirun"]
        for run in compose.sweep(verb, given):
            assert compose.compose_config(verb, run)
    elif verb == "bench":
        assert read_arguments(arguments[1:], bench._import(arguments[0]).Options)
    else:
        options = VERBS[verb].options
        assert options is not None
        assert read_arguments(arguments, options)


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


def test_a_sweep_takes_solvers():
    runs = compose.sweep("evaluate", ["x", "solver@inference.solver=ddpm,dpmpp"])
    solvers = [compose.compose_config("evaluate", run)["inference"]["solver"] for run in runs]
    assert [solver["_target_"].rpartition(".")[2] for solver in solvers] == ["DDIM", "DPMSolverPP"]


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
        for choice in compose.list_choices(axis)
    ],
)
def test_every_choice_of_every_axis_composes(verb, axis, choice):
    given = ["task.options.id=Pendulum-v1"] if choice == "gymnasium" else []
    config = compose.compose_config(verb, ["somewhere", f"{axis}={choice}", *given])
    assert config["choices"][axis] == choice
    assert config[axis]


def test_a_choice_of_a_literal_can_be_given():
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
