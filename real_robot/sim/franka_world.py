"""The scene of a Franka as `franky-sim` simulates it: arm, hand and puck move there.

The scene here is their mirror, posed as that simulator tells. It judges the task, says where puck
and region are, and is what cameras draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arms.scene import Scene
from ...spec import HotstartError
from ..drivers.franka_hand import MAX_M
from .franka import FrankaServer
from .world import World

SCENE = "franka_push"


def describe_object(scene: Scene) -> str:
    """The object of a scene as MJCF, a `worldbody`: a cylinder that is free to move."""
    geom: Any = scene.model.geom("object")
    size = " ".join(str(length) for length in geom.size[:2])
    friction = " ".join(str(number) for number in geom.friction)
    mass = scene.model.body("object").mass[0]
    return (
        f'<worldbody><body name="object"><freejoint name="object"/>'
        f'<geom type="cylinder" size="{size}" mass="{mass}" friction="{friction}" '
        f'priority="{geom.priority[0]}"/></body></worldbody>'
    )


class FrankaWorld(World):
    """A world whose time passes in the simulator of an open `FrankaServer`."""

    def __init__(self, scene: Scene, server: FrankaServer, seed: int = 0) -> None:
        self.server = server
        super().__init__(scene, seed)

    @property
    def share(self) -> float:
        """Of real time, at which the arm moved; nan before it has ended."""
        return self.server.share

    def _put(self, seed: int, arm: bool) -> None:
        scene = self.scene
        scene.reset(seed, arm)
        if arm:
            self.server.put_arm(scene.positions, scene.gripper * MAX_M)
        self.server.put_object(scene.object_pose)

    def _go_on(self) -> None:
        """Pose the mirror as the simulator tells."""
        told = self.server.read()
        if told is None:
            raise HotstartError("franky-sim has ended")
        with self._lock:
            if told.puts < self.server.puts:
                return  # it was said before the arm was put elsewhere
            self.scene.put_arm(np.append(told.joints, told.width_m / MAX_M))
            self.scene.put_speeds(told.joint_speeds)
            self.scene.put_object_pose(told.pose, told.speed)
            self.scene.update()
            self._now_s = told.made_s
            self._publish()
