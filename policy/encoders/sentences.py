"""all-MiniLM-L6-v2, a frozen sentence encoder whose weights come from a Python package.

Each sentence is encoded once and its vector kept in memory. Only the linear layer after it is
trained and saved. An instruction in new words lies near those of like meaning.
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
    """A sentence -> (E,): the frozen encoder's vector, and a linear layer."""

    def __init__(self, width: int) -> None:
        """Raises ConfigError where the packages are not installed."""
        super().__init__()
        _encoder()  # now, not in the middle of a training
        self.out = nn.Linear(FEATURES, width)
        self._known: dict[str, Tensor] = {}

    def forward(self, sentences: Sequence[str]) -> Tensor:
        """N sentences -> (N, E)."""
        vectors = []
        for text in sentences:
            if text not in self._known:
                vector = _encoder().encode(text, show_progress_bar=False)
                self._known[text] = torch.as_tensor(vector)
            vectors.append(self._known[text])
        return self.out(torch.stack(vectors).to(self.out.weight))


@functools.cache
def _encoder() -> Any:
    try:
        package, library = import_module("all_minilm_l6_v2"), import_module("sentence_transformers")
    except ImportError as error:
        raise ConfigError(
            f"encoder.text_encoder=sentences needs packages that are not installed ({error}): pip "
            "install 'hotstart[language]'"
        ) from error
    folder = _unpack(Path(str(package.__file__)).with_name("model.zip"))
    with torch.device("cpu"):  # kept for all models, whatever device this one is built on
        return library.SentenceTransformer(str(folder), device="cpu")


def _unpack(archive: Path) -> Path:
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
