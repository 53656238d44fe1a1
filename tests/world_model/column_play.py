"""Play in which actions push a bright column, for tests of world models that see pictures."""

from typing import Any

import numpy as np
from hotstart.spec import ActionSpec, ObsKey, ObsSpec
from hotstart.world_model.play import Play

SIDE = 32


def make_play(cameras: bool = True, steps: int = 14, episodes: int = 6) -> Play:
    """The state is where the column is, and a constant; right of 4 the task is fulfilled."""
    rng = np.random.default_rng(0)
    lengths = steps + np.arange(episodes) % 3
    ends = np.cumsum(lengths)
    actions = rng.uniform(-1, 1, (ends[-1], 1))
    places = np.zeros((ends[-1], 2), np.float32)
    for first, end in zip(ends - lengths, ends, strict=True):
        moved = 3 + np.cumsum(actions[first : end - 1, 0])
        places[first:end, 0] = np.concatenate(([3.0], moved))
    places[:, 1] = 7.0
    keys = {"place": ObsKey((2,))}
    observations: dict[str, Any] = {"place": places}
    if cameras:
        keys["view"] = ObsKey((SIDE, SIDE, 1), "uint8", "image")
        columns = np.abs(np.arange(SIDE) / 4 - places[:, :1])
        picture = (255 * np.exp(-columns)).astype(np.uint8)
        observations["view"] = np.repeat(picture[:, None, :, None], SIDE, 1)
    return Play(
        observations=observations,
        actions=actions,
        reached=places[:, 0] > 4,
        score=None,
        explored=np.ones(ends[-1], bool),
        episode_ends=ends,
        obs_spec=ObsSpec(keys),
        action_spec=ActionSpec.plain(1),
        rate_hz=10.0,
        content_hash="",
    )
