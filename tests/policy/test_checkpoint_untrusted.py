"""Checkpoints whose files were damaged or made by somebody who means ill: only our errors, in
bounded time and memory.
"""

import copy
import json
import resource
import time

import pytest
import torch
import yaml
from hotstart.policy import checkpoint
from hotstart.policy.checkpoint import CONFIG, HASHES, META, MODEL, STATE_COUNTERS, STATE_TENSORS
from hotstart.policy.checkpoint.outline import build_outline
from hotstart.policy.model import PolicyModel
from hotstart.spec import ActionSpec, CheckpointError, ConfigError, Horizon, ObsKey, ObsSpec
from safetensors.torch import load_file, save_file

ODD = (
    None,
    True,
    -1,
    0,
    2**40,
    1e300,
    float("nan"),
    "",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"a": 1},
    [None],
    ["x", -1],
)


def leaves(value, place=()):
    """Places of all values inside plain values, outermost first."""
    yield place
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        yield from leaves(part, (*place, key))


def put(value, place, new):
    """A copy with `new` at a place."""
    whole = copy.deepcopy([value])
    node, path = whole, (0, *place)
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = new
    return whole[0]


def rewrite_meta(folder, **changes):
    meta = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps({**meta, **changes}))


def write_tensors(folder, change):
    """Other weights, by somebody who knows no hash."""
    tensors = load_file(folder / MODEL)
    change(tensors)
    save_file(tensors, folder / MODEL)
    rewrite_meta(folder, **{HASHES: {}})


# --- hashes


def test_a_flipped_bit_of_the_weights_is_noticed(folder):
    raw = bytearray((folder / MODEL).read_bytes())
    raw[-5] ^= 1
    (folder / MODEL).write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not as it was written"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", [STATE_TENSORS, STATE_COUNTERS])
def test_a_flipped_bit_of_the_training_state_is_noticed(name, tmp_path, tiny_model):
    checkpoint.save(tmp_path / "c", tiny_model(), {}, {"a": torch.zeros(3)}, {"step": 4})
    assert checkpoint.load_training_state(tmp_path / "c")[1] == {"step": 4}
    path = tmp_path / "c" / name
    path.write_bytes(
        path.read_bytes().replace(b"4", b"5")
        if name == STATE_COUNTERS
        else path.read_bytes()[:-1] + b"\x01"
    )
    with pytest.raises(CheckpointError, match="is not as it was written"):
        checkpoint.load_training_state(tmp_path / "c")


def test_older_checkpoints_without_hashes_are_loaded(folder):
    meta = json.loads((folder / META).read_text())
    assert set(meta.pop(HASHES)) == {MODEL}
    (folder / META).write_text(json.dumps(meta))
    assert checkpoint.load(folder)[1]["step"] == 7


def test_a_new_meta_keeps_the_hashes_and_a_new_checkpoint_makes_its_own(
    folder, tmp_path, tiny_model
):
    meta = checkpoint.read_meta(folder)
    checkpoint.write_meta(folder, {**meta, "warm_start": {"start": 0.3}})
    checkpoint.load(folder)
    checkpoint.save(tmp_path / "other", tiny_model(seed=9), meta)
    checkpoint.load(tmp_path / "other")


# --- weights


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    write_tensors(folder, lambda tensors: tensors["network.out.1.bias"].fill_(value))
    with pytest.raises(CheckpointError, match=r"'network\.out\.1\.bias' .* not finite"):
        checkpoint.load(folder)


def test_weights_too_large_for_the_model_are_refused(folder):
    write_tensors(
        folder,
        lambda tensors: tensors.update(
            {"network.out.1.bias": torch.full((2,), 1e300, dtype=torch.double)}
        ),
    )
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.load(folder)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_of_another_kind_are_refused(folder, dtype):
    name = "network.out.1.bias"
    write_tensors(folder, lambda tensors: tensors.update({name: tensors[name].to(dtype)}))
    with pytest.raises(
        CheckpointError, match=r"'network\.out\.1\.bias' .* torch\.float32 is wanted"
    ):
        checkpoint.load(folder)


# --- sizes


@pytest.mark.parametrize(
    "change",
    [
        {"denoiser.channels": [16384, 16384]},
        {"denoiser.channels": [16] * 2_000},
        {"denoiser.level_width": 1 << 20},
        {"denoiser.kernel": (1 << 20) - 1},
        {"encoder.token_width": 1 << 20},
        {"encoder.token_width": 1 << 60},
        {"obs_spec.state.shape": [1 << 20, 1 << 20]},
        {"horizon.planned": 1 << 40},
        {"horizon.observed": 1 << 40, "horizon.planned": 1 << 41},
        {"anchors": 1 << 20},
        {"anchors": -1},
    ],
)
def test_nets_larger_than_their_weights_are_refused_before_memory_is_taken(folder, change):
    plain = yaml.safe_load((folder / CONFIG).read_text())
    for place, value in change.items():
        plain = put(plain, place.split("."), value)
    (folder / CONFIG).write_text(yaml.safe_dump(plain, sort_keys=False))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


