"""`hotstart data recompute`: observations for robosuite's raw collections, and their replay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs.editing import Recompute
from ..datasets.editing import check_free
from ..datasets.store import Store
from ..datasets.writing import name_unfinished
from ..envs.robosuite.collections import Outcome, RawDemo, Replay, find_rate_hz, read_collection
from ..envs.robosuite.env import RATE_HZ, pose_spec
from ..spec import ActionSpec
from .next_steps import write_command, write_path


def recompute(options: Recompute) -> int:
    """Write a data set with the observations of the task at the recorded states.

    Prints a line a demo: whether the recorded states succeed, whether the actions alone do, and
    how far the hand strays meanwhile. The target appears when it is whole.
    """
    check_free(options.target)
    task, demos = read_collection(options.source)
    rate_hz = find_rate_hz(demos)
    replay = Replay(task, _find_robot(demos[0]))
    try:
        episodes = [_recompute(replay, demo, options.replay) for demo in demos]
        spec = ActionSpec.plain(demos[0].actions.shape[1])
        if demos[0].replayable and spec.width == pose_spec().width:
            spec = pose_spec()
        making = name_unfinished(options.target)
        store = Store.create(
            making,
            fps=rate_hz,
            action_spec=spec,
            obs_spec=replay.env.obs_spec,
            task=replay.env.instruction,
            source=f"{options.source.name}, robosuite's {task}",
        )
        store.extend(episodes)
        store.release()
        making.rename(options.target)
    finally:
        replay.close()
    if rate_hz != RATE_HZ:
        print(f"the states are {rate_hz:g} a second; robosuite's tasks run at {RATE_HZ:g}")
    print(f"{options.target}: {len(demos)} episodes")
    print(f"next: {write_command('data verify', write_path(options.target))}")
    return 0


def _recompute(replay: Replay, demo: RawDemo, replayed: bool) -> dict[str, NDArray[Any]]:
    """The episode of a demo; its outcome is printed."""
    seen, successes = replay.observe(demo)
    succeeded, deviation_m = None, 0.0
    if replayed and demo.replayable:
        succeeded, deviation_m = replay.replay(demo, seen["eef_pos"])
    print(_describe(Outcome(demo.name, len(successes), any(successes), succeeded, deviation_m)))
    return {
        **seen,
        "action": demo.actions.astype(np.float32),
        "success": np.array(successes),
        "timestamp": demo.states[:, 0] - demo.states[0, 0],
    }


def _describe(outcome: Outcome) -> str:
    text = f"{outcome.demo}: {outcome.steps} steps, recorded states {_say(outcome.states_succeed)}"
    if outcome.actions_succeed is None:
        return f"{text}; actions are not replayed"
    return (
        f"{text}; replayed actions {_say(outcome.actions_succeed)}, "
        f"the hand up to {100 * outcome.deviation_m:.1f} cm away"
    )


def _say(succeeded: bool) -> str:
    if succeeded:
        return "succeed"
    return "fail"


def _find_robot(demo: RawDemo) -> str:
    """The arm, by the names of its joints."""
    for name, _ in demo.scene.joints:
        if name.startswith("right_j"):
            return "Sawyer"
    return "Panda"
