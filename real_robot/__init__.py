"""Real robots: drivers, safety and timing."""

from .registry import make as make_robot

__all__ = ["make_robot"]
