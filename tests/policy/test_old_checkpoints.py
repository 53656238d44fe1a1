"""Checkpoints of format 1: their old names are converted as they are read, and no others are."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import yaml
from hotstart.policy import checkpoint
from hotstart.policy.checkpoint import (
    CONFIG,
    HASHES,
    META,
    MODEL,
    STATE_COUNTERS,
    STATE_TENSORS,
    old_format,
)
from hotstart.policy.model import PolicyModel
from hotstart.spec import TEXT_KEY, ActionDim, ActionSpec, CheckpointError, ObsKey, ObsSpec
from safetensors.torch import load_file, save_file

OLD_TENSORS = {
    ".up_projection": ".widen",
    ".down_projection": ".narrow",
    "__scale": "__half_range",
    "learned_weighting.": "uncertainty.",
    "encoder.text_encoder.": "encoder.words.",
    "encoder.unconditional_token": "encoder.nothing",
}
META_NOW = {
    "action_scale": [1.0, 2.0, 3.0],
    "training": {"steps": 5, "learned_weighting": True},
    "task": {
        "env": "square",
        "options": {"control": "absolute", "rotation": "rotation_6d"},
        "max_steps": 9,
    },
    "step": 5,
}
META_THEN = {
    "format": 1,
    "action_half_range": [1.0, 2.0, 3.0],
    "training": {"steps": 5, "uncertainty": True},
    "task": {
        "env": "square",
        "options": {"control": "absolute", "turns": "matrix"},
        "max_steps": 9,
    },
    "step": 5,
}


def make_model(tiny_config) -> PolicyModel:
    """A model in which every part that was renamed occurs."""
    config = tiny_config(
        "mode",
        obs_spec=ObsSpec({"state": ObsKey((2,)), "instruction": TEXT_KEY}),
        action_spec=ActionSpec(tuple(ActionDim(f"r{axis}", "rad", "rotation") for axis in "xyz")),
        encoder={
            "_target_": "hotstart.policy.encoders.language.InstructionEncoder",
            "text_encoder": "learned",
            "buckets": 16,
            "condition_dropout": 0.1,
        },
        actions={
            "_target_": "hotstart.policy.actions.Representation",
            "rotation": "rotation_6d",
        },
        learned_weighting=True,
    )
    torch.manual_seed(0)
    model = PolicyModel(config)
    for statistic in model.normalizer.buffers():
        statistic.uniform_(0.5, 1)
    return model.eval()


def write_old_tensors(path: Path) -> str:
    """The same tensors by their old names; returns the file's SHA-256."""
    renamed = {}
    for name, tensor in load_file(path).items():
        for new, old in OLD_TENSORS.items():
            name = name.replace(new, old)
        renamed[name] = tensor
    save_file(renamed, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_old_config(path: Path) -> None:
    plain = yaml.safe_load(path.read_text())
    plain["uncertain"] = plain.pop("learned_weighting")
    plain["denoiser"]["drawn"] = True
    plain["actions"]["rotation"] = "matrix"
    plain["encoder"] = {
        "_target_": "hotstart.policy.encoders.language.Instructed",
        "words": "learned",
        "buckets": 16,
        "dropped": 0.1,
    }
    path.write_text(yaml.safe_dump(plain, sort_keys=False))


@pytest.fixture
def old(tiny_config, tmp_path):
    """(folder of format 1, the model in it)."""
    model, folder = make_model(tiny_config), tmp_path / "old"
    state = {f"model.{name}": tensor + 1.0 for name, tensor in model.state_dict().items()}
    checkpoint.save(folder, model, META_NOW, state, {"step": 5})
    write_old_config(folder / CONFIG)
    hashes = {name: write_old_tensors(folder / name) for name in (MODEL, STATE_TENSORS)}
    hashes[STATE_COUNTERS] = hashlib.sha256((folder / STATE_COUNTERS).read_bytes()).hexdigest()
    (folder / META).write_text(json.dumps({**META_THEN, HASHES: hashes}))
    return folder, model


def test_an_old_checkpoint_loads_with_equal_tensors(old):
    folder, model = old
    names = load_file(folder / MODEL).keys()
    for word in OLD_TENSORS.values():
        assert any(word in name for name in names), word
    loaded, meta = checkpoint.load(folder)
    assert loaded.config.denoiser["stochastic_routing"] is True
    assert loaded.config.actions == model.config.actions
    assert loaded.config.encoder == model.config.encoder
    assert loaded.config.learned_weighting
    wanted = model.state_dict()
    assert loaded.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())
    assert {key: meta[key] for key in META_NOW} == META_NOW
    assert "action_half_range" not in meta


