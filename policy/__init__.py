"""Policies: encoders, denoisers, diffusion, normalisation, checkpoints."""
