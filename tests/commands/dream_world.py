"""A tiny policy for the gate and recorded play around it, for whatever needs both."""

import numpy as np
from hotstart.datasets.store import Store
from hotstart.envs.gate import GateEnv
from hotstart.spec import Horizon

from ..world_model.gate_play import CHUNK, record_play

TASK = {"name": "gate", "env": "gate", "options": {}, "obs_keys": ["state"], "max_steps": 24}


def save_base(tiny_model, folder):
    """The checkpoint of an untrained policy."""
    from hotstart.datasets.arrays import Arrays
    from hotstart.policy import checkpoint

    play = record_play(2)
    episode = {"state": play.observations["state"], "action": play.actions.astype(np.float32)}
    data = Arrays([episode], play.rate_hz, play.action_spec, play.obs_spec)
    model = tiny_model(dataset=data, horizon=Horizon(observed=2, planned=12, executed=CHUNK))
    checkpoint.save(folder / "base", model, {"task": TASK, "rate_hz": play.rate_hz})
    return folder / "base"


def save_play(folder, episodes=120):
    """A store of noisy walks, half of them undisturbed as play goes."""
    play = record_play(episodes)
    env = GateEnv()
    store = Store.create(
        folder / "play.zarr",
        fps=play.rate_hz,
        action_spec=env.action_spec,
        obs_spec=env.obs_spec,
        task="gate",
    )
    written = []
    for begin, end in zip(play.first, play.episode_ends, strict=True):
        steps = slice(begin, end)
        reached = play.reached[steps]
        led_to = np.append(reached[1:], reached[-1])  # what came of a step stands one step earlier
        written.append(
            {
                "state": play.observations["state"][steps],
                "action": play.actions[steps].astype(np.float32),
                "success": led_to,
                "explored": play.explored[steps],
            }
        )
    store.extend(written)
    return store.path


def save_world_model(play, folder):
    """A world model that has hardly learned from a store of play."""
    from hotstart.world_model import files
    from hotstart.world_model.fitting import FitSettings
    from hotstart.world_model.jump import JumpSettings
    from hotstart.world_model.learning import learn
    from hotstart.world_model.play import load_play

    quick = FitSettings(updates=30, batch=64, judge_updates=30)
    learned, _ = learn(
        load_play(play), CHUNK, "jump", quick, JumpSettings(hidden=24), progress=False
    )
    files.save(folder / "world", learned)
    return folder / "world"
