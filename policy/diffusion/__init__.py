"""Diffusion: levels, objectives, solvers and plans."""
