"""Ask a policy server for actions. Needs numpy, websockets and msgpack, and nothing of hotstart.

It is installed by itself as `hotstart_client` (see `pyproject.toml` here), and with hotstart.
"""

from .client import Client, LateError, ServerError

__all__ = ["Client", "LateError", "ServerError"]
