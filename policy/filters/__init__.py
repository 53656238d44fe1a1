"""Filters: what observations and executed actions have told so far, as one vector."""
