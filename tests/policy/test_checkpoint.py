"""Checkpoints: what is written comes back, what is wrong is named, what is hostile is refused, what is killed is whole."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import hotstart.policy
import pytest
import torch
import yaml
from hotstart.policy import checkpoint
from hotstart.policy.checkpoint import CONFIG, META, MODEL, config_from_plain, config_to_plain
from hotstart.spec import ActionDim, ActionSpec, CheckpointError, ObsKey, ObsSpec
from safetensors.torch import load_file, save_file

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A whole checkpoint; copied by those who break it."""
    sys.path.insert(0, str(TESTS))
    try:
        from conftest import make_model
    finally:
        sys.path.remove(str(TESTS))
    folder = tmp_path_factory.mktemp("good") / "last"
    checkpoint.save(folder, make_model(), {"step": 7, "task": "toy"})
    return folder


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "last")


def edit_config(folder: Path, change) -> None:
    plain = yaml.safe_load((folder / CONFIG).read_text())
    change(plain)
    (folder / CONFIG).write_text(yaml.safe_dump(plain, sort_keys=False))


def edit_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / MODEL)
    change(tensors)
    save_file(tensors, folder / MODEL)


# --- round trip


@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_what_is_saved_comes_back_to_the_bit(kind, tmp_path, tiny_model):
    model = tiny_model(kind, seed=3)
    checkpoint.save(tmp_path / "c", model, {"task": "toy", "step": 12})
    back, meta = checkpoint.load(tmp_path / "c")
    assert back.config == model.config
    assert (meta["task"], meta["step"], meta["format"]) == ("toy", 12, checkpoint.FORMAT)
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    state = back.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    x, level, seen = torch.randn(2, 12, 2), torch.rand(2, 12), {"state": torch.randn(2, 2, 2)}
    assert torch.equal(back.denoiser(x, level, back.encode(seen)), model.denoiser(x, level, model.encode(seen)))


def test_every_part_of_a_configuration_survives_yaml(tiny_config):
    config = tiny_config(
        "transformer",
        obs_spec=ObsSpec({"b": ObsKey((3, 2)), "a": ObsKey((), "float64"), "cam": ObsKey((4, 4, 3), "uint8", "image")}),
        action_spec=ActionSpec((ActionDim("x", "m"), ActionDim("grip", "", "discrete", False))),
        prediction="edm",
    )
    back = config_from_plain(yaml.safe_load(yaml.safe_dump(config_to_plain(config), sort_keys=False)))
    assert back == config
    assert list(back.obs_spec.keys) == ["b", "a", "cam"]  # the encoder joins them in this order


def test_a_run_stands_for_its_last_checkpoint_then_its_best(good, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(good, run / "checkpoints" / "best")
    assert checkpoint.find(run) == run / "checkpoints" / "best"
    shutil.copytree(good, run / "checkpoints" / "last")
    assert checkpoint.find(str(run)) == run / "checkpoints" / "last"
    assert checkpoint.find(run / "checkpoints") == run / "checkpoints" / "last"
    assert checkpoint.find(run / "checkpoints" / "best") == run / "checkpoints" / "best"
    with pytest.raises(CheckpointError, match=r"nowhere is no checkpoint: a folder with model\.safetensors"):
        checkpoint.find(tmp_path / "nowhere")


def test_training_state_comes_back_or_is_missed(folder, tmp_path, tiny_model):
    with pytest.raises(CheckpointError, match="holds no training state"):
        checkpoint.load_training_state(folder)
    tensors = {"optimizer.0.step": torch.tensor(3.0), "model.x": torch.randn(2, 2).T}  # not contiguous
    checkpoint.save(tmp_path / "c", tiny_model(), {}, tensors, {"step": 3, "best": None})
    back, state = checkpoint.load_training_state(tmp_path / "c")
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    assert state == {"step": 3, "best": None}


def test_the_versions_that_a_result_depends_on_are_named():
    found = checkpoint.versions()
    assert found["torch"] == torch.__version__
    assert {"hotstart", "numpy"} <= set(found)
    json.dumps(found)


# --- wrong


@pytest.mark.parametrize("name", ["normalizer.state__centre", "normalizer.action__half_range"])
def test_missing_statistics_are_named(folder, name):
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"no statistics for '{name[11:].replace('__', '.')}'"):
        checkpoint.load(folder)


