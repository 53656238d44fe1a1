"""Runs other people's libraries, each in a Python of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

LEROBOT = "_lerobot_data_peer.py"
ROBOMIMIC = "_robomimic_peer.py"


def call_lerobot(python: str, *words: object) -> str:
    """What LEROBOT prints for some words; RuntimeError where it fails."""
    return call_peer(python, LEROBOT, *words)


def call_peer(python: str, program: str, *words: object) -> str:
    """What a program beside this one prints for some words; RuntimeError where it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [python, str(Path(__file__).with_name(program)), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stderr[-2000:]}")
    return done.stdout
