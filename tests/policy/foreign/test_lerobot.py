"""Policies of LeRobot: the same noise gives the same actions as LeRobot's own code.

Folders that cannot be run the same way are refused.
"""

import json
import os
import subprocess
from pathlib import Path

import hotstart
import numpy as np
import pytest
import torch
from hotstart.benchmarks._fuzz_files import LEROBOT_CONFIG
from hotstart.cli import main
from hotstart.policy import checkpoint
from hotstart.policy.diffusion.schedule import IndexTable, ddpm_levels, grid
from hotstart.policy.diffusion.solvers import DDIM
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.foreign.lerobot import call_inputs, import_policy
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import CheckpointError, ConfigError
from safetensors.torch import load_file, save_file

PEER = os.environ.get("HOTSTART_LEROBOT_PYTHON", "")
"""A Python with LeRobot 0.6 installed, in an environment of its own."""


@pytest.fixture(scope="module", params=["low_dim", "image"])
def answered(request, tmp_path_factory):
    """A folder that LeRobot wrote, and what its policy answered."""
    if not PEER:
        pytest.skip("set HOTSTART_LEROBOT_PYTHON to a Python with lerobot 0.6 and diffusers")
    folder = tmp_path_factory.mktemp("lerobot") / request.param
    script = Path(hotstart.__file__).parent / "benchmarks" / "_lerobot_peer.py"
    subprocess.run(
        [PEER, str(script), str(folder), request.param, "1", "32", "64"],
        check=True,
        capture_output=True,
    )
    return folder, np.load(folder / "answer.npz")


class Given:
    """Noise as the other side drew it."""

    def __init__(self, draws):
        self.draws, self.seeds, self.plans, self.device = (
            list(torch.as_tensor(draws)),
            np.zeros(3),
            np.zeros(3),
            "cpu",
        )

    def normal(self, *shape):
        return self.draws.pop(0) if self.draws else torch.zeros(3, *shape)


def test_the_same_noise_gives_the_same_actions(answered, monkeypatch):
    folder, answer = answered
    model = import_policy(folder)
    policy = DiffusionPolicy(model, Fresh(100, DDIM(1.0)))
    monkeypatch.setattr(
        "hotstart.policy.diffusion_policy.RowNoise", lambda *_: Given(answer["draws"])
    )
    state = policy.initial_state([0, 1, 2])
    keys = [name for name in answer.files if name.startswith("observation")]
    for tick in range(2):
        state = policy.observe(
            state, {name.rsplit(".", 1)[-1]: answer[name][:, tick] for name in keys}
        )
    planned = policy.plan(state, np.arange(3), np.zeros(3, int))
    half = model.normalizer.get_buffer("action__scale").numpy()
    assert planned.nfe.tolist() == [100] * 3
    np.testing.assert_allclose(planned.actions / half, answer["actions"] / half, atol=1e-4)


def test_it_is_warm_started_from_the_command_line(answered, tmp_path):
    folder, _ = answered
    out = tmp_path / "imported"
    assert (
        main(
            [
                "checkpoint",
                "import",
                str(folder),
                f"out={out}",
                "fps=10",
                "task=pusht",
                "names=observation.state:agent_pos",
            ]
        )
        == 0
    )
    model, meta = checkpoint.load(out)
    assert "agent_pos" in model.config.obs_spec.keys
    assert meta["rate_hz"] == 10
    policy = DiffusionPolicy(model, WarmStart(2, 0.2, cold=4))
    shown = {
        name: np.zeros((1, *key.shape), key.dtype)
        for name, key in model.config.obs_spec.keys.items()
    }
    state = policy.observe(policy.initial_state([0]), shown)
    first = policy.plan(state, np.zeros(1, int), np.zeros(1, int))
    second = policy.plan(policy.adopt(state, first), np.zeros(1, int), np.full(1, 8))
    assert (int(first.nfe[0]), int(second.nfe[0])) == (4, 2)
    with pytest.raises(ConfigError, match=r"sdp .*it knows constant"):
        DiffusionPolicy(model, Streaming())


