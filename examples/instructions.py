"""Many tasks in one policy: the observation holds an instruction in words.

    python examples/instructions.py [TRAINING_STEPS]

A hand goes to the left, to the right or up, as it is told. A tenth of the training goes without the
instruction (`condition_dropout`), so that classifier-free guidance can lead towards it. The script
prints how often each task succeeds, without guidance and with it. It takes a minute on two cores.
On the command line `task=mt10` are ten tasks of Meta-World.
"""

import sys
from functools import partial

import hotstart
import numpy as np

GOALS = {"go to the left": (-1.2, 0), "go to the right": (1.2, 0), "go up": (0, 1.2)}  # [m]

rng = np.random.default_rng(0)
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
episodes = []
for instruction in [*GOALS] * 60:
    hands = np.linspace(rng.uniform(-0.2, 0.2, 2), GOALS[instruction], 25)
    action = np.diff(hands, axis=0)
    episodes.append({"hand": hands[:-1], "action": action, "instruction": instruction})
data = hotstart.Arrays(episodes, fps=10)
settings = hotstart.TrainingSettings(steps=steps, batch=64)
words = partial(hotstart.InstructionEncoder, condition_dropout=0.1)
network = partial(hotstart.ConditionalUnet, channels=(32, 64))
hotstart.train(data, "runs/instructions", settings, encoder=words, denoiser=network)

for sampler in (hotstart.Fresh(steps=4), hotstart.ClassifierFreeGuidance(steps=4, weight=2)):
    agent = hotstart.load("runs/instructions", sampler)
    for instruction, goal in GOALS.items():
        successes = 0
        for seed in range(20):
            agent.reset(seed)
            hand = rng.uniform(-0.2, 0.2, 2)
            for _ in range(24):
                hand = hand + agent.act({"hand": hand, "instruction": instruction})
            successes += int(np.linalg.norm(hand - goal) < 0.2)
        print(f"{type(sampler).__name__}: {successes} of 20, {instruction}")
