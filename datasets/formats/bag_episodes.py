"""Where the episodes of a recording begin and end, and when their steps are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...spec import DataError
from ..resampling import FloatArray, Gap, find_common_span, find_gaps, make_grid
from .bag_mapping import Mapping, Source
from .bag_tracks import Recording, Track

MOST_STEPS_PER_MESSAGE = 100
FREE_STEPS = 10_000
Span = tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """The steps of a recording's episodes: a grid of times [s] for each, and what was noticed."""

    grids: list[FloatArray]
    notes: list[str]


def plan_episodes(recording: Recording, mapping: Mapping) -> Plan:
    """The episodes of a recording.

    Raises DataError where no time is left in which every topic exists, and for gaps that the
    mapping refuses.
    """
    bounding = _list_bounding(recording)
    notes: list[str] = []
    grids: list[FloatArray] = []
    whole = find_common_span([track.times for track in bounding])
    for span in _mark_spans(recording, mapping, whole):
        for part in _handle_gaps(recording, mapping, bounding, span, notes):
            _check_length(recording, bounding, part, mapping.fps)
            grid = make_grid(*part, mapping.fps)
            if len(grid) > 1:
                grids.append(grid)
    if not grids:
        raise DataError(
            f"{recording.path}: there is no time of two steps in which every topic has messages; "
            f"{_describe_spans(bounding)}"
        )
    for track in recording.tracks.values():
        if track.repeated:
            notes.append(
                f"{recording.path}: {track.repeated} messages of {track.source.topic} have the "
                "time of another and are left out"
            )
    return Plan(grids, [*recording.notes, *notes])


def _list_bounding(recording: Recording) -> list[Track]:
    """The tracks that must exist for an episode: all but markers and sparse ones."""
    found: list[Track] = []
    for source, track in recording.tracks.items():
        if isinstance(source, Source) and not source.sparse and source.kind != "text":
            found.append(track)
    if not found:
        raise DataError("every topic of the mapping is sparse; one must be sent all the time")
    return found


def _mark_spans(recording: Recording, mapping: Mapping, whole: Span) -> list[Span]:
    """The parts of a span that the marker marks; the whole where there is none."""
    marker = mapping.marker
    if mapping.episodes == "bag" or marker is None:
        return [whole]
    track = recording.tracks[marker]
    found: list[Span] = []
    start: float | None = None
    for time, mark in zip(track.times, track.values, strict=True):
        if mark == marker.start and start is None:
            start = float(time)
        elif mark == marker.stop and start is not None:
            found.append((start, float(time)))
            start = None
    if start is not None:
        found.append((start, math.inf))
    spans: list[Span] = []
    for begin, end in found:
        spans.append((max(begin, whole[0]), min(end, whole[1])))
    if not spans:
        raise DataError(
            f"{recording.path}: {marker.topic} is never {marker.start!r}: no episode starts"
        )
    return spans


def _handle_gaps(
    recording: Recording,
    mapping: Mapping,
    bounding: Sequence[Track],
    span: Span,
    notes: list[str],
) -> list[Span]:
    """The span, split at gaps where the mapping says so; gaps are noted or refused else."""
    gaps: list[Gap] = []
    for track in bounding:
        here = [gap for gap in find_gaps(track.times, mapping.most_gap_s) if _is_within(gap, span)]
        gaps += here
        if not here:
            continue
        longest = max(here, key=lambda gap: gap.length_s)
        said = (
            f"{recording.path}: {track.source.topic} has {len(here)} gaps above "
            f"{mapping.most_gap_s:g} s, the longest of {longest.length_s:.3g} s after "
            f"{longest.start_s:.3f} s"
        )
        if mapping.gaps == "refuse":
            raise DataError(f"{said}; split there with gaps: split, or fill them with gaps: report")
        notes.append(said)
    if mapping.gaps != "split":
        return [span]
    return cut_spans(span, gaps)


def cut_spans(span: Span, gaps: Sequence[Gap]) -> list[Span]:
    """What is left of a span without its gaps, which may overlap."""
    found: list[Span] = []
    start, stop = span
    for gap in sorted(gaps, key=lambda gap: gap.start_s):
        if gap.start_s > start:
            found.append((start, min(gap.start_s, stop)))
        start = max(start, gap.start_s + gap.length_s)
    if start < stop:
        found.append((start, stop))
    return found


def _is_within(gap: Gap, span: Span) -> bool:
    return gap.start_s < span[1] and gap.start_s + gap.length_s > span[0]


def _check_length(recording: Recording, tracks: Sequence[Track], span: Span, fps: float) -> None:
    """Refuse times so far apart that the clock must have jumped."""
    most = max(len(track.times) for track in tracks)
    steps = (span[1] - span[0]) * fps
    if steps > MOST_STEPS_PER_MESSAGE * most + FREE_STEPS:
        raise DataError(
            f"{recording.path}: the times reach over {span[1] - span[0]:,.0f} s with {most:,} "
            f"messages at most: a clock jumped; {_describe_spans(tracks)}"
        )


def _describe_spans(tracks: Sequence[Track]) -> str:
    """From when to when each topic has messages, in seconds of the recording."""
    said: list[str] = []
    for track in tracks:
        first, last = track.times[0], track.times[-1]
        said.append(f"{track.source.topic} {first:.3f} to {last:.3f} s")
    return ", ".join(said)
