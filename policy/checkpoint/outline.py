"""A model's outline: its shapes without its numbers.

It tells whether a file's tensors fit a configuration before memory is spent on either.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules import module as registration

from ...spec import CheckpointError, ConfigError, shorten
from ...system.untrusted import cut
from ..model import ModelConfig, PolicyModel

SPARE_NUMBERS = 2_000_000
"""Numbers that a model may hold beside those of the file: computed tables are not saved."""
PARTS_PER_TENSOR = 20
WHOLE = 1 << 20
"""The largest whole number in a model's configuration."""
OBSERVED_NUMBERS = 1 << 28
PLANNED_NUMBERS = 1 << 20
SMALL = ("noise_policy", "residual", "values", "filter")
"""Networks that a model may have beside encoder and denoiser."""
Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors of a safetensors file, from its header alone.

    Raises CheckpointError for another file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(f"{path} is no ordinary file")
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} cannot be read: {cut(str(error))}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; raises CheckpointError for another file."""
    read_shapes(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read: {cut(str(error))}") from error


def build_outline(config: ModelConfig, shapes: Shapes) -> PolicyModel:
    """The model of a configuration, without memory for its numbers (torch's device `meta`).

    Raises CheckpointError as soon as it grows larger than tensors of these shapes could fill.
    """
    check_sizes(config)
    with _limit_size(shapes), torch.device("meta"):
        return PolicyModel(config)


def check_sizes(config: ModelConfig) -> None:
    """Raise CheckpointError for numbers in a configuration that no model of ours has."""
    for axis in ("encoder", "denoiser", "schedule", "actions", *SMALL):
        _check_numbers(getattr(config, axis), axis)
    for name, key in config.obs_spec.keys.items():
        count = config.horizon.observed
        for side in key.shape:
            count *= side
        if count > OBSERVED_NUMBERS:
            raise CheckpointError(
                f"the observation {shorten(name)} of {shorten(key.shape)} is too large"
            )
    if config.horizon.planned * config.action_spec.width > PLANNED_NUMBERS:
        raise CheckpointError(
            f"a plan of {config.horizon.planned} steps with {config.action_spec.width} numbers "
            "each is too large"
        )
    if not 0 <= config.anchors <= WHOLE:
        raise CheckpointError(f"anchors is {config.anchors}; it must lie between 0 and {WHOLE}")


def _check_numbers(part: Any, where: str) -> None:
    if isinstance(part, Mapping):
        for key, value in part.items():
            _check_numbers(value, f"{where}.{cut(str(key), 40)}")
    elif isinstance(part, list | tuple):
        for value in part:
            _check_numbers(value, where)
    elif isinstance(part, int | float) and not -WHOLE <= part <= WHOLE:
        raise CheckpointError(
            f"{where} is {shorten(part)}; numbers of a model lie between {-WHOLE} and {WHOLE}"
        )


@contextmanager
def _limit_size(shapes: Shapes) -> Iterator[None]:
    """Refuse to build modules of more tensors, numbers or parts than the shapes; in this thread."""
    left = {
        "tensors": len(shapes) + 100,
        "numbers": sum(torch.Size(shape).numel() for shape in shapes.values()) + SPARE_NUMBERS,
        "parts": PARTS_PER_TENSOR * (len(shapes) + 100),
    }
    mine = threading.get_ident()

    def take(kind: str, count: int) -> None:
        left[kind] -= count
        if left[kind] < 0:
            raise ConfigError(
                "the configuration describes a larger model than the file has weights for"
            )

    def count_tensor(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is not None and threading.get_ident() == mine:
            take("tensors", 1)
            take("numbers", tensor.numel())

    def count_part(_: nn.Module, name: str, part: nn.Module | None) -> None:
        if threading.get_ident() == mine:
            take("parts", 1)

    handles = [
        registration.register_module_parameter_registration_hook(count_tensor),
        registration.register_module_buffer_registration_hook(count_tensor),
        registration.register_module_module_registration_hook(count_part),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_values(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError for weights that are not finite, or not of the model's type."""
    for name, tensor in tensors.items():
        dtype = wanted[name].dtype
        real = tensor.is_floating_point()
        if real != dtype.is_floating_point or tensor.is_complex():
            raise CheckpointError(
                f"{shorten(name)} of {where} holds {tensor.dtype}; {dtype} is wanted"
            )
        if real and not bool(torch.isfinite(tensor.to(dtype)).all()):
            raise CheckpointError(
                f"{shorten(name)} of {where} holds numbers that are not finite: "
                "the weights are damaged"
            )
