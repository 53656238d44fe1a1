"""`hotstart data view`: a page that shows a data set, and a recording for Rerun's viewer."""

from __future__ import annotations

import numpy as np

from ..configs.editing import View
from ..datasets.choosing import find_successes, read_numbers
from ..datasets.episodes import Dataset, count_steps, lengths_of
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.opening import open_dataset
from ..spec import ConfigError, DataError
from ..system import outputs
from .data_page import Shown, write_data_page
from .data_rerun import check_rerun, write_recording

MOST_SHOWN = 24
"""Episodes of a page at most."""


def view_data(options: View) -> int:
    """Write the page, and the recording where one is asked for."""
    outputs.check_file(options.out, options.overwrite)
    if options.rerun is not None:
        outputs.check_file(options.rerun, options.overwrite, "rerun")
        check_rerun()
    dataset = open_dataset(options.path, ReadOptions(fps=options.fps, mapping=options.mapping))
    if not count_steps(dataset):
        raise DataError(f"{options.path} has no episodes to show")
    chosen = choose_shown(dataset, options.episodes)
    write_data_page(options.out, Shown(dataset, options.path, chosen, options.video))
    print(f"{options.out}: {len(chosen)} of {len(dataset.episode_ends)} episodes")
    if options.rerun is not None:
        write_recording(options.rerun, dataset, list(chosen))
        print(f"{options.rerun}: the same episodes; open it with: rerun {options.rerun}")
    return 0


def choose_shown(dataset: Dataset, episodes: str) -> dict[int, str]:
    """Episode -> why it is shown: those that are asked for, or a few that differ most."""
    ends = dataset.episode_ends
    if episodes:
        numbers = read_numbers(episodes, len(ends)).tolist()
        if len(numbers) > MOST_SHOWN:
            raise ConfigError(
                f"episodes={episodes} are {len(numbers)}; a page shows at most {MOST_SHOWN}"
            )
        return dict.fromkeys(numbers, "chosen")
    lengths = lengths_of(ends)
    reasons = {
        "first": 0,
        "last": len(ends) - 1,
        "longest": int(lengths.argmax()),
        "shortest": int(lengths.argmin()),
    }
    if "success" in dataset.keys:
        failed = np.flatnonzero(~find_successes(dataset))
        if len(failed):
            reasons["without success"] = int(failed[len(failed) // 2])
    found: dict[int, str] = {}
    for reason, number in reasons.items():
        found[number] = ", ".join(filter(None, [found.get(number, ""), reason]))
    return dict(sorted(found.items()))
