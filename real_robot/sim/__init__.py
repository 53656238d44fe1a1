"""Simulated devices: they speak the vendors' protocols at the wire, and MuJoCo moves the arm."""
