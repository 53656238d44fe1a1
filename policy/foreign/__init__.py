"""Policies of other libraries: LeRobot folders and Diffusion Policy's checkpoints."""