def test_statistics_that_were_never_fitted_are_named(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"normalizer.state__half_range": torch.full((2,), torch.nan)}))
    with pytest.raises(CheckpointError, match="statistics of 'state' are missing or impossible"):
        checkpoint.load(folder)


def test_missing_weights_are_named(folder):
    edit_tensors(folder, lambda tensors: tensors.pop("network.out.1.bias"))
    with pytest.raises(CheckpointError, match=r"no weights for 'network\.out\.1\.bias'"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("normalizer.action__centre", r"statistics of 'action\.centre' have shape \(5,\).*says \(2,\)"),
        ("network.out.1.bias", r"weights of 'network\.out\.1\.bias' have shape \(5,\).*says \(2,\)"),
    ],
)
def test_another_shape_is_named(folder, name, message):
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(5)}))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_left_over_weights_are_named(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"network.extra": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"'network\.extra', which the configuration does not know"):
        checkpoint.load(folder)


def test_a_specification_that_does_not_fit_the_weights_is_named(folder):
    edit_config(folder, lambda plain: plain["action_spec"].append(dict(plain["action_spec"][0], name="one more")))
    with pytest.raises(CheckpointError, match=r"have shape .*specification in config\.yaml says"):
        checkpoint.load(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(folder, share):
    whole = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": "one"}', b"\xff\xfe\x00"])
def test_a_broken_meta_is_refused(folder, text):
    (folder / META).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=r"meta\.json"):
        checkpoint.load(folder)


def test_a_newer_format_says_to_upgrade(folder):
    (folder / META).write_text(json.dumps({"format": checkpoint.FORMAT + 1}))
    with pytest.raises(CheckpointError, match=r"format 2.*reads up to 1: upgrade"):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["", "3", "- a", "{", "a: [", b"\xff\xfe\x00", "encoder: {}"])
def test_a_broken_configuration_is_refused(folder, text):
    (folder / CONFIG).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=r"config\.yaml|cannot be loaded"):
        checkpoint.load(folder)


@pytest.mark.parametrize("key", ["encoder", "denoiser", "schedule", "prediction", "horizon", "obs_spec", "action_spec"])
@pytest.mark.parametrize("value", [None, 3, "text", ["list"], {"odd": 1}])
def test_no_value_in_a_configuration_leads_to_another_error(folder, key, value):
    edit_config(folder, lambda plain: plain.update({key: value}))
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("channels", "abc", "channels|cannot be loaded"),
        ("channels", [16, 2.5], "cannot be loaded"),
        ("groups", 0, "cannot be loaded"),
        ("depth", 3, r"denoiser\.depth is unknown; ConditionalUnet takes .*channels"),
    ],
)
def test_wrong_options_of_a_network_are_refused(folder, key, value, message):
    edit_config(folder, lambda plain: plain["denoiser"].update({key: value}))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", [MODEL, CONFIG, META])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        checkpoint.load(folder)


# --- hostile


