"""Results on disk, intervals and paired tests, and the latency that a plan is charged with."""

from .results import load as read_result

__all__ = ["read_result"]
