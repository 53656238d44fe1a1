"""robosuite's tasks (2009.12293) as `TaskEnv`: operational-space pose control at 20 Hz, state observations, lazy rendering.

The simulator is loaded at the first reset, not at import: the specifications are known without it.
A new task is a subclass with a name, the sizes of its object observations and a length of the episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..spec import ActionDim, ActionSpec, ConfigError, FloatArray, ObsKey, ObsSpec
from .base import Observations, TaskEnv
from .rendering import CameraView, SceneRenderer
from .robosuite_models import Picture, build

RATE_HZ = 20.0
STEP_M, STEP_RAD = 0.05, 0.5
"""What an action of 1 moves the controller's goal by: OSC_POSE's output_max."""
FINGERS = {"Panda": 2, "UR5e": 6}
"""Robot -> joints of its default gripper."""
HAND_DOWN = (1.0, 0.0, 0.0, 0.0)
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
"""Reference orientations, xyzw: a hand that points at the table, an object that stands as it was made."""
COLLISION_GROUP = 0
TABLE_VIEW = CameraView(lookat_m=(-0.15, 0.0, 0.98), distance_m=0.95, azimuth_deg=135.0, elevation_deg=-25.0)

ACTION_SPEC = ActionSpec(
    (
        *(ActionDim(f"eef_d{axis}", f"{STEP_M} m", absolute=False) for axis in "xyz"),
        *(ActionDim(f"eef_rot_{axis}", f"{STEP_RAD} rad", "rotation", absolute=False) for axis in "xyz"),
        ActionDim("gripper", "-1 open, 1 close", "discrete"),
    )
)


def canonical_quat(quat: NDArray[Any], reference: tuple[float, ...]) -> NDArray[Any]:
    """The sign of a quaternion (4,) xyzw that lies on the reference's side: q and -q are the same rotation.

    The simulator gives either sign. The usual w >= 0 would flip at every tremor for a hand that points down (w is near 0
    there); a reference in the middle of the workspace puts the one unavoidable jump half a turn away from it.
    """
    return -quat if float(np.dot(quat, reference)) < 0 else quat


class RobosuiteEnv(TaskEnv):
    """A one-armed robosuite task.

    Observations, float32: `eef_pos` (3) [m], `eef_quat` (4) xyzw with canonical sign, `gripper_qpos` (2 for the Panda) [m],
    `object`: the task's own object observations, joined. Actions (7) in [-1, 1]: see `ACTION_SPEC`.
    Every reset builds the simulation anew from a seed drawn from `self.np_random`: robosuite draws the sizes of objects
    when it builds the model, so only this makes an episode depend on its seed and on nothing that was run before.
    The score is robosuite's staged reward, in [0, 1].
    """

    task: ClassVar[str]
    objects: ClassVar[Mapping[str, int]]
    references: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    default_steps: ClassVar[int]
    view: ClassVar[CameraView] = TABLE_VIEW

    def __init__(self, robot: str = "Panda", max_steps: int | None = None, render_size: int = 256) -> None:
        """Choose the arm, the length of an episode (ticks) and the side of rendered pictures (pixels)."""
        if robot not in FINGERS:
            raise ConfigError(f"robot is {robot!r}; choose one of {', '.join(FINGERS)}")
        keys = {"eef_pos": 3, "eef_quat": 4, "gripper_qpos": FINGERS[robot], "object": sum(self.objects.values())}
        super().__init__(
            obs_spec=ObsSpec({name: ObsKey((size,)) for name, size in keys.items()}),
            action_spec=ACTION_SPEC,
            action_low=-1.0,
            action_high=1.0,
            rate_hz=RATE_HZ,
            max_steps=self.default_steps if max_steps is None else max_steps,
        )
        self.robot, self.render_size = robot, render_size
        self._sim: Any = None
        self._renderer: SceneRenderer | None = None
        self._picture: Picture | None = None
        self._seen: Mapping[str, NDArray[Any]] = {}
        self._reward = 0.0

    @property
    def simulation(self) -> Any:
        """The robosuite environment, for experts that look at more than the observation."""
        if self._sim is None:
            raise RuntimeError("there is no simulation before the first reset")
        return self._sim

    def _begin(self, options: dict[str, Any]) -> None:
        self._release()
        self._sim = build(self.task, self.robot, int(self.np_random.integers(2**31)), RATE_HZ)
        self._seen = self._sim.reset()
        self._reward = float(self._sim.reward(None))

    def _advance(self, action: FloatArray) -> None:
        self._seen, self._reward, _, _ = self.simulation.step(np.clip(action, -1.0, 1.0))

    def _observe(self) -> Observations:
        seen = self._seen
        parts = {
            "eef_pos": seen["robot0_eef_pos"],
            "eef_quat": canonical_quat(seen["robot0_eef_quat"], HAND_DOWN),
            "gripper_qpos": seen["robot0_gripper_qpos"],
            "object": np.concatenate([self._object(name) for name in self.objects]),
        }
        return {name: part.astype(np.float32) for name, part in parts.items()}

    def _object(self, name: str) -> NDArray[Any]:
        value = self._seen[name]
        return canonical_quat(value, self.references[name]) if name in self.references else value

    def _judge(self) -> tuple[float, bool]:
        return float(np.clip(self._reward, 0.0, 1.0)), bool(self.simulation._check_success())

    def render(self) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene from the front, (H, W, 3) RGB; the drawing surface is opened at the first picture of an episode.

        Raises RenderingError if no OpenGL library works.
        """
        if self._renderer is None or self._picture is None:
            self._picture = Picture(self.simulation.full_xml)
            size = (self.render_size, self.render_size)
            self._renderer = SceneRenderer(self._picture.model, self.view, size, hidden=[COLLISION_GROUP])
        sim = self.simulation.sim
        self._picture.pose(sim.model._model, sim.data._data)
        return self._renderer.frame(self._picture.data)

    def _release(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = self._picture = None
        if self._sim is not None:
            self._sim.close()
            self._sim = None

    def close(self) -> None:
        """Free the simulation and the drawing surface."""
        self._release()


class LiftEnv(RobosuiteEnv):
    """Pick up a cube of 4 to 4.4 cm and raise it 4 cm above the table; `object` is its position, orientation and offset."""

    task = "Lift"
    objects: ClassVar[Mapping[str, int]] = {"cube_pos": 3, "cube_quat": 4, "gripper_to_cube_pos": 3}
    references: ClassVar[Mapping[str, tuple[float, ...]]] = {"cube_quat": UPRIGHT}
    default_steps = 100
