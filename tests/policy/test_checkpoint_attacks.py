"""Checkpoints of strangers, on full disks and through kills: refused, or whole."""

import ast
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import hotstart.policy
import pytest
import yaml
from hotstart.policy import checkpoint
from hotstart.policy.checkpoint import CONFIG, MODEL
from hotstart.spec import CheckpointError


def edit_config(folder: Path, change) -> None:
    plain = yaml.safe_load((folder / CONFIG).read_text())
    change(plain)
    (folder / CONFIG).write_text(yaml.safe_dump(plain, sort_keys=False))


# --- hostile


@pytest.mark.parametrize("axis", ["encoder", "denoiser", "schedule"])
@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "evil_module_of_a_stranger.Thing",
        "hotstart.policy.checkpoint.writer.shutil.rmtree",
        "hotstart.policy.samplers.fresh.Fresh",  # ours, but of another axis
        ["os.system"],
        None,
    ],
)
def test_a_foreign_target_is_refused_and_nothing_is_imported(
    folder, tmp_path, monkeypatch, axis, target
):
    (tmp_path / "evil_module_of_a_stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    checkpoint.load(folder)  # what torch imports for itself when a first model is built
    edit_config(
        folder,
        lambda plain: plain.update(
            {axis: {"_target_": target, "command": f"touch {tmp_path}/ran"}}
        ),
    )
    before = set(sys.modules)
    with pytest.raises(
        CheckpointError,
        match=rf"{axis} names the target .*not one of hotstart's: hotstart\.policy.*Nothing was",
    ):
        checkpoint.load(folder)
    assert not (tmp_path / "ran").exists()
    assert set(sys.modules) == before


def test_yaml_that_would_make_python_objects_is_refused(folder, tmp_path):
    (folder / CONFIG).write_text(
        f"encoder: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n"
    )
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(folder)
    assert not (tmp_path / "ran").exists()


class Hostile:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_is_never_read(folder, tmp_path):
    pickled = pickle.dumps(Hostile(tmp_path / "ran"))
    pickle.loads(pickled).close()  # it would work
    (tmp_path / "ran").unlink()
    for name in ("pytorch_model.bin", "model.pt", "training_state.pkl"):
        (folder / name).write_bytes(pickled)
    checkpoint.load(folder)  # what is not asked for is not looked at
    (folder / MODEL).write_bytes(pickled)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(folder)
    (folder / "training_state").mkdir()
    (folder / "training_state" / "tensors.safetensors").write_bytes(pickled)
    with pytest.raises(CheckpointError, match="no training state"):
        checkpoint.load_training_state(folder)
    assert not (tmp_path / "ran").exists()


def test_no_policy_code_can_read_a_pickle():
    """torch.load, pickle and yaml's unsafe loaders are called nowhere in policy/, so no checkpoint
    can reach them.

    Other people's files are read opcode by opcode, with `pickletools`, which runs nothing: see
    foreign/test_pickle_reader.py.
    """
    forbidden = {
        "torch.load",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "np.load",
        "eval",
        "exec",
    }
    modules = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for path in Path(*hotstart.policy.__path__).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in forbidden, f"{path}:{node.lineno}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    {node.module or ""}
                    if isinstance(node, ast.ImportFrom)
                    else {alias.name for alias in node.names}
                )
                found = {name.split(".")[0] for name in names} & modules
                assert not found, f"{path}:{node.lineno}"


ENCODER_PLUGIN = """
from hotstart.policy.encoders.state import StateEncoder

class Mirrored(StateEncoder):
    def forward(self, observation):
        return -super().forward(observation)
"""


def test_an_installed_package_may_add_an_encoder(folder, tmp_path, monkeypatch):
    edit_config(
        folder, lambda plain: plain["encoder"].update({"_target_": "hs_test_plugin.Mirrored"})
    )
    (tmp_path / "hs_test_plugin.py").write_text(ENCODER_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        CheckpointError, match="not one of hotstart's"
    ):  # on the path, but not installed as one
        checkpoint.load(folder)
    info = tmp_path / "hs_test_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hs-test-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[hotstart.encoders]\nmirrored = hs_test_plugin:Mirrored\n"
    )
    model, _ = checkpoint.load(folder)
    assert type(model.encoder).__name__ == "Mirrored"


# --- disks that fill up, kills


