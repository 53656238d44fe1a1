"""The control loop, its clocks, and the splicing of chunks; numpy only."""

from .clocks import RealClock, VirtualClock
from .log import RowLog
from .loop import LoopSettings, run
from .splicing import splice, zero_order_hold

__all__ = [
    "LoopSettings",
    "RealClock",
    "RowLog",
    "VirtualClock",
    "run",
    "splice",
    "zero_order_hold",
]