def test_an_old_training_state_has_the_names_of_today(old):
    folder, model = old
    tensors, counters = checkpoint.load_training_state(folder)
    wanted = model.state_dict()
    assert tensors.keys() == {f"model.{name}" for name in wanted}
    assert all(torch.equal(tensors[f"model.{name}"], wanted[name] + 1.0) for name in wanted)
    assert counters == {"step": 5}


def test_an_old_checkpoint_that_is_saved_again_has_the_new_format(old, tmp_path):
    folder, _ = old
    model, meta = checkpoint.load(folder)
    checkpoint.save(tmp_path / "new", model, meta)
    assert checkpoint.read_meta(tmp_path / "new")["format"] == checkpoint.FORMAT
    assert load_file(tmp_path / "new" / MODEL).keys() == model.state_dict().keys()
    again, _ = checkpoint.load(tmp_path / "new")
    assert again.config == model.config


def test_a_new_meta_in_an_old_folder_leaves_it_readable(old):
    """As a calibration does: the tensors keep their old names, so the format has to stay."""
    folder, _ = old
    checkpoint.write_meta(folder, {**checkpoint.read_meta(folder), "warm_start": {"start": 0.4}})
    assert checkpoint.load(folder)[0].measured_start == 0.4


def test_an_old_file_of_tensors_is_still_checked_by_its_hash(old):
    folder, _ = old
    raw = bytearray((folder / MODEL).read_bytes())
    raw[-5] ^= 1
    (folder / MODEL).write_bytes(raw)
    with pytest.raises(CheckpointError, match="is not as it was written"):
        checkpoint.load(folder)


def test_an_old_key_that_nobody_knows_is_refused(old):
    folder, _ = old
    plain = yaml.safe_load((folder / CONFIG).read_text())
    plain["denoiser"]["drawn_twice"] = True
    (folder / CONFIG).write_text(yaml.safe_dump(plain))
    with pytest.raises(CheckpointError, match=r"denoiser\.drawn_twice is unknown"):
        checkpoint.load(folder)


def test_an_old_tensor_that_nobody_knows_is_refused(old):
    folder, _ = old
    tensors = load_file(folder / MODEL)
    tensors["network.blocks.0.experts.broaden"] = torch.zeros(1)
    save_file(tensors, folder / MODEL)
    (folder / META).write_text(json.dumps(META_THEN))
    with pytest.raises(CheckpointError, match=r"broaden', which the configuration does not know"):
        checkpoint.load(folder)


def test_a_tensor_by_its_old_and_its_new_name_is_refused(old):
    folder, _ = old
    tensors = load_file(folder / MODEL)
    tensors["encoder.unconditional_token"] = tensors["encoder.nothing"].clone()
    save_file(tensors, folder / MODEL)
    (folder / META).write_text(json.dumps(META_THEN))
    with pytest.raises(CheckpointError, match=r"'encoder\.unconditional_token' twice"):
        checkpoint.load(folder)


def test_old_names_are_refused_in_the_new_format(old):
    folder, _ = old
    meta = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps({**meta, "format": checkpoint.FORMAT}))
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "odd", [None, 3, "text", ["list"], {"options": 3}, {"options": {"turns": []}}]
)
def test_odd_values_in_an_old_meta_are_no_other_error(old, odd):
    folder, _ = old
    meta = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps({**meta, "task": odd}))
    checkpoint.load(folder)
    (folder / META).write_text(json.dumps({**meta, "training": odd, "action_half_range": odd}))
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


@pytest.mark.parametrize("key", ["encoder", "denoiser", "actions"])
@pytest.mark.parametrize("odd", [None, 3, ["list"], {"_target_": ["list"]}, {"_target_": {}}])
def test_odd_parts_of_an_old_configuration_are_no_other_error(old, key, odd):
    folder, _ = old
    plain = yaml.safe_load((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(yaml.safe_dump({**plain, key: odd}))
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


def test_other_peoples_parts_keep_their_keys():
    part = {"_target_": "somebody.Encoder", "words": 3, "dropped": 0.1, "rotation": "matrix"}
    assert old_format.convert_config({"encoder": part}) == {"encoder": part}
