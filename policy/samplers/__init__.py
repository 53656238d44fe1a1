"""Samplers: how a plan is initialised and updated; one file each, one sampling loop for all."""
