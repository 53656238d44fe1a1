"""The options of `hotstart doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..spec import option


@dataclass
class Examine:
    """Look at this machine: packages, pictures, disk, load, real-time rights, ports, cameras.

    Each line says what is good, what to know and what is bad, with a command that mends it.

      hotstart doctor
      hotstart doctor ports=8000,30004 out=doctor.json
    """

    ports: tuple[int, ...] = option((8000,), "TCP ports that must be free, for `hotstart serve`")
    out: Path | None = option(None, "file for the findings (JSON); none: only printed")
    overwrite: bool = option(False, "whether a file at out may be replaced by the new one")
