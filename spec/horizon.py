"""How many steps a policy observes, plans and executes."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigError
from .messages import shorten
from .options import option
from .plain_values import is_whole

LONGEST_EPISODE = 100_000
"""The most steps of an episode."""
LONGEST_PLAN = 10_000
"""The most steps of each part of a horizon."""


@dataclass(frozen=True)
class Horizon:
    """Steps that a policy observes (To), plans (T) and executes (Ta), and its delay.

    All of them are control periods (ticks). Raises ConfigError for numbers that cannot be.
    """

    observed: int = option(
        2, "To: newest observations that a plan is made from [ticks]; n_obs_steps elsewhere"
    )
    planned: int = option(
        24, "T: actions of a plan, those at past observations included [ticks]; horizon elsewhere"
    )
    executed: int = option(
        8, "Ta: actions of a plan that are executed [ticks]; n_action_steps elsewhere"
    )
    delay: int = option(0, "ticks that go by while a plan is made, which it must bridge beside Ta")

    def __post_init__(self) -> None:
        for name, least in (("observed", 1), ("planned", 1), ("executed", 1), ("delay", 0)):
            value = getattr(self, name)
            if not is_whole(value) or not least <= value <= LONGEST_PLAN:
                raise ConfigError(
                    f"horizon.{name} is {shorten(value)}; it must be a whole number of at least "
                    f"{least} and at most {LONGEST_PLAN}"
                )
        if self.planned < self.needed:
            raise ConfigError(
                f"horizon.planned is {self.planned}, but observed - 1 + executed + delay = "
                f"{self.needed} steps are needed: raise horizon.planned to {self.needed} or more, "
                "or lower horizon.executed"
            )

    @property
    def needed(self) -> int:
        """Least T: To - 1 + Ta + delay."""
        return self.observed - 1 + self.executed + self.delay

    @property
    def past(self) -> int:
        """Planned steps that lie before the newest observation: To - 1."""
        return self.observed - 1

    @property
    def blocks(self) -> int:
        """Blocks of Ta steps after the past ones: the stairs of SDP (2406.04806, section 3)."""
        return (self.planned - self.past) // self.executed

    def check_streaming(self) -> None:
        """Raise ConfigError unless T >= To - 1 + 2 Ta: streaming needs two blocks."""
        if self.blocks < 2:
            least = self.past + 2 * self.executed
            raise ConfigError(
                f"streaming needs two blocks: horizon.planned is {self.planned}, "
                f"it must be at least {least}"
            )
