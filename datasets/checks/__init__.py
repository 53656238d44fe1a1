"""Checks of a data set, one file per family, and what they say: `verify.verify` runs them all."""
