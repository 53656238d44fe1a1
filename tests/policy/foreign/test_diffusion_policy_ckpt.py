"""Diffusion Policy's `.ckpt`: a file made by hand with its documented keys, and hostile pickles."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from hotstart.cli import main
from hotstart.policy import checkpoint
from hotstart.policy.denoisers.published_unet import PublishedUnet
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.foreign.diffusion_policy import import_ckpt
from hotstart.policy.foreign.pickle_reader import Placeholder, read_tensors
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import CheckpointError

BACK = ((".conv1.block.", ".blocks.0.block."), (".conv2.block.", ".blocks.1.block."))


class Configuration:
    """Stands for what Diffusion Policy pickles beside its weights."""

    def __init__(self):
        self.horizon = 16


def theirs(unet):
    """The weights by Diffusion Policy's names."""
    named = {}
    for name, tensor in unet.state_dict().items():
        for ours, other in BACK:
            name = name.replace(ours, other)
        parts = name.split(".")
        if parts[0] in ("down_modules", "up_modules") and parts[2] == "2":
            name = ".".join([*parts[:3], "conv", *parts[3:]])
        named[f"model.{name}"] = tensor
    return named


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return PublishedUnet(2, 2, 5, (16, 32), 3, 8, 16, True)


@pytest.fixture
def ckpt(tmp_path, unet):
    """A `.ckpt` with other weights beside the averaged ones, and a pickled configuration."""
    scales = {
        "normalizer.params_dict.obs.scale": torch.full((5,), 0.5),
        "normalizer.params_dict.obs.offset": torch.full((5,), -1.0),
        "normalizer.params_dict.action.scale": torch.tensor([0.1, 2.0]),
        "normalizer.params_dict.action.offset": torch.tensor([0.0, 1.0]),
        "mask_generator._dummy_variable": torch.empty(0),
    }
    other = {name: torch.zeros_like(tensor) for name, tensor in theirs(unet).items()}
    states = {"ema_model": {**theirs(unet), **scales}, "model": {**other, **scales}}
    path = tmp_path / "latest.ckpt"
    torch.save({"cfg": Configuration(), "state_dicts": states, "pickles": {"epoch": b"..."}}, path)
    return path


def test_its_weights_and_statistics_are_taken_over(ckpt, unet):
    model = import_ckpt(ckpt, "keypoints")
    for name, tensor in unet.state_dict().items():
        assert torch.equal(model.network.get_parameter(name), tensor)
    assert model.config.horizon.observed == 2
    assert (model.network.channels, model.network.step_width) == ((16, 32), 16)
    x = torch.full((1, 2, 5), 4.0)
    torch.testing.assert_close(model.normalizer.normalize("keypoints", x), 0.5 * x - 1)
    torch.testing.assert_close(
        model.normalizer.denormalize("action", torch.zeros(1, 2)), torch.tensor([[0.0, -0.5]])
    )


def test_from_the_command_line_to_a_warm_start(ckpt, tmp_path):
    out = tmp_path / "imported"
    assert (
        main(
            [
                "checkpoint",
                "import",
                str(ckpt),
                "fps=20",
                "task=lift",
                f"out={out}",
                "names=obs:state",
            ]
        )
        == 0
    )
    assert checkpoint.read_meta(out)["rate_hz"] == 20
    assert checkpoint.read_meta(out)["task"]["env"] == "lift"
    model, _ = checkpoint.load(out)
    policy = DiffusionPolicy(model, WarmStart(1, 0.3, cold=2))
    state = policy.observe(policy.initial_state([1]), {"state": np.zeros((1, 5), np.float32)})
    first = policy.plan(state, np.zeros(1, int), np.zeros(1, int))
    second = policy.plan(policy.adopt(state, first), np.zeros(1, int), np.full(1, 8))
    assert np.isfinite(second.actions).all()
    assert int(second.nfe[0]) == 1


def test_nothing_that_is_pickled_is_run(tmp_path):
    mark = tmp_path / "mark"

    class Attack:
        def __reduce__(self):
            return open, (str(mark), "w")

    torch.save(
        {"state_dicts": {"ema_model": {"x": torch.arange(3.0)}}, "cfg": Attack()},
        tmp_path / "a.ckpt",
    )
    content = read_tensors(tmp_path / "a.ckpt")
    assert not mark.exists()
    assert isinstance(content["cfg"], Placeholder)
    assert content["state_dicts"]["ema_model"]["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_tensors_of_every_kind_and_shape_come_back(dtype, tmp_path):
    tensors = {
        "a": torch.arange(12).reshape(3, 4).to(dtype),
        "b": torch.ones((), dtype=dtype),
        "c": torch.zeros(0, dtype=dtype),
    }
    tensors["t"] = tensors["a"].T[1:]  # not contiguous, with an offset
    torch.save(tensors, tmp_path / "x.pt")
    found = read_tensors(tmp_path / "x.pt")
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)


