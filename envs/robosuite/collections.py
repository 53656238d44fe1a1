"""robosuite's raw collections: observations computed anew from states of the simulator.

A collection holds states and actions of an older robosuite, and the scene of every demo. Of the
scene only names, positions and sizes are taken: joints are found by name in the installed
robosuite's own scene, and objects are moved along with the arm's base. So no mesh, no texture and
no other file that the scene names is ever opened.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...datasets.formats.hdf5_files import FilePool, Hdf5File, Hdf5Group
from ...spec import DataError, cut, shorten
from ...system.untrusted import read_text
from .env import RobosuiteEnv
from .tasks import CanEnv, DoorEnv, LiftEnv, SquareEnv, StackEnv

SCENE_BYTES = 4 << 20
SIZES = {"free": (7, 6), "ball": (4, 3), "hinge": (1, 1), "slide": (1, 1)}
"""Type of a joint -> its numbers of position and of velocity."""
FIXED = {"Door": "Door_main", "peg1": "peg1", "peg2": "peg2"}
"""Bodies that stand where the scene says, not the state: old name -> the installed one."""


class NutAssemblyEnv(SquareEnv):
    """Both nuts over their pegs."""

    task = "NutAssembly"
    objects: ClassVar[Mapping[str, int]] = {
        **SquareEnv.objects,
        "RoundNut_pos": 3,
        "RoundNut_quat": 4,
    }


class PickPlaceEnv(CanEnv):
    """Four objects into their bins."""

    task = "PickPlace"
    objects: ClassVar[Mapping[str, int]] = {
        **CanEnv.objects,
        **{f"{name}_pos": 3 for name in ("Milk", "Bread", "Cereal")},
        **{f"{name}_quat": 4 for name in ("Milk", "Bread", "Cereal")},
    }


TASKS: dict[str, type[RobosuiteEnv]] = {
    "Lift": LiftEnv,
    "Stack": StackEnv,
    "Door": DoorEnv,
    "NutAssembly": NutAssemblyEnv,
    "PickPlace": PickPlaceEnv,
}


@dataclass(frozen=True)
class Scene:
    """What is taken of a demo's scene."""

    joints: Sequence[tuple[str, str]]
    """Name and type, in the order of the state."""
    base_m: NDArray[np.float64]
    """Where the arm stands (3,)."""
    bodies: Mapping[str, ElementTree.Element]


@dataclass(frozen=True)
class RawDemo:
    """One demo: n states of the simulator, and the actions at them."""

    name: str
    scene: Scene
    states: NDArray[np.float64]  # (n, 1 + nq + nv): time [s], positions, velocities
    actions: NDArray[np.float64]  # (n, A)
    replayable: bool
    """Whether the actions are changes of the hand's pose, as OSC_POSE takes them."""


@dataclass(frozen=True)
class Outcome:
    """What came of a demo's replays in the installed robosuite."""

    demo: str
    steps: int
    states_succeed: bool
    """Whether a recorded state counts as success."""
    actions_succeed: bool | None
    """Whether the actions alone reach it; None where they cannot be replayed."""
    deviation_m: float
    """The hand's largest distance from the recording while the actions are replayed."""


def read_collection(path: Path) -> tuple[str, list[RawDemo]]:
    """The task's name in the installed robosuite, and the demos of a file or its folder.

    Raises DataError for damage, and for tasks that are not known.
    """
    if path.is_dir():
        path = path / "demo.hdf5"
    with FilePool() as pool:
        data = Hdf5File(path, pool).root().group("data")
        task = data.text("env").removeprefix("Sawyer")
        if task not in TASKS:
            raise DataError(
                f"{path} is of {shorten(data.text('env'))}; computed are those of {list(TASKS)}"
            )
        demos = [_read_demo(data.group(name), path) for name in data.names()]
        pool.close()
    return task, demos


