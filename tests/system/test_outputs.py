"""Where commands write: tried before the work, whole or not at all, never over another file
unasked.
"""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hotstart.cli import main
from hotstart.configs import compose
from hotstart.spec import ConfigError
from hotstart.system import outputs

FULL = Path("/dev/full")


def test_a_file_that_is_there_is_kept_unless_told(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    (tmp_path / "result_2.json").write_text("older")
    with pytest.raises(
        ConfigError, match=r"is there already .* as out=\S+result_3\.json, or say overwrite=true"
    ):
        outputs.check_file(path, overwrite=False)
    outputs.check_file(path, overwrite=True)
    assert path.read_text() == "old"
    outputs.write_text(path, "new")
    assert path.read_text() == "new"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["result.json", "result_2.json"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "is a folder; name a file in it"),
        ("file/result.json", "cannot be written: "),
        ("x" * 254, "cannot be written: File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(place, message, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=message):
        outputs.check_file(tmp_path / place, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_which_nothing_can_be_written_is_refused():
    with pytest.raises(ConfigError, match="video=/sys/hotstart cannot be written"):
        outputs.check_folder(Path("/sys/hotstart"), "video")


def test_pipes_and_devices_are_written_into_and_stay_what_they_are(tmp_path):
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    listening = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    listening.start()
    outputs.check_file(pipe, overwrite=False)
    outputs.write_text(pipe, "a result")
    listening.join(5)
    assert heard == ["a result"]
    assert pipe.is_fifo()
    outputs.write_text(Path("/dev/null"), "a result")
    assert Path("/dev/null").is_char_device()


def test_a_redirected_stdout_is_no_file_to_replace(tmp_path):
    text = "from pathlib import Path; from hotstart.system import outputs; "
    text += "print('first', flush=True); outputs.check_file(Path('/dev/stdout'), False); "
    text += "outputs.write_text(Path('/dev/stdout'), 'second')"
    with (tmp_path / "out.txt").open("w") as file:
        subprocess.run([sys.executable, "-c", text], stdout=file, check=True, timeout=60)
    assert (tmp_path / "out.txt").read_text() == "first\nsecond"
    assert Path("/dev/stdout").is_symlink()


def test_what_does_not_fit_leaves_the_old_file_and_nothing_half(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as a full disk ends a file early
    try:
        with pytest.raises(OSError, match="File too large"):
            outputs.write_text(path, "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "deep.json")
    outputs.check_file(tmp_path / "link.json", overwrite=False)
    outputs.write_text(tmp_path / "link.json", "text")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "deep.json").read_text() == "text"


def test_a_full_disk_is_a_message_not_a_traceback(capsys, monkeypatch):
    """The system's own refusal, through the door; /dev/full is a disk without room."""
    monkeypatch.setattr(
        "hotstart.cli.run_verb", lambda verb, arguments: outputs.write_text(FULL, "a result\n")
    )
    assert main(["compare"]) == 2
    assert "No space left on device: make room" in capsys.readouterr().err


def test_a_file_that_cannot_be_opened_is_named(capsys, monkeypatch):
    monkeypatch.setattr(
        "hotstart.cli.run_verb", lambda verb, arguments: Path("/nowhere/at/all").read_text()
    )
    assert main(["compare"]) == 2
    assert (
        capsys.readouterr().err == "hotstart compare: /nowhere/at/all: No such file or directory\n"
    )


def test_two_combinations_that_write_to_one_place_are_refused(capsys):
    words = [
        "evaluate",
        "x",
        "--multirun",
        "inference=ddim,rti",
        "seed=1,2",
        "out='r_${seed}.json'",
    ]
    assert main(words) == 2
    assert "two combinations of --multirun would write to out=r_1.json" in capsys.readouterr().err


def test_a_sweep_over_paths_writes_beside_and_not_below():
    runs = compose.sweep("evaluate", ["checkpoint=runs/a,runs/b", "video=v"])
    for name, run in zip("ab", runs, strict=True):
        assert sorted(run) == [
            f"checkpoint=runs/{name}",
            f"out='result_runs-{name}.json'",
            f"video='v_runs-{name}'",
        ]


def test_no_combination_starts_where_a_later_one_cannot_be_written(tmp_path, capsys):
    (tmp_path / "r_4.json").write_text("old")
    words = ["evaluate", "nowhere", "--multirun", "inference.steps=2,4", f"out={tmp_path}/r.json"]
    assert main(words) == 2
    assert (
        "r_4.json is there already" in capsys.readouterr().err
    )  # and not that there is no checkpoint