def test_broken_and_strange_files_are_named(tmp_path, ckpt):
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(
        CheckpointError, match=r"text\.ckpt cannot be read as a file of torch\.save"
    ):
        read_tensors(tmp_path / "text.ckpt")
    with zipfile.ZipFile(tmp_path / "other.ckpt", "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(CheckpointError, match=r"holds no data\.pkl"):
        read_tensors(tmp_path / "other.ckpt")
    with zipfile.ZipFile(tmp_path / "out.ckpt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps([1, 2])[:-3])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(tmp_path / "out.ckpt")
    torch.save({"state_dicts": {"model": {"w": torch.ones(2)}}}, tmp_path / "net.ckpt")
    with pytest.raises(CheckpointError, match=r"no \.ckpt of Diffusion Policy"):
        import_ckpt(tmp_path / "net.ckpt")
    content = read_tensors(ckpt)
    state = {
        k: v for k, v in content["state_dicts"]["ema_model"].items() if "params_dict.obs" not in k
    }
    torch.save({"state_dicts": {"ema_model": state}}, tmp_path / "image.ckpt")
    with pytest.raises(CheckpointError, match="only low-dim policies"):
        import_ckpt(tmp_path / "image.ckpt")


def edit(ckpt, **changes):
    """The file with other tensors among the averaged ones; None takes one away."""
    content = read_tensors(ckpt)
    states = {**content["state_dicts"]["ema_model"], **changes}
    torch.save(
        {"state_dicts": {"ema_model": {k: v for k, v in states.items() if v is not None}}}, ckpt
    )


def test_a_number_that_never_changed_is_commanded_as_it_was(ckpt):
    """Diffusion Policy's normaliser gives it scale 1; what the network says must not move it."""
    stats = "normalizer.params_dict.action."
    edit(
        ckpt,
        **{
            f"{stats}scale": torch.tensor([1.0, 2.0]),
            f"{stats}offset": torch.tensor([-0.02, 1.0]),
            f"{stats}input_stats.min": torch.tensor([0.02, -1.0]),
            f"{stats}input_stats.max": torch.tensor([0.02, 0.0]),
        },
    )
    model = import_ckpt(ckpt)
    said = torch.tensor([[2.0, 1.0], [-1.0, -1.0]])
    found = model.normalizer.denormalize("action", said)
    assert found[:, 0].tolist() == [torch.tensor(0.02).item()] * 2
    assert found[:, 1].tolist() == [0.0, -1.0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "normalizer.params_dict.action.scale",
            torch.tensor([float("nan"), 1.0]),
            "finite numbers",
        ),
        (
            "normalizer.params_dict.action.scale",
            torch.tensor([float("inf"), 1.0]),
            "finite numbers",
        ),
        ("normalizer.params_dict.action.scale", torch.tensor([0.0, 1.0]), "above 0"),
        ("normalizer.params_dict.action.scale", torch.tensor([1, 1]), "finite numbers"),
        ("normalizer.params_dict.action.scale", torch.ones(2, 2), "finite numbers"),
        ("normalizer.params_dict.obs.offset", torch.ones(3), "as many as offsets"),
        ("normalizer.params_dict.obs.offset", None, "only low-dim"),
        ("model.final_conv.1.bias", torch.tensor([float("nan"), 0.0]), "not finite"),
        ("model.final_conv.1.bias", torch.tensor([1, 0]), "float32 is wanted"),
        ("model.final_conv.1.bias", torch.ones(2, dtype=torch.complex64), "cannot be read"),
        ("model.final_conv.1.bias", torch.ones(3), "was expected"),
        ("model.final_conv.1.bias", None, "lacks network"),
        (
            "model.down_modules.0.0.cond_encoder.1.weight",
            torch.ones(2),
            "cannot be imported|another network",
        ),
        ("model.down_modules.99.0.cond_encoder.1.weight", torch.ones(2), "another network"),
    ],
)
def test_numbers_that_no_training_left_are_refused(name, value, words, ckpt):
    edit(ckpt, **{name: value})
    with pytest.raises(CheckpointError, match=words):
        import_ckpt(ckpt)


def test_a_min_above_its_max_is_refused(ckpt):
    ends = {
        f"normalizer.params_dict.action.input_stats.{part}": torch.tensor([v, 0.0])
        for part, v in (("min", 1), ("max", 0))
    }
    edit(ckpt, **ends)
    with pytest.raises(CheckpointError, match="each min is at most its max"):
        import_ckpt(ckpt)


def test_the_rate_and_the_task_of_a_ckpt_are_asked_for(ckpt, capsys):
    assert main(["checkpoint", "import", str(ckpt)]) == 2
    assert "give fps=RATE_HZ and task=NAME; environments are can" in capsys.readouterr().err
    assert main(["checkpoint", "import", str(ckpt), "fps=10"]) == 2
    assert "give task=NAME;" in capsys.readouterr().err
    assert main(["checkpoint", "import", str(ckpt), "fps=10", "task=push"]) == 2
    assert "did you mean 'pusht'" in capsys.readouterr().err
    assert main(["checkpoint", "import", str(ckpt), "fps=nan", "task=pusht"]) == 2
    assert "fps is nan" in capsys.readouterr().err


def test_help_names_the_source_once(capsys):
    assert main(["checkpoint", "--help"]) == 0
    assert "checkpoint import SOURCE [" in capsys.readouterr().out
