"""Observations as LeRobot's DiffusionPolicy reads them: states plain, cameras by a ResNet.

The names of the weights are torchvision's and LeRobot's, so that checkpoints load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from ...spec import ConfigError, ObsSpec, shorten
from .resnet import expected_positions

STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """torchvision's residual block of two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int, grouped: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = _norm(outputs, grouped)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = _norm(outputs, grouped)
        skip = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs, grouped)
        )
        if stride == 1 and inputs == outputs:
            self.downsample = None
        else:
            self.downsample = skip

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        inner = self.bn2(self.conv2(relu(self.bn1(self.conv1(h)))))
        if self.downsample is None:
            return relu(inner + h)
        return relu(inner + self.downsample(h))


def _norm(channels: int, grouped: bool) -> nn.Module:
    if grouped:
        return nn.GroupNorm(channels // 16, channels)
    return nn.BatchNorm2d(channels)


def _backbone(name: str, grouped: bool) -> nn.Sequential:
    """The layers of torchvision's network up to the last feature map."""
    stages = []
    inputs, outputs = 64, 64
    stride = 1
    for count in STAGES[name]:
        stage = nn.Sequential(BasicBlock(inputs, outputs, stride, grouped))
        for _ in range(count - 1):
            stage.append(BasicBlock(outputs, outputs, 1, grouped))
        stages.append(stage)
        inputs, outputs = outputs, 2 * outputs
        stride = 2
    stem = (
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        _norm(64, grouped),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    )
    return nn.Sequential(*stem, *stages)


class PublishedCamera(nn.Module):
    """Normalised pictures (B, 3, H, W) -> features (B, 2 K): spatial softmax, linear, ReLU."""

    def __init__(self, name: str, grouped: bool, keypoints: int) -> None:
        super().__init__()
        self.backbone = _backbone(name, grouped)
        self.pool = nn.ModuleDict({"nets": nn.Conv2d(512, keypoints, 1)})
        self.out = nn.Linear(2 * keypoints, 2 * keypoints)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of each picture; x and y of a keypoint stand side by side."""
        positions = expected_positions(self.pool["nets"](self.backbone(pictures)))  # (B, 2, K)
        return relu(self.out(positions.transpose(1, 2).flatten(1)))


class PublishedEncoder(nn.Module):
    """An observed step -> one token: the first state, the cameras' features, the other states.

    `image_mean` and `image_std` are of each colour in [0, 1], one triple per camera. `resize`
    (H, W) comes before `crop` (H, W).
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        obs_spec: ObsSpec,
        observed: int,
        backbone: str = "resnet18",
        keypoints: int = 32,
        grouped: bool = False,
        separate: bool = True,
        crop: Sequence[int] = (),
        resize: Sequence[int] = (),
        image_mean: Sequence[float] = (),
        image_std: Sequence[float] = (),
    ) -> None:
        """Build it with these options.

        backbone: the cameras' ResNet, as torchvision names it
        keypoints: points of the spatial softmax
        grouped: whether GroupNorm replaces BatchNorm
        separate: whether each camera has a network of its own
        crop: height and width of the crop [px]; empty: none
        resize: height and width before the crop [px]; empty: as they come
        image_mean: mean of each colour in [0, 1], three numbers per camera
        image_std: standard deviation of each colour, three numbers per camera
        """
        super().__init__()
        if backbone not in STAGES:
            raise ConfigError(
                f"encoder.backbone is {shorten(backbone)}; choose one of {', '.join(STAGES)}"
            )
        self.states = tuple(name for name, key in obs_spec.keys.items() if key.kind == "state")
        self.cameras = tuple(name for name, key in obs_spec.keys.items() if key.kind == "image")
        self.crop, self.resize = tuple(crop), tuple(resize)
        if separate:
            networks = len(self.cameras)
        else:
            networks = min(1, len(self.cameras))
        self.rgb_encoder = nn.ModuleList(
            PublishedCamera(backbone, grouped, keypoints) for _ in range(networks)
        )
        for name, values, default in (
            ("image_mean", image_mean, 0.0),
            ("image_std", image_std, 1.0),
        ):
            triples = torch.tensor(values or [default] * 3 * len(self.cameras)).reshape(
                len(self.cameras), 3, 1, 1
            )
            self.register_buffer(name, triples, persistent=False)
        numbers = sum(int(torch.Size(obs_spec.keys[name].shape).numel()) for name in self.states)
        self.tokens, self.token_width = observed, numbers + 2 * keypoints * len(self.cameras)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """States (B, To, ...), normalised, pictures uint8 (B, To, H, W, 3) -> (B, To, E)."""
        parts = [observation[name].flatten(2) for name in self.states]
        for number, name in enumerate(self.cameras):
            parts.insert(1 + number, self._encode_pictures(number, observation[name]))
        return torch.cat(parts, -1)

    def _encode_pictures(self, camera: int, pictures: Tensor) -> Tensor:
        """Features (B, To, F) of one camera's pictures (B, To, H, W, 3)."""
        flat = pictures.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        flat = (flat - self.image_mean[camera]) / self.image_std[camera]
        if self.resize:
            flat = interpolate(
                flat, self.resize, mode="bilinear", antialias=True, align_corners=False
            )
        if self.crop:
            top = round((flat.shape[-2] - self.crop[0]) / 2)
            left = round((flat.shape[-1] - self.crop[1]) / 2)
            flat = flat[..., top : top + self.crop[0], left : left + self.crop[1]]
        network = self.rgb_encoder[camera % len(self.rgb_encoder)]
        return network(flat).unflatten(0, pictures.shape[:2])
