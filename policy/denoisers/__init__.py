"""Denoisers: networks under one contract, with a noise level per action step."""
