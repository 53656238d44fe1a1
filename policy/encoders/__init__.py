"""Encoders: observations to condition tokens."""
