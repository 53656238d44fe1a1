"""Measurements behind the figures of BENCHMARKS.md and docs/notebook, one file a claim."""
