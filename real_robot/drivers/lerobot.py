"""Any robot of an installed LeRobot as a driver: its own units, one dictionary per action.

LeRobot needs Python 3.12 and is imported by `connect` alone. What it does itself stays as it is:
its connection may move an arm whose motors hold a stale goal, a silent bus stops its loop for as
long as its own time-outs last, and it has no watchdog.
"""

from __future__ import annotations

import pkgutil
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ...spec import ActionDim, ActionSpec, ConfigError, FloatArray, Limits, ObsKey, ObsSpec
from ..driver import ArmState, DriverError

SO101_JOINTS = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow_flex",
    "wrist_flex",
    "wrist_roll",
    "gripper",
)
UNITS = {"deg": 180.0, "%": 100.0}
"""Units of LeRobot's joints, and how far they go either way."""
GRIPPER_UNIT = "%"
"""0 closed to 100 open."""
INSTALL = 'pip install "lerobot>=0.5" in an environment of Python 3.12, and run hotstart there'


class LeRobotArm:
    """A robot of LeRobot; `real_robot.driver.Driver` says what its methods promise."""

    watchdog_s: float | None = None

    def __init__(
        self,
        robot: str,
        options: Mapping[str, Any] | None = None,
        joints: Sequence[str] = SO101_JOINTS,
        unit: str = "deg",
        servo_hz: float = 30.0,
        velocity: float = 180.0,
        pictures: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Name a robot; nothing is imported yet. Raises ConfigError for an unknown unit.

        robot: a type as LeRobot registers it (so101_follower), or "module:Class"
        options: fields of the robot's configuration: port, id, cameras
        joints: in the order of an action; each has "NAME.pos" in LeRobot's dictionaries
        unit: deg or % of the range; a joint "gripper" is always %
        velocity: at most so much a second, in that unit
        pictures: cameras to hand on, with height and width
        """
        if unit not in UNITS:
            raise ConfigError(f"the unit is {unit!r}; LeRobot has {' and '.join(UNITS)}")
        self.name = robot
        self.servo_hz = servo_hz
        self.joints = tuple(joints)
        units = {"gripper": GRIPPER_UNIT}
        self.action_spec = ActionSpec(
            tuple(ActionDim(name, units.get(name, unit)) for name in joints)
        )
        self._pictures = dict(pictures or {})
        keys = {"joints": ObsKey((len(self.joints),))}
        for camera, size in self._pictures.items():
            keys[camera] = ObsKey((*size, 3), "uint8", "image")
        self.obs_spec = ObsSpec(keys)
        self.limits = _make_limits(self.action_spec, velocity)
        self._options = dict(options or {})
        self._lock = threading.RLock()
        self._robot: Any = None
        self._halted = False

    def connect(self) -> None:
        """Open the robot. Raises DriverError where it is not calibrated or does not answer.

        Raises ConfigError for an unknown robot or option, and where LeRobot is missing.
        """
        with self._lock:
            robot = _build(self.name, self._options)
            wanted = {f"{name}.pos" for name in self.joints}
            if set(robot.action_features) != wanted:
                raise ConfigError(
                    f"{self.name} takes {', '.join(robot.action_features)}; the joints were given "
                    f"as {', '.join(self.joints)}: give joints=... in the order that you want"
                )
            self._try("connect", lambda: robot.connect(calibrate=False))
            self._robot = robot
            if not robot.is_calibrated:
                self._robot = None
                self._try("disconnect", robot.disconnect)
                raise DriverError(f"{self.name} is not calibrated: run lerobot-calibrate first")
            self._halted = False

    def read(self) -> ArmState:
        """The newest state, in LeRobot's units, without velocities; raises DriverError."""
        with self._lock:
            robot = self._get()
            now = time.monotonic()
            found = self._try("read", robot.get_observation)
            positions = np.array([float(found[f"{name}.pos"]) for name in self.joints])
            observation: dict[str, Any] = {"joints": positions.astype(np.float32)}
            for camera in self._pictures:
                observation[camera] = np.asarray(found[camera], np.uint8)
            return ArmState(now, positions, np.zeros(len(positions)), observation)

    def command(self, target: FloatArray) -> None:
        """Send a target (A,) in LeRobot's units; raises DriverError, after `stop` too."""
        values = np.asarray(target, np.float64)
        if values.shape != (len(self.joints),) or not np.isfinite(values).all():
            raise DriverError(f"{self.name}: {values} is no target of {len(self.joints)} numbers")
        with self._lock:
            if self._halted:
                raise DriverError(f"{self.name} was stopped: recover() lets it move again")
            self._send(values)

    def stop(self) -> None:
        """Hold where it is measured; raises DriverError where it does not answer."""
        self._halted = True
        with self._lock:
            if self._robot is not None:
                self._send(self.read().positions)

    def recover(self) -> None:
        """Take commands again; a robot that is gone is opened anew."""
        with self._lock:
            if self._robot is None or not self._robot.is_connected:
                self._robot = None
                self.connect()
            self._halted = False

    def close(self) -> None:
        """Stop and disconnect; where the robot can leave its torque on, it stays on."""
        with self._lock:
            robot = self._robot
            if robot is None:
                return
            try:
                self.stop()
            finally:
                self._robot = None
                self._try("disconnect", robot.disconnect)

    def _get(self) -> Any:
        if self._robot is None:
            raise DriverError(f"{self.name} is not connected: connect() first")
        return self._robot

    def _send(self, values: FloatArray) -> None:
        pairs = zip(self.joints, values, strict=True)
        action = {f"{name}.pos": float(value) for name, value in pairs}
        robot = self._get()
        self._try("command", lambda: robot.send_action(action))

    def _try(self, what: str, call: Any) -> Any:
        """Call LeRobot; whatever it raises becomes DriverError."""
        try:
            return call()
        except Exception as problem:
            raise DriverError(f"{self.name} failed to {what}: {problem}") from problem


def _make_limits(spec: ActionSpec, velocity: float) -> Limits:
    ends = np.array([UNITS[dim.unit] for dim in spec.dims])
    grippers = np.array([dim.name == "gripper" for dim in spec.dims])
    speeds: FloatArray = np.full(len(ends), velocity, np.float64)
    return Limits(
        lower=np.where(grippers, 0.0, -ends),
        upper=ends,
        velocity=speeds,
        acceleration=8.0 * speeds,
        jerk=120.0 * speeds,
    )


def _build(name: str, options: Mapping[str, Any]) -> Any:
    """A robot of LeRobot, not connected; raises ConfigError."""
    try:
        if ":" in name:
            module, kind = name.split(":", 1)
            made = getattr(import_module(module), kind)
            return made(_configure(made.config_class, name, options))
        robots = import_module("lerobot.robots")
        config = _configure(_find_config(robots, name), name, options)
        return robots.make_robot_from_config(config)
    except ImportError as problem:
        raise ConfigError(f"{name} needs LeRobot ({problem}): {INSTALL}") from problem


def _find_config(robots: Any, name: str) -> Any:
    """The class of a registered robot's configuration; plug-ins register when imported."""
    utils = import_module("lerobot.utils.import_utils")
    utils.register_third_party_plugins()
    for found in pkgutil.iter_modules(robots.__path__):
        if found.ispkg:
            _import_quietly(f"{robots.__name__}.{found.name}")
    known = robots.RobotConfig.get_known_choices()
    if name not in known:
        raise ConfigError(f"LeRobot has no robot {name!r}; it has {', '.join(sorted(known))}")
    return known[name]


def _import_quietly(module: str) -> None:
    """Import a robot of LeRobot, if what it needs is there."""
    try:
        import_module(module)
    except ImportError:
        return


def _configure(kind: Any, name: str, options: Mapping[str, Any]) -> Any:
    """The robot's configuration, with the torque left on at the end unless options say else."""
    fields = getattr(kind, "__dataclass_fields__", {})
    given = dict(options)
    if "disable_torque_on_disconnect" in fields:
        given.setdefault("disable_torque_on_disconnect", False)
    try:
        return kind(**given)
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"{name}: {problem}; possible: {', '.join(fields)}") from problem
