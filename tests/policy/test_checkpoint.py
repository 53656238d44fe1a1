"""Checkpoints: what is written comes back, what is wrong is named."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hotstart.policy import checkpoint
from hotstart.policy.checkpoint import CONFIG, META, MODEL, config_from_plain, config_to_plain
from hotstart.spec import ActionDim, ActionSpec, CheckpointError, ObsKey, ObsSpec
from hotstart.system.versions import versions
from packaging.version import Version
from safetensors.torch import load_file, save_file


def edit_config(folder: Path, change) -> None:
    plain = yaml.safe_load((folder / CONFIG).read_text())
    change(plain)
    (folder / CONFIG).write_text(yaml.safe_dump(plain, sort_keys=False))


def edit_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / MODEL)
    change(tensors)
    save_file(tensors, folder / MODEL)
    meta = json.loads((folder / META).read_text())
    meta["sha256"][MODEL] = hashlib.sha256(
        (folder / MODEL).read_bytes()
    ).hexdigest()  # written so, and not damaged later
    (folder / META).write_text(json.dumps(meta))


# --- round trip


@pytest.mark.parametrize("kind", ["unet", "transformer", "mode"])
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
    assert torch.equal(
        back.denoiser(x, level, back.encode(seen)), model.denoiser(x, level, model.encode(seen))
    )


def test_every_part_of_a_configuration_survives_yaml(tiny_config):
    config = tiny_config(
        "transformer",
        obs_spec=ObsSpec(
            {
                "b": ObsKey((3, 2)),
                "a": ObsKey((), "float64"),
                "cam": ObsKey((4, 4, 3), "uint8", "image"),
            }
        ),
        action_spec=ActionSpec((ActionDim("x", "m"), ActionDim("grip", "", "discrete", False))),
        prediction="edm",
    )
    back = config_from_plain(
        yaml.safe_load(yaml.safe_dump(config_to_plain(config), sort_keys=False))
    )
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
    with pytest.raises(
        CheckpointError, match=r"nowhere is no checkpoint: a folder with model\.safetensors"
    ):
        checkpoint.find(tmp_path / "nowhere")


def test_training_state_comes_back_or_is_missed(folder, tmp_path, tiny_model):
    with pytest.raises(CheckpointError, match="holds no training state"):
        checkpoint.load_training_state(folder)
    tensors = {
        "optimizer.0.step": torch.tensor(3.0),
        "model.x": torch.randn(2, 2).T,
    }  # not contiguous
    checkpoint.save(tmp_path / "c", tiny_model(), {}, tensors, {"step": 3, "best": None})
    back, state = checkpoint.load_training_state(tmp_path / "c")
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    assert state == {"step": 3, "best": None}


def test_the_versions_that_a_result_depends_on_are_named():
    found = versions()
    assert (
        Version(found["torch"]).public == Version(torch.__version__).public
    )  # +cu130 is in one of the two only
    assert {"hotstart", "numpy"} <= set(found)
    json.dumps(found)


# --- wrong


@pytest.mark.parametrize("name", ["normalizer.state__centre", "normalizer.action__scale"])
def test_missing_statistics_are_named(folder, name):
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(
        CheckpointError, match=f"no statistics for '{name[11:].replace('__', '.')}'"
    ):
        checkpoint.load(folder)


def test_statistics_that_were_never_fitted_are_named(folder):
    edit_tensors(
        folder,
        lambda tensors: tensors.update({"normalizer.state__scale": torch.full((2,), torch.nan)}),
    )
    with pytest.raises(CheckpointError, match="statistics of 'state' are missing or impossible"):
        checkpoint.load(folder)


def test_missing_weights_are_named(folder):
    edit_tensors(folder, lambda tensors: tensors.pop("network.out.1.bias"))
    with pytest.raises(CheckpointError, match=r"no weights for 'network\.out\.1\.bias'"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "normalizer.action__centre",
            r"statistics of 'action\.centre' have shape \(5,\).*says \(2,\)",
        ),
        (
            "network.out.1.bias",
            r"weights of 'network\.out\.1\.bias' have shape \(5,\).*says \(2,\)",
        ),
    ],
)
def test_another_shape_is_named(folder, name, message):
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(5)}))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_left_over_weights_are_named(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"network.extra": torch.zeros(1)}))
    with pytest.raises(
        CheckpointError, match=r"'network\.extra', which the configuration does not know"
    ):
        checkpoint.load(folder)


def test_a_specification_that_does_not_fit_the_weights_is_named(folder):
    edit_config(
        folder,
        lambda plain: plain["action_spec"].append(dict(plain["action_spec"][0], name="one more")),
    )
    with pytest.raises(CheckpointError, match=r"have shape .*specification in config\.yaml says"):
        checkpoint.load(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(folder, share):
    whole = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": "one"}', b"\xff\xfe\x00"])
def test_a_broken_meta_is_refused(folder, text):
    (folder / META).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=r"meta\.json"):
        checkpoint.load(folder)


def test_a_newer_format_says_to_upgrade(folder):
    (folder / META).write_text(json.dumps({"format": checkpoint.FORMAT + 1}))
    with pytest.raises(CheckpointError, match=r"format 3.*reads up to 2: upgrade"):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["", "3", "- a", "{", "a: [", b"\xff\xfe\x00", "encoder: {}"])
def test_a_broken_configuration_is_refused(folder, text):
    (folder / CONFIG).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=r"config\.yaml|cannot be loaded"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "key", ["encoder", "denoiser", "schedule", "prediction", "horizon", "obs_spec", "action_spec"]
)
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
