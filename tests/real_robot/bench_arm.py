"""An arm of two joints with a camera, in this process."""

import time

import numpy as np
from hotstart.spec import (
    ActionDim,
    ActionSpec,
    Actor,
    Feedback,
    ObsKey,
    ObsSpec,
    Robot,
    Tick,
    TimedObservation,
)

AGE_S = 0.03
SPEED = 0.01
"""Of the shoulder in `make_tick` [rad a turn]."""


class Arm(Robot):
    """Two joints [rad] and a gripper; every picture's gray is the number of the turn."""

    servo_hz = None
    obs_spec = ObsSpec({"joints": ObsKey((3,)), "front": ObsKey((8, 8, 3), "uint8", "image")})
    action_spec = ActionSpec(
        (ActionDim("shoulder", "rad"), ActionDim("elbow", "rad"), ActionDim("gripper", ""))
    )

    def __init__(self, clock, rate_hz=10.0) -> None:
        self.clock, self.rate_hz = clock, rate_hz
        self.position = np.array([0.1, -0.2, 1.0])
        self.told: list[np.ndarray] = []
        self.turn = 0
        self.stops = 0

    def observe(self):
        self.turn += 1
        now_s = self.clock.now_s()
        picture = np.full((1, 8, 8, 3), self.turn % 256, np.uint8)
        seen = {"joints": self.position[None].astype(np.float32), "front": picture}
        return TimedObservation(seen, {"front": np.array([now_s - AGE_S])})

    def act(self, actions, substeps=None, timed=None):
        self.position = np.clip(actions[0], -1, 1)
        self.told.append(actions[0].copy())
        silent = Feedback.silent(1)
        return Feedback(**{**vars(silent), "applied": self.position[None].copy()})

    def hold_position(self):
        return self.position[None].copy()

    def stop(self):
        self.stops += 1


def make_tick(arm, number, actor=Actor.POLICY, lasts=1):
    """A turn of the loop at 10 Hz, as the arm sees it."""
    seen = arm.observe()
    now_s = np.array([100 + number / arm.rate_hz])
    action = np.array([[SPEED * number, 2.0, 0.0]])
    return Tick(
        number=number,
        now_s=now_s,
        made_s=now_s,
        target_s=now_s + 0.02,
        observation=seen.observation,
        actions=action,
        substeps=np.array([lasts]),
        actors=np.array([int(actor)]),
        applied=np.clip(action, -1, 1),
        feedback=Feedback.silent(1),
        key_made_s={"front": now_s - 0.03},
    )


def record(recorder, arm, steps, success=True):
    """An episode; returns the gray of its pictures."""
    recorder.begin()
    grays = []
    for number in range(steps):
        recorder(make_tick(arm, number))
        grays.append(arm.turn % 256)
    recorder.finish(success)
    return grays


def wait_for(holds, seconds=10.0):
    """Until something holds; fails after a while."""
    until_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until_s, "it has not come"
        time.sleep(0.002)
