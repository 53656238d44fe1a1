"""What one episode must hold, and what every data set offers, on disk or in memory."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ..spec import (
    ActionSpec,
    DataError,
    IntArray,
    ObsKey,
    ObsKind,
    ObsSpec,
    cut,
    shorten,
    text_to_bytes,
)
from .kinds import check_image_key, explain_key, read_key

ACTION = "action"
TIMESTAMP = "timestamp"
EXTRAS = {
    "reward": np.dtype(np.float32),
    "success": np.dtype(np.bool_),
    "score": np.dtype(np.float32),
    "explored": np.dtype(np.bool_),
    "actor": np.dtype(np.uint8),
    "weight": np.dtype(np.float32),
    TIMESTAMP: np.dtype(np.float64),
    "target_s": np.dtype(np.float64),
    "recorded_s": np.dtype(np.float64),
}
"""Keys that an episode may hold besides observations and actions, (n,) each, with their dtypes.

`reward`, `success` and `score` are the environment's after the step; the score is the episode's by
then. `explored` is true in all steps of an episode in which somebody else than the policy acted, or
its actions were disturbed; false in those of an episode in which it acted as deployed. `actor` is
a `spec.Actor`: who acted in the step. `weight` is what the step counts in a training.

Times are seconds from the episode's beginning: `timestamp` when the step began, `target_s` when its
action was meant for, `recorded_s` when it was written down, and `made_s.KEY` when the observation
KEY was made, negative for one that is older than the episode.
"""
MADE = "made_s."
"""Before an observation's key: the times when it was made, an extra too."""
BLOCK_ROWS = 4096
MOST_KEYS = 500
LONGEST_NAME = 100


