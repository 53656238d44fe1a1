"""Many tasks in one policy: the observation holds an instruction in words.

    python examples/instructions.py [TRAINING_STEPS]

A hand sees the ways to a red and to a blue square, and is told where to go. A tenth of the training
goes without the instruction (`condition_dropout`), so that classifier-free guidance can lead
towards it. The script prints how often each task succeeds, without guidance and with it. It takes a
minute on two cores. On the command line `task=mt10` are ten tasks of Meta-World.
"""

import sys
from functools import partial

import hotstart
import numpy as np

TASKS = {"go to the red square": 0, "go to the blue square": 1}

rng = np.random.default_rng(0)
(steps,) = [int(word) for word in sys.argv[1:]] or [1500]
episodes = []
for number in range(200):
    instruction = list(TASKS)[number % 2]
    ways = rng.uniform(-1, 1, (2, 2))  # from the hand to the red and to the blue square [m]
    seen, actions = [], []
    for _ in range(24):
        seen.append(ways)
        actions.append(0.2 * ways[TASKS[instruction]])
        ways = ways - actions[-1]
    episodes.append(
        {"ways": np.stack(seen), "action": np.stack(actions), "instruction": instruction}
    )
data = hotstart.Arrays(episodes, fps=10)
settings = hotstart.TrainingSettings(steps=steps, batch=64, learning_rate=1e-3)
words = partial(hotstart.InstructionEncoder, condition_dropout=0.1)
network = partial(hotstart.ConditionalUnet, channels=(32, 64))
hotstart.train(data, "runs/instructions", settings, encoder=words, denoiser=network)

for sampler in (hotstart.Fresh(steps=4), hotstart.ClassifierFreeGuidance(steps=4, weight=2)):
    agent = hotstart.load("runs/instructions", sampler)
    for instruction, target in TASKS.items():
        successes = 0
        for seed in range(20):
            agent.reset(seed)
            ways = rng.uniform(-1, 1, (2, 2))
            for _ in range(24):
                ways = ways - agent.act({"ways": ways, "instruction": instruction})
            successes += int(np.linalg.norm(ways[target]) < 0.15)
        print(f"{type(sampler).__name__}: {successes} of 20, {instruction}")
