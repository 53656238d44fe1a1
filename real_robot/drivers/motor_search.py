"""Whether all motors of an arm are there, and what is there in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..driver import DriverError
from .motor_bus import MotorBus

LAST_SCANNED = 40
"""The highest id that is looked at when a motor is missing."""


def check_motors(bus: MotorBus, arm: str, ids: Mapping[str, int], bauds: Sequence[int]) -> None:
    """Raises DriverError where a motor is missing or doubled; it says what answers instead."""
    heard = {name: bus.listen(id) for name, id in ids.items()}
    doubled = [name for name, what in heard.items() if what == "broken"]
    missing = [name for name, what in heard.items() if what == "silent"]
    if doubled and len(doubled) < len(heard):
        name = doubled[0]
        raise DriverError(
            f"{arm}: what comes from id {ids[name]} ({name}) is broken, other ids are fine: two "
            f"motors have this id, or its plug is loose. Connect one motor at a time to set the ids"
        )
    if len(missing) == len(heard):
        raise DriverError(f"{arm}: {_explain_silence(bus, next(iter(ids.values())), bauds)}")
    if missing:
        others = [id for id in range(LAST_SCANNED + 1) if id not in ids.values()]
        strangers = [str(id) for id in others if bus.listen(id, tries=1) == "whole"]
        wanted = ", ".join(f"{name} (id {ids[name]})" for name in missing)
        raise DriverError(
            f"{arm}: no answer from {wanted}; other ids up to {LAST_SCANNED} that answer: "
            f"{', '.join(strangers) or 'none'}. Set the ids, or check the cable behind the last "
            f"motor that answers"
        )


def _explain_silence(bus: MotorBus, first: int, bauds: Sequence[int]) -> str:
    used = bus.port.getBaudRate()
    for baud in bauds:
        bus.port.set_baud(baud)
        if bus.listen(first, tries=1) == "whole":
            return f"the motors answer at {baud} bits/s, not at {used}: connect with baud={baud}"
    return (
        f"no motor answers on {bus.port.path}: is the motors' power on, and is it the right port?"
    )
