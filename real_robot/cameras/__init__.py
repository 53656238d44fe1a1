"""Cameras, each in a process of its own: frames with the time at which they were taken."""
