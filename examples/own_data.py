"""Own data: from recorded arrays and pictures to a policy that acts.

    python examples/own_data.py [TRAINING_STEPS]

`record` stands for your recordings. An episode is a dict of arrays with one entry per control
period. Float arrays are states, uint8 arrays (height, width, 3) are pictures. Here a gripper moves
to a white square that only the camera sees. The script trains a policy, loads it and moves the
gripper. It prints the distance to the square before and after. It takes a minute on two cores.
"""

import sys
from functools import partial

import hotstart
import numpy as np

rng = np.random.default_rng(0)


def draw_square() -> np.ndarray:
    """The position (2,) [m] of a square on a circle around the gripper."""
    angle = rng.uniform(-np.pi, np.pi)
    return 1.2 * np.array([np.cos(angle), np.sin(angle)])


def observe(hand: np.ndarray, square: np.ndarray) -> dict[str, np.ndarray]:
    """The gripper's position (2,) [m], and a picture (32, 32, 3) of the square."""
    camera = rng.integers(0, 30, (32, 32, 3), np.uint8)  # a dark scene with a camera's noise
    row, column = (14 + 12 * square).astype(int)
    camera[row : row + 4, column : column + 4] = 255
    return {"hand": hand.astype(np.float32), "camera": camera}


def record() -> dict[str, np.ndarray]:
    """A demonstration of 24 control periods; an action (2,) is a change of position [m]."""
    square = draw_square()
    hands = np.linspace(0, square, 25)
    cameras = [observe(hand, square)["camera"] for hand in hands[:-1]]
    return {"hand": hands[:-1], "camera": np.stack(cameras), "action": np.diff(hands, axis=0)}


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
episodes = [record() for _ in range(100)]
data = hotstart.Arrays(episodes, fps=10)
camera = partial(hotstart.ImageEncoder, channels=16, stages=2)
network = partial(hotstart.ConditionalUnet, channels=(32, 64))
settings = hotstart.TrainingSettings(steps=steps, batch=64)
hotstart.train(data, "runs/own_data", settings, encoder=camera, denoiser=network)

agent = hotstart.load("runs/own_data", hotstart.Fresh(steps=4))
for seed in range(5):
    hand = np.zeros(2)
    square = draw_square()
    before = np.linalg.norm(hand - square)
    agent.reset(seed)
    for _ in range(24):
        hand = hand + agent.act(observe(hand, square))
    print(f"distance to the square: {before:.2f} m, then {np.linalg.norm(hand - square):.2f} m")