def test_the_table_meets_every_index():
    levels = grid(IndexTable(100), 100)
    np.testing.assert_allclose(levels[:-1].flip(0), ddpm_levels(100), atol=1e-6)
    assert levels[-1] == 0
    schedule, times = IndexTable(100), torch.linspace(0, 1, 57, dtype=torch.float64)
    np.testing.assert_allclose(schedule.time(schedule.level(times)), times, atol=1e-9)
    with pytest.raises(ConfigError, match="indices is 1"):
        IndexTable(1)


# --- folders that cannot be taken over


@pytest.fixture
def folder(tmp_path):
    """A tiny folder made by hand as LeRobot writes one, with random weights.

    The statistics lie beside the weights, as in older folders.
    """
    from hotstart.policy.denoisers.published_unet import PublishedUnet

    mapping = {**LEROBOT_CONFIG["normalization_mapping"], "ACTION": "MIN_MAX"}
    config = {**LEROBOT_CONFIG, "normalization_mapping": mapping}
    (tmp_path / "config.json").write_text(json.dumps(config))
    unet = PublishedUnet(2, 2, 2, (8, 16), 3, 4, 8, True, 20)
    tensors = {
        f"diffusion.unet.{name}": value.contiguous() for name, value in unet.state_dict().items()
    }
    for part, feature in (
        ("normalize_inputs", "observation_state"),
        ("unnormalize_outputs", "action"),
    ):
        tensors[f"{part}.buffer_{feature}.min"] = torch.tensor([0.0, -1.0])
        tensors[f"{part}.buffer_{feature}.max"] = torch.tensor([10.0, 1.0])
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def change(folder, **keys):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


def test_a_folder_by_hand_is_taken_over_with_the_statistics_beside_the_weights(folder):
    model = import_policy(folder, {"observation.state": "where"})
    assert list(model.config.obs_spec.keys) == ["where"]
    assert model.normalizer.get_buffer("where__centre").tolist() == [5.0, 0.0]
    assert model.normalizer.get_buffer("action__scale").tolist() == [5.0, 1.0]
    assert model.regimes == ("constant",)


def test_a_folder_is_imported_in_python_and_acts(folder, tmp_path):
    names = {"observation.state": "agent_pos"}
    with pytest.raises(ConfigError, match=r"give fps=RATE_HZ and task=NAME"):
        hotstart.import_checkpoint(folder, tmp_path / "run", names=names)
    run = hotstart.import_checkpoint(folder, tmp_path / "run", fps=10, task="pusht", names=names)
    agent = hotstart.load(run, hotstart.WarmStart(steps=2))
    assert agent.rate_hz == 10
    assert np.isfinite(agent.act({"agent_pos": np.zeros(2)})).all()


def test_an_import_replaces_no_checkpoint_unasked(folder, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["checkpoint", "import", str(folder), f"out={out}", "task=pusht"]
    assert main([*words, "fps=10"]) == 0
    assert main([*words, "fps=20"]) == 2
    said = capsys.readouterr().err
    assert f"{out} is there already and is not overwritten unasked" in said
    assert f"as out={out}_2, or say overwrite=true" in said
    assert checkpoint.read_meta(out)["rate_hz"] == 10
    assert main([*words, "fps=20", "overwrite=true"]) == 0
    assert checkpoint.read_meta(out)["rate_hz"] == 20


def test_states_that_were_not_normalised_are_named(folder, tmp_path, capsys):
    words = [str(folder), f"out={tmp_path / 'run'}", "fps=10", "task=pusht"]
    assert main(["checkpoint", "import", *words]) == 0
    assert "was not normalised" not in capsys.readouterr().err
    change(folder, normalization_mapping={"ACTION": "MIN_MAX"})
    words[1] = f"out={tmp_path / 'again'}"
    assert main(["checkpoint", "import", *words]) == 0
    assert "note: state was not normalised" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"type": "act"}, "'act' policy; only LeRobot's diffusion"),
        ({"beta_schedule": "linear"}, "beta_schedule='linear'; only 'squaredcos_cap_v2'"),
        ({"clip_sample_range": 2.0}, "clip_sample_range=2.0"),
        ({"prediction_type": "v"}, "prediction_type='v'; epsilon, sample"),
        ({"normalization_mapping": {"STATE": "QUANTILES"}}, "normalised by QUANTILES"),
        ({"down_dims": [8, 32]}, "was expected from its configuration"),
        ({"down_dims": [8]}, "holds .* not known"),
    ],
)
def test_what_would_run_differently_is_refused(folder, keys, match):
    change(folder, **keys)
    with pytest.raises(CheckpointError, match=match):
        import_policy(folder)