@pytest.mark.parametrize("axis", ["encoder", "denoiser", "schedule"])
@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "evil_module_of_a_stranger.Thing",
        "hotstart.policy.checkpoint.shutil.rmtree",
        "hotstart.policy.diffusion.plans.Fresh",  # ours, but of another axis
        ["os.system"],
        None,
    ],
)
def test_a_foreign_target_is_refused_and_nothing_is_imported(folder, tmp_path, monkeypatch, axis, target):
    (tmp_path / "evil_module_of_a_stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    edit_config(folder, lambda plain: plain.update({axis: {"_target_": target, "command": f"touch {tmp_path}/ran"}}))
    before = set(sys.modules)
    with pytest.raises(
        CheckpointError, match=rf"{axis} names the target .*not one of hotstart's: hotstart\.policy.*Nothing was"
    ):
        checkpoint.load(folder)
    assert not (tmp_path / "ran").exists()
    assert set(sys.modules) == before


def test_yaml_that_would_make_python_objects_is_refused(folder, tmp_path):
    (folder / CONFIG).write_text(f"encoder: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
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
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        checkpoint.load(folder)
    (folder / "training_state").mkdir()
    (folder / "training_state" / "tensors.safetensors").write_bytes(pickled)
    with pytest.raises(CheckpointError, match="no training state"):
        checkpoint.load_training_state(folder)
    assert not (tmp_path / "ran").exists()


def test_no_policy_code_can_read_a_pickle():
    """torch.load, pickle and yaml's unsafe loaders are called nowhere in policy/, so no checkpoint can reach them."""
    forbidden = {"torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "np.load", "eval", "exec"}
    modules = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for path in Path(*hotstart.policy.__path__).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in forbidden, f"{path}:{node.lineno}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {node.module or ""} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
                assert not {name.split(".")[0] for name in names} & modules, f"{path}:{node.lineno}"


ENCODER_PLUGIN = """
from hotstart.policy.encoders.state import StateEncoder

class Mirrored(StateEncoder):
    def forward(self, observation):
        return -super().forward(observation)
"""


def test_an_installed_package_may_add_an_encoder(folder, tmp_path, monkeypatch):
    edit_config(folder, lambda plain: plain["encoder"].update({"_target_": "hs_test_plugin.Mirrored"}))
    (tmp_path / "hs_test_plugin.py").write_text(ENCODER_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="not one of hotstart's"):  # on the path, but not installed as one
        checkpoint.load(folder)
    info = tmp_path / "hs_test_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hs-test-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hotstart.encoders]\nmirrored = hs_test_plugin:Mirrored\n")
    model, _ = checkpoint.load(folder)
    assert type(model.encoder).__name__ == "Mirrored"


# --- disks that fill up, kills


def run_script(text: str, *arguments: object) -> str:
    """Standard output of a fresh Python that has tests/conftest.py's names; the arguments are strings in `args`."""
    head = "import runpy, sys\nargs = sys.argv[2:]\nglobals().update(runpy.run_path(sys.argv[1]))\n"
    command = [sys.executable, "-c", head + text, str(TESTS / "conftest.py"), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FULL_DISK = """
import resource, signal
from pathlib import Path
from hotstart.policy import checkpoint
from hotstart.spec import CheckpointError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit is then an error of the write, as on a full disk
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


def test_a_save_that_cannot_finish_leaves_the_one_before(tmp_path):
    lines = run_script(FULL_DISK, tmp_path / "last").splitlines()
    assert len(lines) == 8
    for mine, first in zip(lines[::2], lines[1::2], strict=True):
        assert "last could not be written" in mine
        assert "File too large" in mine
        assert "the one before it is untouched: make room, then go on" in mine
        assert "there is none before it" in first
    assert [path.name for path in tmp_path.iterdir()] == ["last"]  # nothing half-done is left to fill the disk
    assert checkpoint.load(tmp_path / "last")[1]["step"] == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True, check=False)
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
    with pytest.raises(CheckpointError, match=r"No space left.*one before it is untouched: make room"):
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
    \"\"\"A child that saves and is killed right before its `fatal`-th touch of the disk; False when it came through.\"\"\"
    child = os.fork()
    if child == 0:
        count = itertools.count()
        sys.addaudithook(lambda event, _: event in EVENTS and next(count) == fatal and os.kill(os.getpid(), signal.SIGKILL))
        checkpoint.save(folder, model, {"step": 2}, {"a": next(model.parameters())}, {})
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


checkpoint.save(base / "old" / "last", model, {"step": 1})
shutil.copytree(base / "old", base / "torn")  # what a kill between the two renames of an earlier save left
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


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    lines = [line.split() for line in run_script(KILLS, tmp_path).splitlines()]
    for start in ("old", "torn"):
        mine = [line[1:] for line in lines if line[0] == start]
        assert len(mine) > 15  # so many moments were tried
        assert mine[-1][0] == "False"
        steps = [line[1] for line in mine]
        assert steps == sorted(steps)  # the old one, and from the last rename on the new one
        assert set(steps) == {"1", "2"}
        assert all(line[2:] == ["3", "last"] for line in mine)


def test_a_kill_between_the_two_renames_is_put_right_by_whoever_comes_next(good, tmp_path):
    shutil.copytree(good, tmp_path / "run" / "checkpoints" / "last.before")
    shutil.copytree(good, tmp_path / "run" / "checkpoints" / "last.writing")
    (tmp_path / "run" / "checkpoints" / "last.writing" / MODEL).write_bytes(b"half")
    assert checkpoint.load(tmp_path / "run")[1]["step"] == 7
    assert (tmp_path / "run" / "checkpoints" / "last").is_dir()
