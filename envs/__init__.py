"""Simulated environments behind one interface."""

from .registry import make as make_env

__all__ = ["make_env"]
