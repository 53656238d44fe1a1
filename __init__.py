"""hotstart: diffusion policies for robots that must move smoothly, now."""

__version__ = "0.1.0"