def test_missing_statistics_and_files_are_named(folder, capsys):
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if "buffer_action" not in k}, folder / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"no statistics of action \(min\)"):
        import_policy(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        import_policy(folder)
    assert main(["checkpoint", "import", str(folder / "nowhere"), "fps=10", "task=pusht"]) == 2
    assert "save_pretrained wrote is wanted" in capsys.readouterr().err
    assert main(["checkpoint", "import", str(folder), "names=one"]) == 2
    assert "theirs:ours" in capsys.readouterr().err


def test_several_levels_in_one_plan_are_refused(folder):
    model = import_policy(folder)
    levels = torch.full((1, 8), 0.5)
    levels[0, 0] = 0.0
    with pytest.raises(ConfigError, match="one noise level for a whole plan"):
        model.network.modulation(levels)


# --- statistics, as LeRobot 0.6.1 reads them (processor/normalize_processor.py)


def statistics(folder, **changes):
    """Other statistics beside the weights, as `action_min=tensor`."""
    tensors = load_file(folder / "model.safetensors")
    where = {
        "action": "unnormalize_outputs.buffer_action",
        "state": "normalize_inputs.buffer_observation_state",
    }
    for name, value in changes.items():
        feature, _, kind = name.partition("_")
        tensors[f"{where[feature]}.{kind}"] = torch.as_tensor(value).clone()
    save_file(tensors, folder / "model.safetensors")


def their_transform(x, mode, inverse, **stats):
    """LeRobot's formulas, in float64."""
    if mode == "MEAN_STD":
        return (
            x * stats["std"] + stats["mean"]
            if inverse
            else (x - stats["mean"]) / (stats["std"] + 1e-8)
        )
    span = stats["max"] - stats["min"]
    span = np.where(span == 0, 1e-8, span)
    return (x + 1) / 2 * span + stats["min"] if inverse else 2 * (x - stats["min"]) / span - 1


@pytest.mark.parametrize("mode", ["MIN_MAX", "MEAN_STD"])
def test_numbers_that_never_change_and_others_are_read_by_lerobots_rule(mode, folder):
    change(folder, normalization_mapping={"STATE": mode, "ACTION": mode})
    kinds = {"MIN_MAX": ("min", "max"), "MEAN_STD": ("mean", "std")}[mode]
    first, second = (
        np.array([0.02, -1.0]),
        np.array([0.02, 3.0]) if mode == "MIN_MAX" else np.array([0.0, 3.0]),
    )
    own = dict(zip(kinds, (first, second), strict=True))
    statistics(
        folder,
        **{
            f"{feature}_{kind}": values
            for feature in ("action", "state")
            for kind, values in own.items()
        },
    )
    model = import_policy(folder)
    seen = np.array([[0.02, -1.0], [0.02, 0.7], [0.02, 3.0]])
    theirs = their_transform(seen, mode, False, **own)
    ours = model.normalizer.normalize("state", torch.as_tensor(seen, dtype=torch.float32))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    said = torch.tensor([[2.0, 1.0], [-1.0, -1.0], [0.0, 0.3]])
    found = model.normalizer.denormalize("action", said)
    np.testing.assert_allclose(
        found, their_transform(said.double().numpy(), mode, True, **own), atol=1e-6
    )
    assert found[:, 0].tolist() == [torch.tensor(0.02).item()] * 3


def test_ranges_however_small_are_divided_by_as_they_were_in_training(folder):
    statistics(folder, state_min=[1.0, 0.0], state_max=[1.0 + 2e-6, 2e-6])
    normalise = import_policy(folder).normalizer.normalize
    assert normalise("state", torch.tensor([1.0, 2e-6]))[1].item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action_min": [float("nan"), 0.0]}, "statistics action.min are .*finite"),
        ({"action_max": [float("inf"), 1.0]}, "finite"),
        ({"state_min": [1e38, 0.0], "state_max": [3e38, 1.0]}, "finite"),
        ({"action_min": [2.0, 1.5]}, "min above the max"),
        ({"state_min": [20.0, 0.0]}, "min above the max"),
        ({"state_min": [0.0]}, r"observation.state.min have the shape \(1,\)"),
        ({"state_min": torch.ones(2, dtype=torch.complex64)}, "complex"),
    ],
)
def test_statistics_that_no_data_have_are_refused(changes, words, folder):
    statistics(folder, **changes)
    with pytest.raises(CheckpointError, match=words):
        import_policy(folder)