def _read_demo(group: Hdf5Group, path: Path) -> RawDemo:
    names = ["actions"]
    if "actions" not in group.names():
        names = ["joint_velocities", "gripper_actuations"]
    arrays = [group.array(name) for name in names]
    actions = np.concatenate([array.rows(0, len(array)) for array in arrays], axis=1)
    held = group.array("states")
    states = held.rows(0, len(held)).astype(np.float64)
    scene = read_scene(_find_scene(group, path), f"{path}/{group.name}")
    width = 1
    for _, kind in scene.joints:
        width += sum(SIZES[kind])
    if states.ndim != 2 or states.shape[1] != width or len(states) != len(actions):
        raise DataError(
            f"{path}/{group.name} has states {states.shape} and actions {actions.shape}; its "
            f"scene has states of {width} numbers"
        )
    if not (np.isfinite(states).all() and np.isfinite(actions).all()):
        raise DataError(f"{path}/{group.name} holds numbers that are not finite")
    return RawDemo(group.name, scene, states, actions.astype(np.float64), len(names) == 1)


def _find_scene(group: Hdf5Group, path: Path) -> str:
    """The scene: in the file itself, or in the folder `models` beside it."""
    text = group.text("model_file")
    if text.lstrip().startswith("<"):
        return text
    if not re.fullmatch(r"[\w-]{1,80}\.xml", text):
        raise DataError(f"{path}/{group.name} names {shorten(text)} as its scene; no such name")
    return read_text(path.parent / "models" / text, DataError, SCENE_BYTES)


def read_scene(text: str, where: str) -> Scene:
    """Joints, bodies and the arm's place of an MJCF; nothing that it names is opened.

    Raises DataError where it is no MJCF, or declares entities.
    """
    if "<!" in text.replace("<!--", "") or len(text) > SCENE_BYTES:
        raise DataError(f"{where}: the scene declares entities, or is too long")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as problem:
        raise DataError(f"{where}: the scene is no XML ({cut(str(problem))})") from problem
    world = root.find("worldbody")
    if world is None:
        raise DataError(f"{where}: the scene has no worldbody")
    joints: list[tuple[str, str]] = []
    bodies: dict[str, ElementTree.Element] = {}
    places: dict[str, NDArray[np.float64]] = {}
    todo = [(world, np.zeros(3))]
    while todo:
        body, parent_m = todo.pop()
        name = body.get("name", "")
        place_m = parent_m + _read_numbers(body.get("pos", "0 0 0"), where)
        bodies[name], places[name] = body, place_m
        for item in body:
            if item.tag in ("joint", "freejoint"):
                joints.append((item.get("name", ""), _type_of(item, where)))
        todo += [(child, place_m) for child in reversed(body.findall("body"))]
    for base in ("robot0_base", "base"):
        if base in places:
            return Scene(joints, places[base], bodies)
    raise DataError(f"{where}: the scene has no arm")


def _type_of(joint: ElementTree.Element, where: str) -> str:
    kind = joint.get("type", "hinge")
    if joint.tag == "freejoint":
        kind = "free"
    if kind not in SIZES:
        raise DataError(f"{where}: a joint is of type {shorten(kind)}")
    return kind


def _read_numbers(text: str, where: str) -> NDArray[np.float64]:
    try:
        numbers = np.array([float(part) for part in text.split()])
    except ValueError as problem:
        raise DataError(f"{where}: the scene holds {shorten(text)} for numbers") from problem
    if len(numbers) not in (3, 4) or not np.isfinite(numbers).all():
        raise DataError(f"{where}: the scene holds {shorten(text)} for 3 or 4 numbers")
    return numbers


def find_joint(name: str, installed: Sequence[str]) -> str | None:
    """The installed robosuite's name of an older one's joint; None where it has none."""
    stem = re.sub(r"(0?_jnt0|0)$", "", name)
    for candidate in (
        name,
        f"robot0_{name}",
        name.replace("gripper0_", "gripper0_right_"),
        name.replace("r_gripper_", "gripper0_right_"),
        f"{stem}_joint0",
        f"Door_{name.removeprefix('door_')}",
    ):
        if candidate in installed:
            return candidate
    return None


