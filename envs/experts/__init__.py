"""Scripted experts with privileged state."""
