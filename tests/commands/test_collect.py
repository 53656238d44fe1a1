"""Collecting: who acts, what is kept, going on after a stop."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hotstart.cli import main
from hotstart.commands.collect import next_command
from hotstart.datasets.store import Store
from hotstart.spec import ObsKey, ObsSpec

FETCH = ["task=gymnasium", "task.options.id=Pendulum-v1", "task.max_steps=20", "workers=0"]


def test_all_episodes_are_kept_with_labels_and_go_on(tmp_path):
    out = tmp_path / "play.zarr"
    assert main(["collect", str(out), "demonstrator=random", "keep=all", "episodes=2", *FETCH]) == 0
    first = Store.open(out).array("action")
    assert main(["collect", str(out), "demonstrator=random", "keep=all", "episodes=3", *FETCH]) == 0
    store = Store.open(out)
    assert len(store.episode_ends) == 3
    assert np.array_equal(store.array("action")[: len(first)], first)
    assert json.loads((out / "seeds.json").read_text()) == [0, 1, 2]
    assert not store.array("success").any()
    assert (store.array("reward") < 0).all()
    assert store.task == "Pendulum-v1"


def test_two_processes_cannot_collect_into_one_data_set(tmp_path, capsys, hold_elsewhere):
    out = tmp_path / "play.zarr"
    hold_elsewhere(out)
    assert main(["collect", str(out), "demonstrator=random", "keep=all", "episodes=1", *FETCH]) == 2
    assert "play.zarr is being written by another process" in capsys.readouterr().err
    assert not out.exists()


def test_seeds_that_are_no_numbers_are_refused(tmp_path, capsys):
    out = tmp_path / "play.zarr"
    assert main(["collect", str(out), "demonstrator=random", "keep=all", "episodes=1", *FETCH]) == 0
    (out / "seeds.json").write_text('{"0": 1}')
    assert main(["collect", str(out), "demonstrator=random", "keep=all", "episodes=2", *FETCH]) == 2
    assert "it must be a list of whole numbers" in capsys.readouterr().err


def test_the_next_line_works_as_printed(tmp_path, capsys):
    out = tmp_path / "play data.zarr"
    assert main(["collect", str(out), "demonstrator=random", "keep=all", "episodes=2", *FETCH]) == 0
    line = next(text for text in capsys.readouterr().out.splitlines() if text.startswith("next: "))
    program, *words = shlex.split(line.removeprefix("next: "))
    assert program == "hotstart"
    small = [
        "denoiser.channels=[8,16]",
        "denoiser.groups=4",
        "denoiser.level_width=8",
        "encoder.token_width=8",
    ]
    assert (
        main(
            [*words, *small, "training.steps=1", "training.batch=2", f"runs={tmp_path}", "name=run"]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("kind", "encoder"),
    [("state", None), ("image", "encoder=image"), ("language", "encoder=language")],
)
def test_the_next_line_names_the_encoder_that_reads_the_data(kind, encoder):
    keys = {"state": ObsKey((2,)), "seen": ObsKey((8, 8, 3), "uint8", kind)}
    task = {"obs_keys": [], "options": {}}
    config = {
        "out": "a.zarr",
        "choices": {"task": "mine"},
        "arguments": ["episodes=3", "task.options.id=A-v0"],
        "task": task,
    }
    words = ["hotstart", "train", "a.zarr", "task=mine", "task.options.id=A-v0"]
    assert next_command(config, ObsSpec(keys)).split() == words + [encoder] * (encoder is not None)
    states_only = {**config, "task": {**task, "obs_keys": ["state"]}}
    assert next_command(states_only, ObsSpec(keys)).split() == words


def test_another_expert_does_not_mix_in(tmp_path, capsys):
    out = tmp_path / "play.zarr"
    assert main(["collect", str(out), "demonstrator=random", "keep=all", "episodes=1", *FETCH]) == 0
    assert (
        main(["collect", str(out), "demonstrator=random", "keep=success", "episodes=2", *FETCH])
        == 2
    )
    assert "holds other data" in capsys.readouterr().err


def test_mistakes_are_said(tmp_path, capsys):
    for words, said in (
        (["keep=some"], "valid are success, all"),
        (["demonstrator=scripted"], "demonstrator=random"),
        (["demonstrator=nowhere", "keep=all"], "nowhere"),
        (["task.options.colour=red", "demonstrator=random"], "does not take these options"),
    ):
        assert main(["collect", str(tmp_path / "out.zarr"), *FETCH, *words]) == 2
        assert said in capsys.readouterr().err
    other = ["task=gymnasium", "task.options.id=Pendulun-v1", "demonstrator=random"]
    assert main(["collect", str(tmp_path / "out.zarr"), *other]) == 2
    assert "did you mean 'Pendulum-v1'" in capsys.readouterr().err
    assert not (tmp_path / "out.zarr").exists()


def test_a_trained_policy_can_act(tmp_path):
    data = tmp_path / "random.zarr"
    assert (
        main(["collect", str(data), "demonstrator=random", "keep=all", "episodes=3", *FETCH]) == 0
    )
    tiny = [
        "denoiser.channels=[8,16]",
        "denoiser.groups=4",
        "denoiser.level_width=8",
        "encoder.token_width=8",
    ]
    words = ["training.steps=3", "training.batch=4", f"runs={tmp_path}", "name=run", *tiny]
    assert main(["train", str(data), *FETCH[:3], *words]) == 0
    own = tmp_path / "own.zarr"
    acting = [f"demonstrator={tmp_path / 'run'}", "noise=0.1", "keep=all", "episodes=2"]
    assert main(["collect", str(own), *acting, *FETCH]) == 0
    actions = Store.open(own).array("action")
    assert actions.shape == (40, 1)
    assert (
        main(
            [
                "evaluate",
                str(tmp_path / "run"),
                "episodes=2",
                "workers=0",
                f"out={tmp_path / 'r.json'}",
            ]
        )
        == 0
    )
    assert json.loads((tmp_path / "r.json").read_text())["task"] == "Pendulum-v1"


def test_data_of_another_arm_is_refused_with_the_words_that_mend_it(tmp_path, capsys):
    data = tmp_path / "ur.zarr"
    assert (
        main(
            [
                "collect",
                str(data),
                "task=lift",
                "task.options.robot=UR5e",
                "episodes=1",
                "workers=0",
            ]
        )
        == 0
    )
    assert main(["train", str(data), "task=lift", f"runs={tmp_path}"]) == 2
    assert (
        "was collected with robot UR5e, the task says None: train with task.options.robot=UR5e"
        in capsys.readouterr().err
    )
    assert (
        main(["train", str(data), "task=lift", "task.options.control=absolute", f"runs={tmp_path}"])
        == 2
    )
    assert "train with the task's own control" in capsys.readouterr().err


@pytest.fixture
def endless(tmp_path):
    """A collection in two worker processes that has kept some episodes and would go on for long."""
    out = tmp_path / "play.zarr"
    words = ["demonstrator=random", "keep=all", "episodes=100000", *FETCH[:3], "workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hotstart", "collect", str(out), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while (
        len(json.loads((out / "seeds.json").read_text()) if (out / "seeds.json").exists() else [])
        < 3
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield process, out
    for member in session(process.pid):
        os.kill(member, signal.SIGKILL)
    process.communicate()


def session(leader: int) -> list[int]:
    """The living processes of a session."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, *numbers = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(numbers[2]) == leader and state != "Z":
            members.append(int(folder.name))
    return members


