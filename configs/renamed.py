"""Names on the command line that were changed: the old ones are refused with the new one named."""

from __future__ import annotations

from collections.abc import Sequence

from ..spec import ConfigError

OPTIONS = {
    "slots": "num_envs",
    "weights": "precision",
    "expert": "demonstrator",
    "ways": "samplers",
    "committed": "frozen",
    "inference.rising": "inference.ramp",
    "inference.least_start": "inference.min_start",
    "denoiser.drawn": "denoiser.stochastic_routing",
    "encoder.words": "encoder.text_encoder",
    "encoder.dropped": "encoder.condition_dropout",
    "training.uncertainty": "training.learned_weighting",
    "task.options.turns": "task.options.rotation",
}
"""Old name of an option -> its name now."""
VALUES = {
    "actions=matrix": "actions=rotation_6d",
    "actions.rotation=matrix": "actions.rotation=rotation_6d",
    "task.options.turns=matrix": "task.options.rotation=rotation_6d",
    "task.options.rotation=matrix": "task.options.rotation=rotation_6d",
}
"""Old argument -> the argument now, where the value was renamed."""
BENCHMARKS = {"experts": "demonstrators"}
"""Old name of a benchmark -> its name now."""


def refuse_renamed(arguments: Sequence[str]) -> None:
    """Raise ConfigError naming the new form of the first argument with an old name."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if name == argument:
            continue
        text = argument.removeprefix(f"{name}=")
        for value in text.split(","):  # several of a --multirun
            old = f"{name}={value}"
            if old in VALUES:
                raise ConfigError(f"{old} has another name now: write {VALUES[old]}")
        if name in OPTIONS:
            raise ConfigError(f"{name} has another name now: write {OPTIONS[name]}={text}")


def refuse_renamed_benchmark(name: str) -> None:
    """Raise ConfigError naming the new name of a benchmark."""
    if name in BENCHMARKS:
        raise ConfigError(f"bench {name} has another name now: write bench {BENCHMARKS[name]}")
