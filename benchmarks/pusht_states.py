"""The score of recorded Push-T states: 0.892 for the 206 human demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.formats.replay_buffer import read_replay_buffer
from ..envs.pusht import score_of_states
from ..spec import REQUIRED, option


@dataclass
class Options:
    """Mean over the episodes of the best clip(coverage / 0.95, 0, 1) of the recorded states."""

    data: Path = option(
        REQUIRED, "Diffusion Policy's replay buffer (.zarr, .zarr.zip or .npz)", positional=True
    )


def run(options: Options) -> None:
    """Print the mean score and its spread."""
    recorded = read_replay_buffer(options.data)
    scores = score_of_states(recorded.array("state"), recorded.episode_ends)
    half = 1.96 * scores.std(ddof=1) / np.sqrt(len(scores))
    print(
        f"{len(scores)} episodes, {len(recorded.array('state'))} steps: mean score "
        f"{scores.mean():.4f} +- {half:.4f}"
    )
