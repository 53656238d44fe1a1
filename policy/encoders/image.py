"""Pictures and states of an observed step -> one token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ...spec import ConfigError, ObsKey, ObsSpec, shorten
from .augment import centre_crop, crop_size, jitter, random_crop
from .pretrained import FrozenEfficientNet
from .resnet import ResNet
from .vit import Vit

Backbone = Literal["resnet", "vit", "efficientnet"]


class ImageEncoder(nn.Module):
    """Every camera's features and all states of one observed step, joined -> one token.

    `backbone`: `resnet` (ResNet-18 at `channels` 64), `vit`, or `efficientnet`, which stays frozen.
    In training each picture gets a random crop to `crop` of its sides and random colours (`jitter`)
    of its own; otherwise the middle is taken. `shared` sends all cameras through one network.
    """

    def __init__(
        self,
        obs_spec: ObsSpec,
        observed: int,
        token_width: int = 128,
        backbone: Backbone = "resnet",
        channels: int = 64,
        stages: int = 4,
        keypoints: int = 32,
        embed: int = 192,
        layers: int = 4,
        heads: int = 3,
        crop: float = 0.9,
        jitter: float = 0.0,
        shared: bool = False,
    ) -> None:
        """Build it with these options.

        token_width: numbers of the token of an observed step
        backbone: network for each camera: resnet (ResNet-18), vit, or efficientnet (frozen)
        channels: channels of the ResNet's first stage; 64 is ResNet-18
        stages: stages of the ResNet
        keypoints: points of the ResNet's spatial softmax
        embed: width of the vision transformer
        layers: layers of the vision transformer
        heads: attention heads of the vision transformer
        crop: share of each side that a random crop keeps in training; the middle in evaluation
        jitter: strength of random changes of colour in training; 0: none
        shared: whether all cameras go through one network
        """
        super().__init__()
        images = {name: key for name, key in obs_spec.keys.items() if key.kind == "image"}
        if not images:
            raise ConfigError(
                f"encoder=image needs a picture among task.obs_keys; they are "
                f"{shorten(list(obs_spec.keys), 400)}"
            )
        _check(backbone, jitter)
        check_channels(images)
        self.cameras = tuple(images)
        self.states = tuple(name for name, key in obs_spec.keys.items() if key.kind == "state")
        self.crops: dict[str, tuple[int, int]] = {}
        for name, key in images.items():
            self.crops[name] = crop_size((key.shape[0], key.shape[1]), crop)
        self.jitter = jitter
        self.tokens, self.token_width = observed, token_width

        self.networks = nn.ModuleList()
        joined = sum(math.prod(obs_spec.keys[name].shape) for name in self.states)
        width = 0
        for number in range(len(self.cameras)):
            if number == 0 or not shared:
                if backbone == "efficientnet":
                    network = FrozenEfficientNet(keypoints)
                elif backbone == "resnet":
                    network = ResNet(channels, stages, keypoints)
                else:
                    network = Vit(embed, layers, heads)
                self.networks.append(network)
                width = network.width
            joined += width
        self.layers = nn.Sequential(
            nn.Linear(joined, 2 * token_width), nn.Mish(), nn.Linear(2 * token_width, token_width)
        )

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """States (B, To, ...), normalised, pictures uint8 (B, To, H, W, 1 or 3) -> (B, To, E)."""
        parts = []
        for number, name in enumerate(self.cameras):
            parts.append(self._encode_pictures(number, observation[name], name))
        for name in self.states:
            parts.append(observation[name].flatten(2))
        return self.layers(torch.cat(parts, -1))

    def _encode_pictures(self, number: int, pictures: Tensor, name: str) -> Tensor:
        """Features (B, To, F) of one camera's pictures (B, To, H, W, 1 or 3)."""
        flat = as_rgb(pictures.flatten(0, 1).permute(0, 3, 1, 2))  # (B To, 3, H, W)
        if self.training:
            cropped = random_crop(flat, self.crops[name])
        else:
            cropped = centre_crop(flat, self.crops[name])
        shown = cropped.float() / 127.5 - 1
        if self.training and self.jitter:
            shown = jitter(shown, self.jitter)
        network = self.networks[number % len(self.networks)]
        return network(shown).unflatten(0, pictures.shape[:2])


def check_channels(images: Mapping[str, ObsKey]) -> None:
    """Raise ConfigError for the first of `images` (key -> specification) not gray or RGB."""
    for name, key in images.items():
        if key.shape[-1] not in (1, 3):
            raise ConfigError(
                f"picture {shorten(name)} has {key.shape[-1]} channels; this encoder "
                "reads 1 (gray) or 3 (RGB): store the first three, or, where they are stacked "
                "frames, "
                "one frame a step"
            )


def as_rgb(pictures: Tensor) -> Tensor:
    """Gray pictures (B, 1, H, W) with their channel three times; RGB as it is."""
    if pictures.shape[1] == 1:
        return pictures.expand(-1, 3, -1, -1)
    return pictures


def _check(backbone: str, strength: float) -> None:
    if backbone not in get_args(Backbone):
        raise ConfigError(
            f"encoder.backbone is {shorten(backbone)}; choose one of "
            f"{', '.join(get_args(Backbone))}"
        )
    if not 0 <= strength < 1:
        raise ConfigError(f"encoder.jitter is {strength}; it must lie in [0, 1)")
