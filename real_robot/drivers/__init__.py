"""Drivers of arms, one file per kind; each imports its vendor's client only when it connects."""
