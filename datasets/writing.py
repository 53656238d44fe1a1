"""Writes any data set into a store, episode by episode; a killed writing goes on where it was."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..spec import DataError, HotstartError
from ..system.untrusted import read_json
from .episodes import Dataset, episode_slice, is_image
from .formats.remote import find_url, show_path
from .locks import hold
from .store import Store, refuse_full_disk

Episode = dict[str, NDArray[Any]]
BATCH_BYTES = 1 << 25
"""Episodes are read and written together up to so much; pictures of longer ones in pieces."""
"""Behind the name of a target whose episodes are not all written yet."""


def write_store(
    dataset: Dataset,
    target: Path,
    *,
    task: str = "",
    source: str = "",
    options: Mapping[str, Any] | None = None,
) -> Store:
    """Write every episode of a data set into a new store; it appears when it is whole.

    Until then the episodes lie in `TARGET.converting`. After a kill the same call goes on behind
    the last finished one, if the data set is still the same. `task`, `source` and `options` are
    those of `Store.create`. Raises DataError where the target is there already, where something
    cannot be read or stored, and where the disk is full.
    """
    if find_url(target) is not None:
        raise DataError(
            f"{show_path(target)} is no folder: hotstart data convert SOURCE "
            f"{show_path(target)} to=shards writes a data set there"
        )
    if target.exists():
        raise DataError(f"{target} is there already: choose another target, or delete it")
    with hold(target):
        store = _open_unfinished(dataset, target, task, source, options)
        _write_episodes(dataset, store, f"writing {target.name}")
        store.release()
        with refuse_full_disk(f"{target} cannot be made"):
            store.path.rename(target)
            _tell(target).unlink(missing_ok=True)
    return Store.open(target)


def _write_episodes(dataset: Dataset, store: Store, name: str) -> None:
    """Write the episodes that the store does not hold yet, with a progress bar."""
    done, count = len(store.episode_ends), len(dataset.episode_ends)
    per_step = step_bytes(dataset)
    batch: list[Episode] = []
    size = 0
    with tqdm(total=count, initial=done, desc=name, unit="episode", disable=None) as bar:
        for number in range(done, count):
            steps = episode_slice(dataset.episode_ends, number)
            needed = (steps.stop - steps.start) * per_step
            if size + needed > BATCH_BYTES:
                store.extend(batch)
                bar.update(len(batch))
                batch, size = [], 0
            if needed > BATCH_BYTES:
                _write_long_episode(dataset, store, steps)
                bar.update()
            else:
                batch.append(_read_keys(dataset, dataset.keys, steps))
                size += needed
        store.extend(batch)
        bar.update(len(batch))


def _write_long_episode(dataset: Dataset, store: Store, steps: slice) -> None:
    """Write an episode whose pictures do not fit into a batch: these in pieces, ahead."""
    images = [key for key in dataset.keys if is_image(dataset, key)]
    for key in images:
        rows = store.rows_per_chunk(key)
        per_row = math.prod(dataset.obs_spec.keys[key].shape)
        block = max(rows, BATCH_BYTES // per_row // rows * rows)
        for start in range(steps.start, steps.stop, block):
            store.write_ahead(key, dataset.rows(key, start, min(start + block, steps.stop)))
    store.append(_read_keys(dataset, [key for key in dataset.keys if key not in images], steps))


def _read_keys(dataset: Dataset, keys: list[str] | tuple[str, ...], steps: slice) -> Episode:
    return {key: dataset.rows(key, steps.start, steps.stop) for key in keys}


def name_unfinished(target: Path) -> Path:
    """Where a data set lies until it is whole, in every format that is written."""
    return target.with_name(f"{target.name}.converting")


def step_bytes(dataset: Dataset) -> int:
    """Bytes of one step of all keys, as they are in memory."""
    total = 8 * len(dataset.keys) + 4 * dataset.action_spec.width
    for key in dataset.obs_spec.keys.values():
        total += math.prod(key.shape) * np.dtype(key.dtype).itemsize
    return total


def _open_unfinished(
    dataset: Dataset, target: Path, task: str, source: str, options: Mapping[str, Any] | None
) -> Store:
    """The store of a killed writing where it holds the first episodes of this data set; else new.

    What is written of the data set is told beside it, in `TARGET.converting.json`.
    """
    making, tell = name_unfinished(target), _tell(target)
    told = {"data": describe_form(dataset), "task": task, "source": source}
    if making.exists():
        try:
            found = Store.open(making)
            if read_json(tell, DataError) == told and _begins_alike(dataset, found):
                return found
        except HotstartError:
            pass  # half made, or of another version
    shutil.rmtree(making, ignore_errors=True)
    tell.unlink(missing_ok=True)
    store = Store.create(
        making,
        fps=dataset.fps,
        action_spec=dataset.action_spec,
        obs_spec=dataset.obs_spec,
        task=task,
        source=source,
        options=options,
    )
    with refuse_full_disk(f"{target} cannot be made"):
        tell.write_text(json.dumps(told))
    return store


def _tell(target: Path) -> Path:
    return target.with_name(f"{name_unfinished(target).name}.json")


def describe_form(dataset: Dataset) -> str:
    """Hex digest of all but the numbers: ends, keys, specifications, rate."""
    form = {
        "fps": dataset.fps,
        "action": dataset.action_spec.to_json(),
        "observation": dataset.obs_spec.to_json(),
        "keys": list(dataset.keys),
    }
    digest = hashlib.sha256(json.dumps(form).encode())
    digest.update(np.ascontiguousarray(dataset.episode_ends, "<i8").tobytes())
    return digest.hexdigest()


def _begins_alike(dataset: Dataset, store: Store) -> bool:
    """Whether the newest episode of a store is the data set's of the same number; images aside."""
    done = len(store.episode_ends)
    if not np.array_equal(dataset.episode_ends[:done], store.episode_ends):
        return False
    if not done:
        return True
    steps = episode_slice(store.episode_ends, done - 1)
    for key in dataset.keys:
        if is_image(dataset, key):
            continue
        theirs = dataset.rows(key, steps.start, steps.stop)
        if not np.array_equal(theirs, store.rows(key, steps.start, steps.stop)):
            return False
    return True