class Dataset(Protocol):
    """Episodes joined along time, key by key: N steps in all, E episodes."""

    @property
    def fps(self) -> float:
        """Steps per second, as intended; what really passed stands in `timestamp`."""
        ...

    @property
    def action_spec(self) -> ActionSpec:
        """What the A numbers of an action mean."""
        ...

    @property
    def obs_spec(self) -> ObsSpec:
        """What an observation holds."""
        ...

    @property
    def episode_ends(self) -> IntArray:
        """First step after each episode, (E,) int64."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Observation keys in the order of the specification, then `action` and the extras."""
        ...

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        ...

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key, (stop - start, ...)."""
        ...

    def content_hash(self) -> str:
        """Hex digest of every array and of the episode ends."""
        ...


def list_arrays(action_spec: ActionSpec, obs_spec: ObsSpec) -> dict[str, ObsKey]:
    """The keys that every episode must hold: those of the observation, then `action`.

    Raises DataError for a key that cannot be stored.
    """
    check_keys(list(obs_spec.keys))
    for name, key in obs_spec.keys.items():
        _check_key(name, key)
    return {**obs_spec.keys, ACTION: ObsKey((action_spec.width,))}


def check_episode(
    episode: Mapping[str, NDArray[Any] | str],
    wanted: Mapping[str, ObsKey],
    number: int,
    fps: float,
    ahead: Container[str] = (),
) -> dict[str, NDArray[Any]]:
    """The episode with the dtypes of the specification and with timestamps [s], checked.

    An instruction may be one text, which then holds at every step.

    `number` is the episode's place in the data set, for messages; the keys `ahead` lie on the disk
    already. Timestamps that are not given become frame / fps. Raises DataError on missing or
    unknown keys, wrong shapes, lengths or dtypes, and numbers that are not finite.
    """
    _check_names(episode, wanted, number, ahead)
    keys = {name: key for name, key in wanted.items() if name not in ahead}
    for name in list_extras(episode):
        keys[name] = extra_key(name)
    checked: dict[str, NDArray[Any]] = {}
    for name, key in keys.items():
        values = episode[name]
        if key.kind == "language" and isinstance(values, str):
            steps = np.shape(episode[ACTION])[:1]
            values = np.tile(text_to_bytes(values), (*steps, 1))
        checked[name] = check_array_of(name, np.asarray(values), key, number)
    length = _check_length(checked, number)
    checked.setdefault(TIMESTAMP, np.arange(length, dtype=np.float64) / fps)
    return checked


def is_image(dataset: Dataset, key: str) -> bool:
    """Whether a key of a data set holds pictures."""
    spec = dataset.obs_spec.keys.get(key)
    return spec is not None and spec.kind == "image"


def is_extra(name: str) -> bool:
    """Whether a key is neither action nor observation."""
    return name in EXTRAS or name.startswith(MADE)


def list_extras(names: Iterable[str]) -> list[str]:
    """The extras among some keys, in the order in which they are stored."""
    given = set(names)
    fixed = [name for name in EXTRAS if name in given]
    return fixed + sorted(name for name in given if name.startswith(MADE))


def extra_key(name: str) -> ObsKey:
    """The specification of an extra: one number a step."""
    return ObsKey((), str(EXTRAS.get(name, np.dtype(np.float64))))


def content_hash(dataset: Dataset, images: bool = True) -> str:
    """sha256 over names, dtypes, shapes and numbers; without `images` no picture is decoded.

    Numbers are read in blocks, so chunks, codecs and the place on disk do not matter.
    """
    digest = hashlib.sha256(dataset.episode_ends.astype("<i8").tobytes())
    steps = count_steps(dataset)
    for key in sorted(dataset.keys):
        spec = dataset.obs_spec.keys.get(key)
        if not images and spec is not None and spec.kind == "image":
            continue
        for start in range(0, steps, BLOCK_ROWS):
            block = dataset.rows(key, start, min(start + BLOCK_ROWS, steps))
            if start == 0:
                digest.update(f"{key} {block.dtype.str} {block.shape[1:]} ".encode())
            digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def count_steps(dataset: Dataset) -> int:
    """Steps of all episodes together."""
    if len(dataset.episode_ends):
        return int(dataset.episode_ends[-1])
    return 0


def first_not_finite(array: NDArray[Any]) -> tuple[tuple[int, ...], str] | None:
    """Index of the first number that is not finite, and "NaN" or "infinite"; None without any."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return None
    place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
    if np.isnan(array[place]):
        return place, "NaN"
    return place, "infinite"


def check_keys(names: Sequence[str]) -> None:
    """Raise DataError for more keys than anybody has, and for names that no message could show."""
    if len(names) > MOST_KEYS:
        raise DataError(f"there are {len(names):,} keys; a data set has at most {MOST_KEYS}")
    for name in names:
        if not isinstance(name, str) or len(name) > LONGEST_NAME or not name.isprintable():
            raise DataError(
                f"a key is called {shorten(name)}; "
                f"a name has at most {LONGEST_NAME} printable characters"
            )


def _check_key(name: str, key: ObsKey) -> None:
    """Refuse observation keys that cannot be stored."""
    taken = name == ACTION or is_extra(name)
    if taken or not name or "/" in name or name.startswith((".", "__")):
        raise DataError(
            f"an observation cannot be called {name!r}: "
            f"{[ACTION, *EXTRAS]} and {MADE}... are taken, and '/' is not possible"
        )
    kind = np.dtype(key.dtype).kind
    if kind not in "fiub":
        raise DataError(
            f"{name!r} has dtype {key.dtype}; numbers are stored "
            "(store text as tokens, or as the data set's task)"
        )
    if key.kind not in get_args(ObsKind):
        raise DataError(
            f"{name!r} is of kind {key.kind!r}; the kinds are {', '.join(get_args(ObsKind))}"
        )
    if key.kind == "image":
        check_image_key(name, key)
    if key.kind == "language" and (key.dtype != "uint8" or len(key.shape) != 1):
        raise DataError(f"{name!r} is {key.dtype} {key.shape}; words are uint8 of shape (bytes,)")


