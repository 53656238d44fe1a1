"""What an environment says of an episode's score: the best state's or the present one's, above
zero or below.
"""

import numpy as np
import pytest
from hotstart.envs.base import TaskEnv
from hotstart.spec import ActionSpec, ObsKey, ObsSpec


class Listed(TaskEnv):
    """Its states have the scores that it was given, one after the other."""

    def __init__(self, scores, keeps_best):
        self.scores, self.keeps_best = scores, keeps_best
        one = {"obs_spec": ObsSpec({"state": ObsKey((1,))}), "action_spec": ActionSpec.plain(1)}
        super().__init__(**one, action_low=-1, action_high=1, rate_hz=10.0, max_steps=9)

    def _begin(self, options):
        self.place = 0

    def _advance(self, action, substeps):
        self.place += 1

    def _observe(self):
        return {"state": np.zeros(1, np.float32)}

    def _judge(self):
        return self.scores[self.place], False

    def _save(self):
        return self.place

    def _load(self, state):
        self.place = state

    def render(self):
        return np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("scores", "keeps_best", "said"),
    [
        ([-5.0, -3.0, -4.0, -9.0], True, [-5.0, -3.0, -3.0, -3.0]),
        ([-5.0, -3.0, -4.0, -9.0], False, [-5.0, -3.0, -4.0, -9.0]),
        ([0.0, 3.0, -4.0, 1.0], True, [0.0, 3.0, 3.0, 3.0]),
        ([0.0, 3.0, -4.0, 1.0], False, [0.0, 3.0, -4.0, 1.0]),
    ],
)
def test_the_score_of_an_episode(scores, keeps_best, said):
    env = Listed(scores, keeps_best)
    for _ in range(2):  # the second episode knows nothing of the first
        infos = [env.reset(seed=0)[1], *(env.step(np.zeros(1))[4] for _ in range(3))]
        assert [info["score"] for info in infos] == said
    saved = env.snapshot()
    env.reset(seed=1)
    assert env.restore(saved)[1]["score"] == said[-1]