def test_a_negative_standard_deviation_is_refused(folder):
    change(folder, normalization_mapping={"STATE": "MIN_MAX", "ACTION": "MEAN_STD"})
    statistics(folder, action_mean=[0.0, 0.0], action_std=[-1.0, 1.0])
    with pytest.raises(CheckpointError, match="must be at least 0"):
        import_policy(folder)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.tensor([float("nan"), 0.0]), "not finite"),
        (torch.tensor([1, 0]), "float32 is wanted"),
        (torch.ones(2, dtype=torch.complex64), "float32 is wanted"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(value, words, folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "diffusion.unet.final_conv.1.bias": value}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=words):
        import_policy(folder)


def test_no_missing_key_and_no_value_gets_past_as_anything_but_ours(folder):
    config = json.loads((folder / "config.json").read_text())
    odd = (
        None,
        True,
        -1,
        2**40,
        1e300,
        "x" * 10_000,
        [],
        {},
        [-1],
        ["x"],
        {"a": {}},
        [2**30, 2**30],
    )
    refused = 0
    for key in config:
        variants = [{k: v for k, v in config.items() if k != key}]
        variants += [{**config, key: value} for value in odd]
        for changed in variants:
            (folder / "config.json").write_text(json.dumps(changed))
            try:
                import_policy(folder)
            except CheckpointError as error:
                assert len(str(error)) < 1000
                refused += 1
    assert refused > 100


def test_the_rate_and_the_task_are_read_from_the_folder_or_asked_for(folder, tmp_path, capsys):
    words = ["checkpoint", "import", str(folder), f"out={tmp_path / 'out'}"]
    assert main(words) == 2
    assert "give fps=RATE_HZ and task=NAME" in capsys.readouterr().err
    (folder / "train_config.json").write_text(json.dumps({"env": {"type": "pusht", "fps": 25}}))
    assert main(words) == 0
    meta = checkpoint.read_meta(tmp_path / "out")
    assert (meta["rate_hz"], meta["task"]["env"]) == (25.0, "pusht")
    for odd in (
        None,
        [],
        {"env": None},
        {"env": {"type": ["pusht"], "fps": "fast"}},
        {"env": {"fps": -1, "type": "evil:mod"}},
    ):
        (folder / "train_config.json").write_text(json.dumps(odd))
        assert main(words[:-1]) == 2
        assert "give fps=RATE_HZ and task=NAME" in capsys.readouterr().err


def test_two_cameras_called_rgb_keep_names_of_their_own():
    state, front, wrist = (
        "observation.state",
        "observation.images.front.rgb",
        "observation.images.wrist.rgb",
    )
    assert call_inputs([state, front, wrist], {}) == {
        state: "state",
        front: "front_rgb",
        wrist: "wrist_rgb",
    }
    assert call_inputs([state, front, wrist], {front: "scene"})[wrist] == "wrist_rgb"
    with pytest.raises(CheckpointError, match=f"{front} and {wrist} would both be called 'cam'"):
        call_inputs([front, wrist], {front: "cam", wrist: "cam"})
