"""Runs LeRobot's own library in its own Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PEER = Path(__file__).with_name("_lerobot_data_peer.py")


def call_lerobot(peer: str, *words: object) -> str:
    """What `_lerobot_data_peer.py` prints for some words; RuntimeError where it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [peer, str(PEER), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stderr[-2000:]}")
    return done.stdout
