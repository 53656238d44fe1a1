"""A policy served to clients on other machines; see `server` for the way in."""
