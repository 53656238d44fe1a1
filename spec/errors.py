"""Errors that the user can mend: messages say what was wrong, where, and what would be right."""

from __future__ import annotations


class HotstartError(ValueError):
    """A mistake that the user can mend."""


class ConfigError(HotstartError):
    """A choice or a value of the configuration is wrong."""


class DataError(HotstartError):
    """A data set cannot be used as it is."""


class CheckpointError(HotstartError):
    """A checkpoint cannot be loaded or written."""


class SilentError(HotstartError):
    """Something that a running robot depends on has gone silent."""


class PlanError(HotstartError):
    """A plan that no robot may be given."""


class StopError(HotstartError):
    """A robot could not be stopped."""
