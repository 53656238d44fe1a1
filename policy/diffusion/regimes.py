"""Shares of the noise level regimes in training (see objective.py); needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ...spec import ConfigError, FloatArray, Horizon, option

UNET_STEPS = 4
"""A plan of a multiple of so many steps fits the U-Net's three resolutions."""


@dataclass(frozen=True)
class Regimes:
    """Shares of the three level regimes; they are scaled to sum to one, and 0 turns one off."""

    staircase: float = option(
        0.5,
        "share of plans whose noise rises in stairs, for inference=sdp and warm starts with a ramp",
    )
    constant: float = option(
        0.4, "share of plans of one noise level, for fresh plans and warm starts"
    )
    prefix: float = option(
        0.1, "share of plans whose first steps are clean, for inference=rtc inference.mode=trained"
    )

    def __post_init__(self) -> None:
        shares = asdict(self)
        if min(shares.values()) < 0 or sum(shares.values()) <= 0:
            raise ConfigError(
                f"training.regimes are {shares}; shares must be 0 or more and not all 0"
            )

    def shares(self) -> FloatArray:
        """(3,) probabilities of staircase, constant, prefix."""
        raw = np.array([self.staircase, self.constant, self.prefix], np.float64)
        return raw / raw.sum()

    def names(self) -> list[str]:
        """Names of the regimes with a share: what the checkpoint was trained for."""
        names: list[str] = []
        for name, share in asdict(self).items():
            if share > 0:
                names.append(name)
        return names


def check_regimes(regimes: Regimes, horizon: Horizon) -> None:
    """Raise ConfigError where plans of `horizon` are too short for a regime that has a share."""
    if regimes.staircase > 0 and horizon.blocks < 2:
        least = horizon.past + 2 * horizon.executed
        fits = -(-least // UNET_STEPS) * UNET_STEPS
        raise ConfigError(
            f"horizon.planned is {horizon.planned}, but noise in a staircase "
            f"(training.regimes.staircase is {regimes.staircase:g}) needs two blocks of "
            f"horizon.executed={horizon.executed} steps, {least} or more in all: "
            f"give horizon.planned={fits}, or training.regimes.staircase=0 "
            "for a policy that inference=sdp cannot run"
        )
    if regimes.prefix > 0 and horizon.planned < 2:
        raise ConfigError(
            f"horizon.planned is {horizon.planned}, but a clean prefix "
            f"(training.regimes.prefix is {regimes.prefix:g}) needs 2 or more: "
            "give horizon.planned=2, or training.regimes.prefix=0"
        )
