"""A real robot: the control loop on an arm, with a planning thread and a safe stop.

    python examples/real_robot.py [TRAINING_STEPS SECONDS]

It trains a policy that swings two joints (a minute, once) and prints the joints [rad] as they move.
The arm is stopped first, however the loop ends: at Ctrl-C (exit status 130) and SIGTERM (143), too.
"""

import sys
import threading
import time
from typing import Any

import hotstart
import numpy as np


class Arm(hotstart.Robot):
    """Two joints [rad]; your driver has the same methods. The first axis of arrays is 1 row."""

    rate_hz, servo_hz = 10.0, 100.0
    obs_spec = hotstart.ObsSpec({"joints": hotstart.ObsKey((2,))})
    action_spec = hotstart.ActionSpec.plain(2)  # name units, else none are compared
    joints, plan = np.zeros(2), hotstart.TimedActions.none(2)

    def follow(self) -> None:  # the servo, in a thread: go to the newest action that is due
        while True:
            time.sleep(1 / 100)
            plan, now_s = self.plan, time.monotonic()
            for target in plan.actions[plan.times_s <= now_s][-1:]:
                self.joints = self.joints + np.clip(target - self.joints, -0.03, 0.03)

    def observe(self) -> dict[str, np.ndarray]:
        time.sleep(0.002)  # the bus; give yours a time limit and raise: a hang stops nothing
        return {"joints": self.joints[None].astype(np.float32)}

    def act(self, actions: Any, substeps: Any = None, timed: Any = None) -> hotstart.Feedback:
        self.plan = timed[0]  # the actions of this and of later periods, with their times
        print("joints", self.joints.round(2), flush=True)
        return hotstart.Feedback.silent(1)

    def hold_position(self) -> np.ndarray:  # the action that keeps it where it is
        return self.joints[None]

    def stop(self) -> None:  # safe at any time
        self.plan = hotstart.TimedActions.none(2)
        print("the arm stands still", flush=True)


steps, seconds = [int(word) for word in sys.argv[1:]] or [500, 10]
swings = np.sin(np.arange(60)[:, None] * 0.1 + np.arange(20)[:, None, None] + [0, np.pi / 2])
data = hotstart.Arrays([{"joints": each[:-1], "action": each[1:]} for each in swings], fps=10)
hotstart.train(data, "runs/real_robot", hotstart.TrainingSettings(steps=steps, batch=32))
arm, policy = Arm(), hotstart.load("runs/real_robot", hotstart.WarmStart()).policy
threading.Thread(target=arm.follow, daemon=True).start()
settings = hotstart.LoopSettings(max_ticks=10 * seconds, replan_at=3)
with hotstart.ThreadedPlanner(policy) as planner:
    (log,) = hotstart.run(arm, policy, planner, hotstart.RealClock(), [0], settings)
print(f"{log.starved_ticks:.0f} of {log.steps} control periods passed without an action")
