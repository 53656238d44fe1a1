"""Own environment: a task of your own, demonstrated, trained and evaluated.

    python examples/own_environment.py [TRAINING_STEPS EPISODES]

`Reach` has the five methods of `hotstart.TaskEnv`; `gymnasium.register` makes it known. The script
prints the success rate with its 95 % interval, after a minute on two cores. The command line finds
the task in a package of yours: `task=gymnasium task.options.id=my_package:Reach-v0`.
"""

import sys
from functools import partial
from typing import Any

import gymnasium
import hotstart
import numpy as np


class Reach(hotstart.TaskEnv):
    """A hand (2,) [m] must come within 10 cm of a goal (2,) [m]."""

    def __init__(self) -> None:
        seen, told = hotstart.ObsSpec({"way": hotstart.ObsKey((2,))}), hotstart.ActionSpec.plain(2)
        limits = {"action_low": -1, "action_high": 1, "max_steps": 60}
        super().__init__(obs_spec=seen, action_spec=told, rate_hz=10, **limits)

    def _begin(self, options: dict[str, Any]) -> None:
        angle = self.np_random.uniform(-np.pi, np.pi)
        self.hand, self.goal = np.zeros(2), 2 * np.array([np.cos(angle), np.sin(angle)])

    def _advance(self, action: np.ndarray, substeps: int) -> None:
        self.hand = self.hand + action

    def _observe(self) -> dict[str, np.ndarray]:
        return {"way": (self.goal - self.hand).astype(np.float32)}

    def _judge(self) -> tuple[float, bool]:  # the score of now, and whether the task is fulfilled
        distance = np.linalg.norm(self.goal - self.hand)
        return float(-distance), bool(distance < 0.1)

    def render(self) -> np.ndarray:  # a picture for videos
        return np.zeros((96, 96, 3), np.uint8)


steps, episodes = [int(word) for word in sys.argv[1:]] or [500, 200]
env, recordings = Reach(), []
for seed in range(100):
    ways = [env.reset(seed=seed)[0]["way"]]
    action = ways[0] / 40
    for _ in range(39):
        ways.append(env.step(action)[0]["way"])
    recordings.append({"way": np.stack(ways), "action": np.tile(action, (40, 1))})
data = hotstart.Arrays(recordings, fps=env.rate_hz)
unet = partial(hotstart.ConditionalUnet, channels=(32, 64))
settings, run = hotstart.TrainingSettings(steps, batch=64), "runs/own_environment"
hotstart.train(data, run, settings, denoiser=unet)
gymnasium.register("Reach-v0", lambda **_: Reach(), max_episode_steps=60)
task = {"task": "gymnasium", "task_options": {"id": "Reach-v0", "score": "success"}}
print(hotstart.evaluate(run, hotstart.Fresh(4), **task, episodes=episodes, workers=0)["success"])