class Replay:
    """Demos in the installed robosuite."""

    def __init__(self, task: str, robot: str) -> None:
        self.env = TASKS[task]("Panda")
        self.env.robot = robot  # both have two fingers
        self.env._build(0)

    def observe(self, demo: RawDemo) -> tuple[dict[str, NDArray[Any]], list[bool]]:
        """The task's observations (n, ...) at the recorded states, and whether each succeeds."""
        rows: list[dict[str, NDArray[Any]]] = []
        successes: list[bool] = []
        for number in range(len(demo.states)):
            self.set_state(demo, number)
            rows.append(self.env._observe())
            successes.append(bool(self.env.simulation._check_success()))
        seen: dict[str, NDArray[Any]] = {}
        for key in rows[0]:
            seen[key] = np.stack([row[key] for row in rows])
        return seen, successes

    def set_state(self, demo: RawDemo, number: int) -> None:
        """Put the simulation into a recorded state; DataError for joints that it does not have."""
        sim = self.env.simulation.sim
        model, data = sim.model, sim.data
        installed = [model.joint_id2name(i) for i in range(model.njnt)]
        shift_m = data.get_body_xpos("robot0_base") - demo.scene.base_m
        _place_bodies(model, demo.scene, shift_m)
        state = demo.states[number]
        position_at, velocity_at = 1, 1 + _count_positions(demo.scene)
        for name, kind in demo.scene.joints:
            positions, velocities = SIZES[kind]
            found = find_joint(name, installed)
            if found is not None:
                values = state[position_at : position_at + positions].copy()
                if kind == "free":
                    values[:3] += shift_m
                speeds = state[velocity_at : velocity_at + velocities]
                data.set_joint_qpos(found, np.squeeze(values))
                data.set_joint_qvel(found, np.squeeze(speeds))
            position_at += positions
            velocity_at += velocities
        sim.forward()
        self.env._seen = self.env.simulation._get_observations(force_update=True)

    def replay(self, demo: RawDemo, hands_m: NDArray[Any]) -> tuple[bool, float]:
        """Whether the actions, begun at the first state, succeed; the hand's largest deviation."""
        self.set_state(demo, 0)
        sim = self.env.simulation
        for robot in sim.robots:
            robot.composite_controller.update_state()
            robot.composite_controller.reset()
        succeeded, deviation_m = False, 0.0
        for number, action in enumerate(demo.actions[:-1]):
            self.env._advance(action, self.env.substeps)
            at_m = self.env._observe()["eef_pos"]
            deviation_m = max(deviation_m, float(np.linalg.norm(at_m - hands_m[number + 1])))
            succeeded = succeeded or bool(sim._check_success())
        return succeeded, deviation_m

    def close(self) -> None:
        """Free the simulation."""
        self.env.close()


def _count_positions(scene: Scene) -> int:
    return sum(SIZES[kind][0] for _, kind in scene.joints)


def _place_bodies(model: Any, scene: Scene, shift_m: NDArray[Any]) -> None:
    """Put bodies that no state holds where the scene has them."""
    for old, new in FIXED.items():
        if old in scene.bodies and new in model.body_names:
            body, number = scene.bodies[old], model.body_name2id(new)
            model.body_pos[number] = _read_numbers(body.get("pos", "0 0 0"), old) + shift_m
            model.body_quat[number] = _read_numbers(body.get("quat", "1 0 0 0"), old)


def find_rate_hz(demos: Sequence[RawDemo]) -> float:
    """Steps per second by the states' own times; DataError where they do not increase."""
    steps_s = np.concatenate([np.diff(demo.states[:, 0]) for demo in demos])
    usual_s = float(np.median(steps_s))
    if not usual_s > 0:
        raise DataError("the times of the states do not increase")
    return round(1 / usual_s, 3)
