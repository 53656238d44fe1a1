"""Makes a new store of a data set without the faults that can be mended; the source is only read.

Each repair is a view of the data set; the last one is written. What cannot be mended is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ConfigError, DataError, unknown
from .checks.finding import Finding
from .checks.verify import Report, examine
from .editing import check_free, write_view
from .episodes import MADE, TIMESTAMP, Dataset, check_choice, content_hash
from .formats.foreign_data import ReadOptions
from .formats.registry import recognise
from .opening import open_dataset
from .resampled import resample
from .salvage import NewEnds, Salvaged
from .selection import Piece, choose_episodes, make_times, read_origin, select, view_all
from .store import Store
from .trimming import Cut, trim
from .windows import LEAST_STEPS

DROPS: Mapping[str, tuple[str, ...]] = {
    "unreadable": ("unreadable", "steps-missing", "frame-count"),
    "short": ("episode-short",),
    "nan": ("not-finite",),
    "duplicates": ("duplicate", "near-duplicate"),
    "outliers": ("outlier",),
    "jumps": ("jump",),
    "stuck": ("stuck",),
    "units": ("scale", "action-far"),
    "cameras": ("camera-frozen", "camera-blank", "frames-repeated"),
    "out-of-step": ("episode-out-of-step",),
}
"""A repair that leaves episodes out -> the findings whose episodes go."""
SAFE = ("ends", "unreadable", "short", "nan", "stamps", "duplicates")
"""Repairs that take nothing away that a training could use."""
REPAIRS = (*DROPS, "ends", "cut", "stamps", "resample", "still")
STILL = 1e-3
"""A step stands still where no number changes by more than this share of its range."""
RATES = ("timestamps-drift", "timestamps-gap", "rate")
LONGEST_SHIFT = 1000


@dataclass(frozen=True)
class Done:
    """One repair: its name, what was done, and to which episodes of the source."""

    what: str
    said: str
    episodes: Sequence[int] = ()


@dataclass
class Repaired:
    """The new store, what was done, and what its checks still find."""

    store: Store
    found: Report
    left: Report
    done: list[Done] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "done": [asdict(done) for done in self.done],
            "found": self.found.to_json(),
            "left": self.left.to_json(),
        }


def repair(
    source: Path | Dataset,
    target: Path,
    what: Iterable[str] = SAFE,
    shift: Mapping[str, int] | None = None,
    options: ReadOptions | None = None,
) -> Repaired:
    """Write `target`, a store of the source with the repairs of REPAIRS that `what` names.

    Args:
        source: a data set, or the path of one in any format, damaged stores included
        target: the new store's folder
        what: names of repairs
        shift: camera -> steps by which it is late (negative: early); episodes lose as many steps
        options: how a foreign data set is read

    Raises:
        ConfigError: for an unknown repair
        DataError: where nothing is left, or the target is there already
    """
    chosen = tuple(what)
    for name in chosen:
        if name not in REPAIRS:
            raise ConfigError(unknown("repair", name, sorted(REPAIRS)))
    check_free(target)
    done: list[Done] = []
    dataset = _open(source, options, chosen, done)
    origin = read_origin(dataset)
    found = examine(dataset)
    if any(finding.code == "ends" for finding in found.findings) and "ends" in chosen:
        dataset = NewEnds(dataset)
        said = f"found {len(dataset.episode_ends)} episodes by the timestamps"
        done.append(Done("ends", said))
        found = examine(dataset)
    view = _mend(dataset, found, chosen, done)
    if shift:
        view = _shift(view, shift, done)
    pieces = view_all(view)
    if not pieces:
        raise DataError("no episode is left after the repairs; `hotstart data verify` says why")
    written = select(view, pieces)
    written.origin = origin
    store = write_view(written, target)
    return Repaired(store, found, examine(store), done)


def _open(
    source: Path | Dataset, options: ReadOptions | None, chosen: Sequence[str], done: list[Done]
) -> Dataset:
    """The data set; of a damaged store what can still be read."""
    if not isinstance(source, Path | str):
        return source
    try:
        return open_dataset(source, options)
    except DataError:
        if "unreadable" not in chosen or recognise(Path(source)) is not None:
            raise
        salvaged = Salvaged(Path(source))
    for note in salvaged.notes:
        done.append(Done("unreadable", note))
    return salvaged


def _mend(dataset: Dataset, found: Report, chosen: Sequence[str], done: list[Done]) -> Dataset:
    """The data set with every repair but shifts."""
    dropped: dict[int, str] = {}
    for name, codes in DROPS.items():
        if name in chosen and not (name == "nan" and "cut" in chosen):
            for number in _find_episodes(found, codes):
                dropped.setdefault(number, name)
    for name in DROPS:
        episodes = sorted(number for number, why in dropped.items() if why == name)
        if episodes:
            done.append(Done(name, f"left out {len(episodes)} episodes", episodes))
    stamps = set(_find_episodes(found, ("timestamps-back", "timestamps-repeat")))
    bad = set(_find_episodes(found, ("not-finite",)))
    pieces: list[Piece] = []
    for number, piece in enumerate(view_all(dataset)):
        if number in dropped:
            continue
        if number in bad and "cut" in chosen:
            piece = _cut(piece, number, done)
            if len(piece) < LEAST_STEPS:
                continue
        if number in stamps and "stamps" in chosen:
            times = make_times(len(piece), dataset.fps)
            piece = replace(piece, values={TIMESTAMP: times}, begin_s=0.0)
            done.append(Done("stamps", "stamped the steps with step / fps", (number,)))
        pieces.append(piece)
    view: Dataset = select(dataset, pieces)
    if "resample" in chosen and _find_codes(found, RATES):
        resampled = resample(view, dataset.fps)
        done.append(Done("resample", resampled.describe()))
        view = resampled
    if "still" in chosen:
        trimmed = trim(view, Cut(still=STILL))
        done.append(Done("still", "; ".join(trimmed.notes)))
        view = trimmed
    return view


def _find_codes(found: Report, codes: Sequence[str]) -> list[Finding]:
    return [finding for finding in found.findings if finding.code in codes]


def _find_episodes(found: Report, codes: Sequence[str]) -> list[int]:
    """Episodes of the findings with one of some codes, ascending."""
    numbers: set[int] = set()
    for finding in _find_codes(found, codes):
        numbers.update(int(number) for number in finding.episodes)
    return sorted(numbers)


def _cut(piece: Piece, number: int, done: list[Done]) -> Piece:
    """The longest stretch of a piece whose numbers are all finite."""
    finite = np.ones(len(piece), np.bool_)
    for key in piece.source.keys:
        spec = piece.source.obs_spec.keys.get(key)
        if spec is None or spec.kind != "image":
            values = piece.source.rows(key, piece.start, piece.stop)
            finite &= np.isfinite(values.reshape(len(values), -1)).all(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(np.int8)))
    if not len(edges):
        done.append(Done("cut", "left out: no step is finite", (number,)))
        return replace(piece, stop=piece.start)
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    first, last = int(starts[longest]), int(stops[longest])
    begin_s = first / piece.source.fps
    if TIMESTAMP in piece.source.keys:
        begin_s = float(piece.source.rows(TIMESTAMP, piece.start + first, piece.stop)[0])
    said = f"kept steps {first} to {last - 1} of {len(piece)}, all others touch NaN"
    done.append(Done("cut", said, (number,)))
    return replace(piece, start=piece.start + first, stop=piece.start + last, begin_s=begin_s)


class Shifted:
    """A data set whose cameras are read some steps later; the ends of episodes are not for use."""

    def __init__(self, source: Dataset, late: Mapping[str, int]) -> None:
        self.source = source
        self.keys, self.fps = source.keys, source.fps
        self.action_spec, self.obs_spec = source.action_spec, source.obs_spec
        self.episode_ends = source.episode_ends
        self._late = dict(late)

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key."""
        return self.rows(key, 0, int(self.episode_ends[-1]))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Some steps of one key."""
        late = self._late.get(key.removeprefix(MADE), 0)
        return self.source.rows(key, start + late, stop + late)

    def content_hash(self) -> str:
        """Hex digest of what is read."""
        return content_hash(self)


def _shift(view: Dataset, shift: Mapping[str, int], done: list[Done]) -> Dataset:
    """Every camera in step with the states; each episode loses the steps that have no picture."""
    for camera, late in shift.items():
        check_choice(camera, view.keys)
        spec = view.obs_spec.keys.get(camera)
        if spec is None or spec.kind != "image" or abs(late) > LONGEST_SHIFT:
            raise ConfigError(
                f"shift={camera}:{late} is not possible: a camera is shifted, "
                f"by at most {LONGEST_SHIFT} steps"
            )
    before = max(0, *(-late for late in shift.values()))
    after = max(0, *shift.values())
    moved = Shifted(view, shift)
    pieces: list[Piece] = []
    for piece in choose_episodes(moved, range(len(view.episode_ends))):
        if len(piece) - before - after >= LEAST_STEPS:
            first = piece.start + before
            begin_s = before / view.fps
            pieces.append(replace(piece, start=first, stop=piece.stop - after, begin_s=begin_s))
    said = ", ".join(f"{camera} by {late} steps" for camera, late in shift.items())
    gone = len(view.episode_ends) - len(pieces)
    done.append(Done("shift", f"shifted {said}; {gone} episodes were too short for it"))
    return select(moved, pieces)
