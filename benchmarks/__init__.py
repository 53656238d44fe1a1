"""Measurements behind the figures of BENCHMARKS.md, one file a claim."""
