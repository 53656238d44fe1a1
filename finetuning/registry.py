"""The methods of fine-tuning by the dotted names of their settings, as configurations name them."""

from __future__ import annotations

_HERE = __name__.rsplit(".", 1)[0]
METHODS: dict[str, tuple[str, ...]] = {"method": (f"{_HERE}.settings.PPOSettings",)}
"""Axis of the configuration -> the settings that it may name. A new method is one line here."""