PICTURES = ObsSpec({"cam": ObsKey((32, 32, 3), "uint8", "image"), "state": ObsKey((2,))})
WORDS = ObsSpec({"state": ObsKey((2,)), "say": ObsKey((96,), "uint8", "language")})
ENCODERS = {
    "hotstart.policy.encoders.image.ImageEncoder": ({"channels": 8, "stages": 2}, PICTURES),
    "hotstart.policy.encoders.published.PublishedEncoder": (
        {"grouped": True, "keypoints": 4},
        PICTURES,
    ),
    "hotstart.policy.encoders.language.InstructionEncoder": ({"buckets": 16}, WORDS),
}


@pytest.mark.parametrize("kind", ["unet", "transformer", "mode"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_outline_has_the_shapes_of_its_model_and_no_numbers(kind, encoder, tiny_config):
    options, spec = ENCODERS[encoder]
    changes = {"obs_spec": spec, "learned_weighting": True, "anchors": 3}
    config = tiny_config(kind, encoder={"_target_": encoder, **options}, **changes)
    wanted = {
        name: tuple(tensor.shape) for name, tensor in PolicyModel(config).state_dict().items()
    }
    outline = build_outline(config, wanted)
    assert {name: tuple(tensor.shape) for name, tensor in outline.state_dict().items()} == wanted
    assert all(parameter.is_meta for parameter in outline.parameters())


# --- values of all kinds in the text files


def test_no_value_in_the_configuration_gets_past_as_anything_but_ours(folder):
    plain = yaml.safe_load((folder / CONFIG).read_text())
    refused = 0
    for number, place in enumerate(leaves(plain)):
        for odd in (ODD[number % len(ODD)], ODD[(7 * number + 3) % len(ODD)]):
            (folder / CONFIG).write_text(yaml.safe_dump(put(plain, place, odd), sort_keys=False))
            refused += refuses(folder)
    assert refused > 50


def test_no_value_in_meta_gets_past_as_anything_but_ours(folder):
    meta = {
        "rate_hz": 10.0,
        "regimes": ["constant"],
        "action_scale": [1.0, 2.0],
        "warm_start": {"start": 0.3},
    }
    meta |= {
        "versions": {"torch": "2"},
        "dataset_hash": "x",
        "training": {},
        **checkpoint.read_meta(folder),
    }
    refused = 0
    for number, place in enumerate(leaves(meta)):
        for odd in ODD[number % 3 :: 3]:
            (folder / META).write_text(json.dumps(put(meta, place, odd)))
            refused += refuses(folder)
    assert refused > 50


def refuses(folder) -> bool:
    try:
        checkpoint.load(folder)
    except CheckpointError as error:
        assert len(str(error)) < 1500
        return True
    return False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate_hz": "fast"}, "rate_hz is 'fast'; it must be a number"),
        ({"rate_hz": -1.0}, "rate_hz is -1.0"),
        ({"rate_hz": float("nan")}, "rate_hz is nan"),
        ({"regimes": "constant"}, "regimes"),
        ({"regimes": [1]}, r"regimes is \[1\]"),
        ({"action_scale": [1.0, float("inf")]}, "action_scale"),
        ({"action_scale": [1.0]}, "1 normalised units of actions 2 wide"),
        ({"warm_start": {"start": 7}}, "warm starts begin at 7"),
        ({"warm_start": {}}, "warm starts begin at None"),
        ({HASHES: [1]}, "sha256"),
        ({"format": True}, "format"),
        ({"format": 99}, "upgrade hotstart"),
    ],
)
def test_what_is_odd_in_meta_is_named(folder, change, words):
    rewrite_meta(folder, **change)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(folder)


def test_a_message_about_an_expanding_configuration_is_short(folder):
    lines = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)
    )
    (folder / CONFIG).write_text(lines + "encoder: *a29\n")
    with pytest.raises(CheckpointError, match="more than 100,000 values") as caught:
        checkpoint.load(folder)
    assert len(str(caught.value)) < 300


# --- specifications


@pytest.mark.parametrize(
    "dims",
    [
        None,
        "x",
        [None],
        [{}],
        [{"name": 1}],
        [{"name": "x", "kind": "odd"}],
        [{"name": "x", "absolute": 1}],
        [{"name": "x", "more": 1}],
    ],
)
def test_an_action_specification_of_other_kinds_is_refused(dims):
    with pytest.raises(ConfigError, match="action_spec"):
        ActionSpec.from_json(dims)


@pytest.mark.parametrize(
    "key",
    [
        None,
        {},
        {"shape": 3},
        {"shape": [2.0]},
        {"shape": [-1]},
        {"shape": [True]},
        {"shape": [], "dtype": "object"},
        {"shape": [], "dtype": "f4,f4"},
        {"shape": [], "kind": "odd"},
        {"shape": [], "more": 1},
    ],
)
def test_an_observation_specification_of_other_kinds_is_refused(key):
    with pytest.raises(ConfigError, match="obs_spec"):
        ObsSpec.from_json({"a": key})


def test_a_horizon_is_of_whole_numbers():
    with pytest.raises(ConfigError, match="executed is True"):
        Horizon(executed=True)
