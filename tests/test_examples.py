"""The scripts in examples/, each run at tiny size in this process."""

import ast
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import hotstart
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs a script in an empty folder as `python examples/NAME.py ARGUMENTS` would."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_a_script_is_short_and_says_how_to_call_it(script):
    text = script.read_text()
    assert len(text.splitlines()) < 60
    assert f"python examples/{script.name}" in (ast.get_docstring(ast.parse(text)) or "")


def test_own_data(call):
    assert call("own_data", 1).count("distance to the square") == 5


def test_own_encoder(call):
    said = call("own_encoder", 1)
    assert "StateEncoder: mean error" in said
    assert "Waves: mean error" in said


def test_own_environment(call):
    assert call("own_environment", 1, 2).splitlines()[-1].startswith("{'rate': ")


def test_instructions(call):
    lines = call("instructions", 1).splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith("ClassifierFreeGuidance: ")
    assert lines[-1].endswith(" of 20, go up")


@pytest.fixture(scope="module")
def lerobot_folder(tmp_path_factory):
    """A tiny policy as LeRobot writes one; it observes where the hand is."""
    from hotstart.benchmarks._fuzz_files import _write_lerobot

    folder = tmp_path_factory.mktemp("lerobot") / "policy"
    _write_lerobot(folder)
    return folder


@pytest.mark.slow
def test_a_lerobot_policy_is_warm_started(call, lerobot_folder):
    said = call("warm_start_lerobot", lerobot_folder, 1)
    assert re.search(r"ddim-10: score .*, 10 NFE, .* ms", said)
    assert re.search(r"rti-2: score .*, 2 NFE, .* ms", said)
    assert re.search(r"RTI - DDIM: .* \[.*, .*\]$", said.strip())


def test_samplers_are_compared(call, lerobot_folder, tmp_path):
    names = {"observation.state": "agent_pos"}
    hotstart.import_checkpoint(lerobot_folder, "run", fps=10, task="pusht", names=names)
    said = call("compare_samplers", "run", 1)
    assert re.search(r"rti-2.* scores .* \[.*, .*\] beside DDIM", said.splitlines()[-1])
    assert (tmp_path / "results" / "comparison.txt").exists()


def test_own_sampler(call):
    said = call("own_sampler", 2)
    assert "Fresh: 4 evaluations" in said
    assert "Smoothest: 32 evaluations" in said


def test_a_real_robot_moves_and_is_stopped_at_the_end(call):
    *moved, stopped, summary = call("real_robot", 1, 1).splitlines()
    assert len(moved) == 10
    assert stopped == "the arm stands still"
    assert "of 10 control periods" in summary


def test_sigterm_stops_a_real_robot_first(tmp_path):
    command = [sys.executable, str(EXAMPLES / "real_robot.py"), "1", "60"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as arm:
        assert arm.stdout is not None
        assert arm.stdout.readline().startswith("joints")
        arm.send_signal(signal.SIGTERM)
        said = arm.stdout.read()
    assert said.endswith("the arm stands still\n")
    assert arm.returncode == 128 + signal.SIGTERM