def semaphores(leader: int) -> set[Path]:
    """The files of the semaphores that a session uses."""
    maps = "".join((Path("/proc") / str(member) / "maps").read_text() for member in session(leader))
    return {Path(name) for name in re.findall(r"/dev/shm/sem\.mp-\S+", maps)}


def blocks(process: int, *numbers: int) -> bool:
    """Whether these signals do not reach a process."""
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines()
    )
    held = int(lines["SigBlk"], 16) | int(lines["SigIgn"], 16)
    return all(held >> (number - 1) & 1 for number in numbers)


def is_alone(leader: int) -> bool:
    """Whether nothing of a session is left, or soon will be."""
    deadline = time.monotonic() + 15
    while session(leader) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not session(leader)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")


@needs_proc
def test_nothing_is_left_of_a_killed_collection(endless):
    process, out = endless
    assert not semaphores(process.pid)  # the files of these would be left
    assert len(session(process.pid)) >= 4  # itself, two workers, and those who look after them
    assert all(
        blocks(member, signal.SIGINT, signal.SIGHUP)
        for member in session(process.pid)
        if member != process.pid
    )
    process.kill()
    process.wait()
    assert is_alone(process.pid)
    kept = len(Store.open(out).episode_ends)
    assert kept >= 2  # three seeds are listed, each before its episode is written


@needs_proc
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_says_what_was_kept_and_leaves_nothing(number, status, endless):
    process, out = endless
    os.killpg(process.pid, number)  # as a terminal does, and as `timeout` does
    _, error = process.communicate(timeout=30)
    assert process.returncode == status
    kept = len(Store.open(out).episode_ends)
    assert (
        f"hotstart collect: stopped; {out} keeps {kept} of 100000 episodes; the same command goes "
        f"on from there" in error
    )
    assert "Traceback" not in error
    assert is_alone(process.pid)


@needs_proc
def test_a_killed_worker_says_what_was_kept(endless):
    process, out = endless
    workers = [member for member in session(process.pid) if worker_of_a_pool(member)]
    os.kill(workers[-1], signal.SIGKILL)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2
    assert (
        f"a worker process died, perhaps for want of memory: give fewer, as workers=1; {out} keeps "
        in error
    )
    assert "Traceback" not in error
    assert is_alone(process.pid)


def worker_of_a_pool(process: int) -> bool:
    """A child of the fork server."""
    parent = (Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split())[1]
    command = Path(f"/proc/{parent}/cmdline").read_text()
    return "forkserver" in command


def test_an_environment_that_never_says_success_is_not_tried_forty_times(tmp_path, capsys):
    words = [
        "task=gymnasium",
        "task.options.id=Pendulum-v1",
        "task.max_steps=5",
        "demonstrator=random",
        "workers=0",
        "episodes=2",
    ]
    assert main(["collect", str(tmp_path / "a.zarr"), *words]) == 2
    assert (
        "never says whether its task is fulfilled, so that no episode would be kept: say keep=all"
        in capsys.readouterr().err
    )
    assert main(["collect", str(tmp_path / "b.zarr"), *words, "keep=all"]) == 0


def test_collecting_loads_no_torch():
    """Every worker would load it, too: two seconds and 200 MB each."""
    code = "import sys, hotstart.commands.collect; print({'torch', 'scipy'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
