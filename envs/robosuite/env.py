"""robosuite's tasks (2009.12293) as `TaskEnv`: operational-space pose control at 20 Hz, state
observations, lazy rendering.

The simulator is loaded at the first reset, not at import: the specifications are known without it.
A new task is a subclass with a name, the sizes of its object observations and a length of the
episode (tasks.py).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...arms.rendering import CameraView, SceneRenderer
from ...spec import ActionDim, ActionSpec, ConfigError, FloatArray, ObsKey, ObsSpec
from ..base import Observations, TaskEnv
from ..cameras import CameraChoice, Cameras
from .models import Picture, build, fresh_observations, set_simulation_state, simulation_state

RATE_HZ = 20.0
SUBSTEPS = 25
"""Physics steps of 2 ms in a control period."""
STEP_M, STEP_RAD = 0.05, 0.5
"""What an action of 1 moves the controller's goal by: OSC_POSE's output_max."""
FINGERS = {"Panda": 2, "UR5e": 6}
"""Robot -> joints of its default gripper."""
Control = Literal["delta", "absolute"]
RotationForm = Literal["quaternion", "rotation_6d"]
WORKSPACE = ([-0.5, -0.6, 0.7, *[-np.pi] * 3, -1.0], [0.5, 0.6, 1.5, *[np.pi] * 3, 1.0])
"""Where absolute actions of an arm are looked for, not where they end: position [m], rotation
vector [rad], gripper.
"""
HAND_DOWN = (1.0, 0.0, 0.0, 0.0)
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
"""Reference orientations, xyzw: a hand that points at the table, an object that stands as it was
made.
"""
COLLISION_GROUP = 0
TABLE_VIEW = CameraView(
    lookat_m=(-0.15, 0.0, 0.98), distance_m=0.95, azimuth_deg=135.0, elevation_deg=-25.0
)


def arm_prefixes(arms: int) -> list[str]:
    """What the names of each arm's observations and actions begin with: nothing for a single
    arm.
    """
    if arms == 1:
        return [""]
    return [f"robot{number}_" for number in range(arms)]


def pose_spec(arms: int = 1, control: Control = "delta") -> ActionSpec:
    """The hand's position and rotation vector, or their changes, and the gripper, for each arm in
    turn: 7 numbers an arm.
    """
    dims: list[ActionDim] = []
    for prefix in arm_prefixes(arms):
        dims += _arm_dims(prefix, control == "absolute")
    return ActionSpec(tuple(dims))


def _arm_dims(prefix: str, absolute: bool) -> list[ActionDim]:
    """The seven numbers of an arm: poses, or changes of the pose in parts of a full step."""
    if absolute:
        stem = f"{prefix}eef_"
        metres, radians = "m", "rad"
    else:
        stem = f"{prefix}eef_d"
        metres, radians = f"{STEP_M} m", f"{STEP_RAD} rad"
    dims = []
    for axis in "xyz":
        dims.append(ActionDim(f"{stem}{axis}", metres, absolute=absolute))
    for axis in "xyz":
        dims.append(ActionDim(f"{prefix}eef_rot_{axis}", radians, "rotation", absolute))
    dims.append(ActionDim(f"{prefix}gripper", "-1 open, 1 close", "discrete"))
    return dims


def canonical_quat(quat: NDArray[Any], reference: tuple[float, ...]) -> NDArray[Any]:
    """The sign of a quaternion (4,) xyzw that lies on the reference's side: q and -q are the same
    rotation.

    The simulator gives either sign. The usual w >= 0 would flip at every tremor for a hand that
    points down (w is near 0 there); a reference in the middle of the workspace puts the one
    unavoidable jump half a turn away from it.
    """
    if float(np.dot(quat, reference)) < 0:
        return -quat
    return quat


def matrix_columns(quat: NDArray[Any]) -> NDArray[Any]:
    """A quaternion (4,) xyzw as the first two columns of its matrix, (6,), which never jump
    (1812.07035).

    robosuite's sensors give zeros where they have not measured yet: those count as no turn.
    """
    if np.linalg.norm(quat) > 0:
        turned = Rotation.from_quat(quat)
    else:
        turned = Rotation.identity()
    return turned.as_matrix()[:, :2].T.ravel()


class RobosuiteEnv(TaskEnv):
    """A robosuite task of one arm, or of `arms` equal ones.

    Observations, float32: `eef_pos` (3) [m], `eef_quat` (4) xyzw of the hand's body and
    `eef_quat_site` (4) of the frame that is controlled, both with canonical sign, `gripper_qpos` (2
    for the Panda) [m], each with `robot0_`, `robot1_` before it where there are two arms; `object`:
    the task's own object observations, joined, their turns as quaternions or, with
    `rotation="rotation_6d"`, as six numbers: of an object that may lie any way round a quaternion
    changes its sign somewhere in the middle of what is to be learned. Actions (7 an arm): with
    `control="delta"` changes of the hand's pose in [-1, 1], with `control="absolute"` the pose
    itself, in the world, as position [m] and rotation vector [rad]: see `pose_spec`. Every reset
    builds the simulation anew from a seed drawn from `self.np_random`: robosuite draws the sizes of
    objects when it builds the model, so only this makes an episode depend on its seed and on
    nothing that was run before. The score is robosuite's staged reward, in [0, 1].
    """

    task: ClassVar[str]
    objects: ClassVar[Mapping[str, int]]
    references: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    arms: ClassVar[int] = 1
    substeps = SUBSTEPS
    default_steps: ClassVar[int]
    view: ClassVar[CameraView] = TABLE_VIEW

    def __init__(
        self,
        robot: str = "Panda",
        max_steps: int | None = None,
        render_size: int = 256,
        control: Control = "delta",
        cameras: CameraChoice = None,
        rotation: RotationForm = "quaternion",
    ) -> None:
        """Make the task with these options.

        robot: the arm: Panda or UR5e
        max_steps: length of an episode [ticks of 0.05 s]; none: the task's own
        render_size: side of the pictures of a video [px]
        control: what actions are: delta (changes of the hand's pose in [-1, 1]) or absolute (the
        pose [m, rad])
        cameras: cameras to observe, names or {name: side in px}: agentview, frontview,
        robot0_eye_in_hand and others
        rotation: how the turns of objects are observed: quaternion or rotation_6d (six numbers that
        never jump)
        """
        _check_choice("control", control, get_args(Control))
        _check_choice("rotation", rotation, get_args(RotationForm))
        _check_choice("robot", robot, tuple(FINGERS))
        low, high = WORKSPACE
        if control == "delta":
            low, high = [-1.0] * 7, [1.0] * 7
        if max_steps is None:
            max_steps = self.default_steps
        self.rotation = rotation
        self.cameras = Cameras.of(cameras)
        super().__init__(
            obs_spec=ObsSpec({**self._state_keys(robot), **self.cameras.keys}),
            action_spec=pose_spec(self.arms, control),
            action_low=low * self.arms,
            action_high=high * self.arms,
            rate_hz=RATE_HZ,
            max_steps=max_steps,
        )
        self.robot = robot
        self.render_size = render_size
        self.control = control
        self._sim: Any = None
        self._renderer: SceneRenderer | None = None
        self._picture: Picture | None = None
        self._seen: Mapping[str, NDArray[Any]] = {}
        self._reward, self._built_from = 0.0, -1

    def _state_keys(self, robot: str) -> dict[str, ObsKey]:
        """The observed states: four of each arm, and the objects as one."""
        sizes = {"eef_pos": 3, "eef_quat": 4, "eef_quat_site": 4, "gripper_qpos": FINGERS[robot]}
        keys = {}
        for prefix in arm_prefixes(self.arms):
            for name, size in sizes.items():
                keys[prefix + name] = ObsKey((size,))
        width = sum(self.objects.values())
        if self.rotation == "rotation_6d":
            width += 2 * len(list(filter(_is_turn, self.objects)))
        keys["object"] = ObsKey((width,))
        return keys

    @property
    def simulation(self) -> Any:
        """The robosuite environment, for demonstrators that look at more than the observation."""
        if self._sim is None:
            raise RuntimeError("there is no simulation before the first reset")
        return self._sim

    def _begin(self, options: dict[str, Any]) -> None:
        self._build(int(self.np_random.integers(2**31)))

    def _build(self, seed: int) -> None:
        self._release()
        self._sim, self._built_from = (
            build(self.task, [self.robot] * self.arms, seed, RATE_HZ, self.control),
            seed,
        )
        self._seen = self._sim.reset()
        self._reward = float(self._sim.reward(None))

    def _advance(self, action: FloatArray, substeps: int) -> None:
        if self.control == "delta":
            bounded = np.clip(action, -1.0, 1.0)
        else:
            bounded = action
        sim = self.simulation
        whole_s = sim.control_timestep
        if substeps < self.substeps:
            sim.control_timestep = (
                substeps + 1e-3
            ) * sim.model_timestep  # robosuite rounds down to whole substeps
        try:
            self._seen, self._reward = sim.step(bounded)[:2]
        finally:
            sim.control_timestep = whole_s
        if substeps < self.substeps:
            self._seen = fresh_observations(sim)

    def hold_position(self) -> FloatArray:
        """No change of the pose; for absolute poses the one that the hand has now. The gripper
        moves no further.
        """
        if self.control == "delta":
            return np.zeros(self.action_spec.width)
        actions = []
        for arm in range(self.arms):
            at, orientation = self._hand(arm)
            actions += [*at, *Rotation.from_matrix(orientation).as_rotvec(), 0.0]
        return np.array(actions)

    def _hand(self, arm: int) -> tuple[FloatArray, FloatArray]:
        """Position (3,) [m] and orientation (3, 3) of the frame that is controlled."""
        data, gripper = self.simulation.sim.data, self.simulation.robots[arm].gripper["right"]
        site = gripper.important_sites["grip_site"]
        return np.array(data.get_site_xpos(site)), np.array(data.get_site_xmat(site))

    def _identity(self) -> tuple[Any, ...]:
        return (
            *super()._identity(),
            self.robot,
            self.control,
            self.rotation,
            *self.cameras.sizes.items(),
        )

    def _save(self) -> Any:
        return {
            "seed": self._built_from,
            "seen": copy.deepcopy(dict(self._seen)),
            "reward": self._reward,
            "scene": self.simulation.full_xml,
            "simulation": simulation_state(self.simulation),
        }

    def _load(self, state: Any) -> None:
        if self._sim is None or self._built_from != state["seed"]:
            self._build(state["seed"])
        if self.simulation.full_xml != state["scene"]:
            raise ConfigError(
                "the snapshot's scene cannot be built any more: it was made by another version of "
                "robosuite"
            )
        set_simulation_state(self.simulation, state["simulation"])
        self._seen = copy.deepcopy(state["seen"])
        self._reward = state["reward"]

    def command(self, change: FloatArray) -> FloatArray:
        """The action (7,) of this environment that a change (7,) in [-1, 1] of the one arm's
        present pose amounts to.
        """
        if self.control == "delta":
            return change
        at, orientation = self._hand(0)
        position_m = at + STEP_M * change[:3]
        turned = Rotation.from_rotvec(STEP_RAD * change[3:6]).as_matrix() @ orientation
        return np.array([*position_m, *Rotation.from_matrix(turned).as_rotvec(), change[6]])

    def _observe(self) -> Observations:
        states: Observations = {}
        for number, prefix in enumerate(arm_prefixes(self.arms)):
            for name in ("eef_pos", "eef_quat", "eef_quat_site", "gripper_qpos"):
                value = self._seen[f"robot{number}_{name}"]
                if name.startswith("eef_quat"):
                    value = canonical_quat(value, HAND_DOWN)
                states[prefix + name] = value.astype(np.float32)
        objects = list(map(np.atleast_1d, map(self._object, self.objects)))
        states["object"] = np.concatenate(objects).astype(np.float32)
        if self.cameras:
            states |= self._pictures()
        return states

    def _object(self, name: str) -> NDArray[Any]:
        value = self._seen[name]
        if self.rotation == "rotation_6d" and _is_turn(name):
            return matrix_columns(value)
        if name in self.references:
            return canonical_quat(value, self.references[name])
        return value

    def _judge(self) -> tuple[float, bool]:
        return float(np.clip(self._reward, 0.0, 1.0)), bool(self.simulation._check_success())

    def render(self) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene from the front, (H, W, 3) RGB; the drawing surface is opened at the first
        picture.

        Raises RenderingError if no OpenGL library works.
        """
        renderer, picture = self._pose_scene()
        return renderer.frame(picture.data, self.view, (self.render_size, self.render_size))

    def _pictures(self) -> dict[str, NDArray[np.uint8]]:
        """What the cameras see."""
        renderer, picture = self._pose_scene()
        return self.cameras.pictures(renderer, picture.data)

    def _pose_scene(self) -> tuple[SceneRenderer, Picture]:
        """The renderer and the full scene, posed as the simulation is now; kept as long as the
        scene stays the same.
        """
        if (
            self._renderer is None
            or self._picture is None
            or self._picture.full_xml != self.simulation.full_xml
        ):
            self._release_picture()
            self._picture = Picture(self.simulation.full_xml)
            size = self.cameras.largest(self.render_size)
            self._renderer = SceneRenderer(
                self._picture.model, self.view, size, hidden=[COLLISION_GROUP]
            )
        sim = self.simulation.sim
        self._picture.pose(sim.model._model, sim.data._data)
        return self._renderer, self._picture

    def _release_picture(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None
        self._picture = None

    def _release(self) -> None:
        if self._sim is not None:
            self._sim.close()
            self._sim = None

    def close(self) -> None:
        """Free the simulation and the drawing surface."""
        self._release()
        self._release_picture()


def _is_turn(name: str) -> bool:
    return name.endswith("_quat")


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ConfigError for a value that is not among the choices."""
    if value not in choices:
        raise ConfigError(f"{option} is {value!r}; choose one of {', '.join(choices)}")
