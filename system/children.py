"""Processes of ours: a fresh Python that runs one module's `main`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .lifelines import without_terminal_signals
from .threads import ONE_THREAD


def start_module(
    module: str,
    files: Sequence[int],
    stdin: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `main` of a module in a process that inherits `files`; their numbers are its arguments.

    It computes in one thread and gets no Ctrl-C. A plain subprocess, not `multiprocessing`: that
    one would import the caller's main module again (a training script with torch, or one without an
    `if __name__` guard).
    """
    paths = [path or str(Path.cwd()) for path in sys.path]
    variables = {**os.environ, **ONE_THREAD, **(environment or {})}
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    program = f"from {module} import main; main()"
    with without_terminal_signals():
        return subprocess.Popen(
            [sys.executable, "-P", "-c", program, *map(str, files)],
            stdin=stdin,
            pass_fds=files,
            env=variables,
        )
