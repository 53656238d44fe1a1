"""Simulated environments behind one interface."""