def _check_names(
    episode: Mapping[str, Any], wanted: Mapping[str, ObsKey], number: int, ahead: Container[str]
) -> None:
    """Refuse missing and unknown keys."""
    missing = [name for name in wanted if name not in episode and name not in ahead]
    unknown = []
    for name in episode:
        if name.removeprefix(MADE) not in wanted and name not in EXTRAS:
            unknown.append(name)
    if missing or unknown:
        raise DataError(
            f"episode {number}: missing keys {missing}, unknown keys {unknown}; "
            f"an episode holds {list(wanted)} and may hold {list(EXTRAS)} and {MADE}KEY"
        )


def check_array_of(name: str, array: NDArray[Any], key: ObsKey, number: int) -> NDArray[Any]:
    """One key of an episode with its shape and dtype; DataError where one of them is wrong."""
    _check_finite(name, array, number)
    held = _read(name, array, key, number)
    if held.ndim == 0 or held.shape[1:] != tuple(key.shape):
        wanted = ", ".join(["steps", *map(str, key.shape)])
        raise DataError(
            f"{name!r} has shape {array.shape} in episode {number}; it must be ({wanted})"
        )
    cast = _cast(name, held, np.dtype(key.dtype), number)
    _check_finite(name, cast, number)
    return cast


def _check_finite(name: str, array: NDArray[Any], number: int) -> None:
    """Refuse NaN and infinite numbers."""
    bad = first_not_finite(array)
    if bad:
        place = ", ".join(map(str, bad[0]))
        raise DataError(
            f"{name}[{place}] is {bad[1]} in episode {number}; only finite numbers are stored"
        )


def _read(name: str, array: NDArray[Any], key: ObsKey, number: int) -> NDArray[Any]:
    """The array with a picture's axes and numbers as they are held; a warning says what changed."""
    try:
        held = read_key(name, array, key)
    except DataError as error:
        raise DataError(f"episode {number}: {error}") from error
    if said := explain_key(name, array.shape[1:], array.dtype, key):
        warnings.warn(said, stacklevel=5)
    return held


def _cast(name: str, array: NDArray[Any], dtype: np.dtype[Any], number: int) -> NDArray[Any]:
    """Convert within a kind (float64 to float32) or upwards (int to float).

    Raises DataError where that would change a whole number.
    """
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise DataError(
            f"{name!r} is {array.dtype} in episode {number}; "
            f"the data set holds it as {dtype}: convert it first"
        )
    # A number too large for float32 becomes infinite, and is refused as such.
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise DataError(f"{name!r} holds numbers in episode {number} that {dtype} cannot hold")
    return cast


def _check_length(arrays: Mapping[str, NDArray[Any]], number: int) -> int:
    """The number of steps; DataError when keys disagree or there is no step."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"episode {number}: the keys have different numbers of steps: {lengths}")
    length = next(iter(lengths.values()))
    if length == 0:
        raise DataError(f"episode {number} has no steps; leave it out")
    return length


def episode_slice(ends: IntArray, number: int) -> slice:
    """The steps of one episode; negative numbers count from the end.

    Raises DataError where there is no such episode.
    """
    count = len(ends)
    if not -count <= number < count:
        raise DataError(
            f"there is no episode {number}; the data set has {count} (0 to {count - 1})"
        )
    number %= count
    start = 0
    if number:
        start = int(ends[number - 1])
    return slice(start, int(ends[number]))


def lengths_of(ends: IntArray) -> IntArray:
    """Steps per episode, (E,) int64."""
    return np.diff(ends, prepend=0).astype(np.int64)


def check_choice(key: str, keys: Iterable[str]) -> None:
    """Raise DataError for a key that the data set does not hold."""
    if key not in keys:
        raise DataError(f"the data set has no key {shorten(key)}; it has {cut(str(list(keys)))}")
