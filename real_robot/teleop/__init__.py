"""Teleoperation: an operator moves the arm by keys, a SpaceMouse, or a second arm."""

from .base import RobotView, Scripted, Teleoperator
from .operator_policy import OperatorPolicy
from .registry import make
from .registry import names as teleoperator_names

__all__ = [
    "OperatorPolicy",
    "RobotView",
    "Scripted",
    "Teleoperator",
    "make",
    "teleoperator_names",
]
