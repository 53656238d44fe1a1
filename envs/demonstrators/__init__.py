"""Demonstrators that see the simulation's state, one file per task."""