FULL_DISK = """
import resource, signal
from pathlib import Path
from hotstart.policy import checkpoint
from hotstart.spec import CheckpointError

# Writing past the limit is then an error of the write, as on a full disk.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, model = Path(args[0]), make_model()
checkpoint.save(folder, model, {"step": 1})
size = (folder / "model.safetensors").stat().st_size
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
tensors = {"big": next(model.parameters()).new_zeros(size)}
for limit, more in ((0, {}), (100, {}), (size // 2, {}), (size, {"state_tensors": tensors})):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    for name in (folder, folder.with_name("first")):
        try:
            checkpoint.save(name, model, {"step": 2}, **more)
        except CheckpointError as error:
            print(error)
        else:
            print("no error")
"""


def test_a_save_that_cannot_finish_leaves_the_one_before(tmp_path, fresh_python):
    done = fresh_python(FULL_DISK, tmp_path / "last")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 8
    for mine, first in zip(lines[::2], lines[1::2], strict=True):
        assert "last could not be written" in mine
        assert "File too large" in mine
        assert "the one before it is untouched: make room, then go on" in mine
        assert "there is none before it" in first
    assert [path.name for path in tmp_path.iterdir()] == [
        "last"
    ]  # nothing half-done is left to fill the disk
    assert checkpoint.load(tmp_path / "last")[1]["step"] == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_really_full(small_disk, tiny_model):
    model, last = tiny_model(), small_disk / "last"
    checkpoint.save(last, model, {"step": 1})
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    with pytest.raises(
        CheckpointError, match=r"No space left.*one before it is untouched: make room"
    ):
        checkpoint.save(last, model, {"step": 2})
    assert checkpoint.load(last)[1]["step"] == 1
    filler.unlink()
    checkpoint.save(last, model, {"step": 3})  # room was made
    assert checkpoint.load(last)[1]["step"] == 3


KILLS = """
import itertools, os, shutil, signal
from pathlib import Path
from hotstart.policy import checkpoint

base, model = Path(args[0]), make_model(denoiser={**DENOISERS["unet"], "channels": [4]})
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


def killed_save(folder, fatal):
    \"\"\"A child that saves and is killed right before its `fatal`-th touch of the disk.

    False when it came through.
    \"\"\"
    child = os.fork()
    if child == 0:
        count = itertools.count()
        def die(event, _):
            if event in EVENTS and next(count) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        checkpoint.save(folder, model, {"step": 2}, {"a": next(model.parameters())}, {})
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


checkpoint.save(base / "old" / "last", model, {"step": 1})
# What a kill between the two renames of an earlier save left.
shutil.copytree(base / "old", base / "torn")
(base / "torn" / "last").rename(base / "torn" / "last.before")
shutil.copytree(base / "old" / "last", base / "torn" / "last.writing")
for start in ("old", "torn"):
    for fatal in itertools.count():
        shutil.rmtree(base / "now", ignore_errors=True)
        shutil.copytree(base / start, base / "now")
        killed = killed_save(base / "now" / "last", fatal)
        step = checkpoint.load(base / "now" / "last")[1]["step"]
        checkpoint.save(base / "now" / "last", model, {"step": 3})  # and life goes on
        left = sorted(path.name for path in (base / "now").iterdir())
        print(start, killed, step, checkpoint.read_meta(base / "now" / "last")["step"], *left)
        if not killed:
            break
"""


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path, fresh_python):
    done = fresh_python(KILLS, tmp_path)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    for start in ("old", "torn"):
        mine = [line[1:] for line in lines if line[0] == start]
        assert len(mine) > 15  # so many moments were tried
        assert mine[-1][0] == "False"
        steps = [line[1] for line in mine]
        assert steps == sorted(steps)  # the old one, and from the last rename on the new one
        assert set(steps) == {"1", "2"}
        assert all(line[2:] == ["3", "last"] for line in mine)


def test_a_kill_between_the_two_renames_is_put_right_by_the_next_writer_and_by_no_reader(
    good, tmp_path, tiny_model
):
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(good, folder / "last.before")
    shutil.copytree(good, folder / "last.writing")
    (folder / "last.writing" / MODEL).write_bytes(b"half")
    assert checkpoint.find(tmp_path / "run") == folder / "last.before"
    assert checkpoint.load(tmp_path / "run")[1]["step"] == 7
    assert checkpoint.load(folder / "last")[1]["step"] == 7
    assert sorted(path.name for path in folder.iterdir()) == [
        "last.before",
        "last.writing",
    ]  # the writer may be at it
    assert (checkpoint.recover(folder / "last") / MODEL).is_file()
    checkpoint.save(folder / "last", tiny_model(), {"step": 8})
    assert [path.name for path in folder.iterdir()] == ["last"]
