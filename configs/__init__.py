"""Configuration: one folder per axis, structured by the dataclasses of `schema`."""
