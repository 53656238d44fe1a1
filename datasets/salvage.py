"""Opens a damaged store as far as it can be read, and finds lost episode ends by the timestamps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ActionSpec, DataError, IntArray, ObsSpec
from .arrays import check_fps
from .episodes import ACTION, TIMESTAMP, Dataset, check_choice, content_hash, list_extras
from .formats.files import FolderFiles
from .formats.zarr_reader import ChunkCache, ZarrArray, open_array
from .store_format import UNFINISHED, read_attributes, refuse_wrong_attributes


class Salvaged:
    """What is left of a damaged store: keys and ends that open; its rows may still be damaged.

    Raises DataError where the attributes or the actions are lost, and where neither ends nor
    timestamps say where episodes begin.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attrs = read_attributes(path)
        self.notes: list[str] = []
        with refuse_wrong_attributes(path):
            self.fps = check_fps(self.attrs["fps"])
            self.action_spec = ActionSpec.from_json(self.attrs["action_spec"])
            whole = ObsSpec.from_json(self.attrs["obs_spec"])
        self.task = str(self.attrs.get("task", ""))
        self._files = FolderFiles(path)
        self._cache = ChunkCache()
        self._arrays = self._open_arrays(whole)
        if ACTION not in self._arrays:
            raise DataError(f"{path}: the actions are lost, so nothing can be saved")
        kept = {name: key for name, key in whole.keys.items() if name in self._arrays}
        self.obs_spec = ObsSpec(kept)
        self.keys = (*kept, ACTION, *list_extras(self._arrays))
        self.episode_ends = self._find_ends()

    def _open_arrays(self, spec: ObsSpec) -> dict[str, ZarrArray]:
        """Every array whose description can be read and fits."""
        found: dict[str, ZarrArray] = {}
        extras = list_extras(self._files.folders("data"))
        for name in (*spec.keys, ACTION, *extras):
            try:
                array = open_array(self._files, f"data/{name}", self._cache, fills=False)
                assert array.stages is not None  # looks at the codecs
            except DataError as error:
                self.notes.append(f"{name} is lost: {error}")
                continue
            key = spec.keys.get(name)
            if key is not None and array.shape[1:] != tuple(key.shape):
                self.notes.append(f"{name} is lost: its steps are {array.shape[1:]}")
                continue
            found[name] = array
        return found

    def _find_ends(self) -> IntArray:
        """The stored ends, or those that the timestamps say."""
        try:
            array = open_array(self._files, "meta/episode_ends", self._cache, fills=False)
            ends = array[: array.shape[0]].astype(np.int64)
        except DataError:
            ends = np.zeros(0, np.int64)
        unfinished = np.flatnonzero(ends == UNFINISHED)
        if len(unfinished):
            ends = ends[: unfinished[0]]
        if len(ends) and (np.diff(ends, prepend=0) > 0).all():
            return ends
        self.notes.append("the episode ends are damaged: they were found by the timestamps")
        if TIMESTAMP not in self._arrays:
            raise DataError(f"{self.path}: ends and timestamps are lost, so nothing can be saved")
        return find_ends(self._arrays[TIMESTAMP][: self._arrays[TIMESTAMP].shape[0]])

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key."""
        return self.rows(key, 0, int(self.episode_ends[-1]))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Some steps of one key; DataError where they are damaged."""
        check_choice(key, self.keys)
        return self._arrays[key][start:stop]

    def content_hash(self) -> str:
        """Hex digest of what can be read."""
        return content_hash(self)


def find_ends(stamps: NDArray[Any]) -> IntArray:
    """Episode ends (E,) where timestamps (N,) begin anew: they go back to two steps of the least,
    or by half.
    """
    times = np.asarray(stamps, np.float64)
    if not len(times):
        return np.zeros(0, np.int64)
    if len(times) == 1:
        return np.array([1], np.int64)
    steps = np.diff(times)
    back = steps < 0
    usual = float(np.median(np.abs(steps)))
    begins = times[1:] <= np.maximum(times[:-1] / 2, times.min() + 2 * usual)
    return np.append(np.flatnonzero(back & begins) + 1, len(times)).astype(np.int64)


class NewEnds:
    """A data set whose ends do not increase, with those that its timestamps say."""

    def __init__(self, source: Dataset) -> None:
        if TIMESTAMP not in source.keys:
            raise DataError("the episode ends are wrong, and there are no timestamps to find them")
        steps = int(np.max(source.episode_ends, initial=0))
        self.source = source
        self.keys, self.fps = source.keys, source.fps
        self.action_spec, self.obs_spec = source.action_spec, source.obs_spec
        self.episode_ends = find_ends(source.rows(TIMESTAMP, 0, steps))

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key."""
        return self.source.array(key)

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Some steps of one key."""
        return self.source.rows(key, start, stop)

    def content_hash(self) -> str:
        """Hex digest with the new ends."""
        return content_hash(self)
