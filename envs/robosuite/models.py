"""Building robosuite's simulations quickly: the physics without the meshes and textures that are
only looked at.

Compiling the drawn meshes (182,000 faces for the Panda) takes nine tenths of a reset. They have no
mass of their own and touch nothing, so the physics is the same to the bit without them; the full
model is compiled only for a picture.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from ...arms.rendering import choose_gl, load_mujoco
from ...spec import ConfigError, FloatArray
from ..snapshots import Fields, physics_state, plain_fields, set_physics_state, set_plain_fields

OLDEST_MUJOCO, FIRST_BROKEN_MUJOCO = (3, 3), (3, 10)
"""robosuite 1.5.2 asks for the one and fails with the other (tried: 3.3.0, 3.6.0, 3.9.0; 3.10.0,
3.11.0, 3.12.0, 4.0.0).
"""


@functools.cache
def load_robosuite() -> Any:
    """Import robosuite without its warnings and without what it does to MUJOCO_GL (it forces egl on
    everybody).

    Raises ConfigError if it is not installed.
    """
    choose_gl()
    check_mujoco(metadata.version("mujoco"))
    logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
    with _keep_environment("MUJOCO_GL"):
        try:
            import robosuite
        except ImportError as error:
            raise ConfigError(
                f"robosuite cannot be imported ({error}); install it: pip install "
                f"'robosuite>=1.5.2,<1.6'"
            ) from error
        return robosuite


def check_mujoco(version: str) -> None:
    """Raise ConfigError for a MuJoCo that robosuite cannot work with: it imports, and then every
    task fails in its own way.
    """
    release = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if not OLDEST_MUJOCO <= release < FIRST_BROKEN_MUJOCO:
        oldest = ".".join(map(str, OLDEST_MUJOCO))
        broken = ".".join(map(str, FIRST_BROKEN_MUJOCO))
        raise ConfigError(
            f"robosuite does not work with mujoco {version}: it needs {oldest} or newer, below "
            f"{broken}. Mend it by "
            f"pip install --force-reinstall 'mujoco>={oldest},<{broken}' 'numpy<2'"
        )


@contextlib.contextmanager
def _keep_environment(name: str) -> Iterator[None]:
    """Leave an environment variable as it was, whatever is done to it inside."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def build(
    task: str, robots: Sequence[str], seed: int, rate_hz: float, control: str = "delta"
) -> Any:
    """A new robosuite simulation of `task` with the arms `robots`; all that is random comes from
    `seed`, the model included.

    Its `full_xml` is the scene with everything that is drawn.
    """
    suite = load_robosuite()
    with _no_unread_models():
        return _bare_task(task)(
            robots=list(robots),
            controller_configs=[_controller(suite, robot, control) for robot in robots],
            control_freq=rate_hz,
            seed=seed,
            hard_reset=False,  # the model was just built; only this build decides its sizes
            reward_shaping=True,
            ignore_done=True,  # the episode's end is `TaskEnv`'s business
            use_camera_obs=False,
            has_renderer=False,
            has_offscreen_renderer=False,
            renderer="mujoco",
        )


def _controller(suite: Any, robot: str, control: str) -> dict[str, Any]:
    """robosuite's own settings of the arm's controller: changes of the pose, or poses in the
    world.
    """
    config = suite.load_composite_controller_config(controller="BASIC", robot=robot)
    if control == "absolute":
        config["body_parts"]["right"] |= {"input_type": "absolute", "input_ref_frame": "world"}
    return config


@functools.cache
def _bare_task(task: str) -> Any:
    """robosuite's class for `task`, which compiles only what the physics needs."""
    load_robosuite()
    from robosuite.environments.base import REGISTERED_ENVS

    class BareTask(REGISTERED_ENVS[task]):  # type: ignore[misc]
        """The task without its looks."""

        def edit_model_xml(self, xml_str: str) -> str:
            """robosuite's hook between the written scene and its compilation."""
            self.full_xml = super().edit_model_xml(xml_str)
            return without_looks(self.full_xml)

    return BareTask


@contextlib.contextmanager
def _no_unread_models() -> Iterator[None]:
    """Keep robosuite from compiling the arm once more by itself: only its inverse kinematics, not
    used here, reads that.
    """
    from robosuite.models.robots.robot_model import RobotModel

    original = RobotModel.set_mujoco_model
    RobotModel.set_mujoco_model = lambda self, mujoco_model=None: None
    try:
        yield
    finally:
        RobotModel.set_mujoco_model = original


def simulation_state(simulation: Any) -> tuple[FloatArray, list[Fields]]:
    """What the next step of a robosuite simulation depends on: the physics, and what its Python
    parts remember.
    """
    sim = simulation.sim
    remembered = [plain_fields(part, _is_buffer) for part in _parts(simulation)]
    return physics_state(sim.model._model, sim.data._data), remembered


def set_simulation_state(simulation: Any, state: tuple[FloatArray, list[Fields]]) -> None:
    """Put back what `simulation_state` took, into a simulation of the same task, arms and seed."""
    physics, remembered = state
    sim = simulation.sim
    for part, fields in zip(_parts(simulation), remembered, strict=True):
        set_plain_fields(part, fields)
    set_physics_state(sim.model._model, sim.data._data, physics)


def _parts(simulation: Any) -> list[Any]:
    """The Python objects of a simulation that remember something from tick to tick, in a fixed
    order.
    """
    parts = [simulation, *simulation._observables.values()]
    for robot in simulation.robots:
        controllers = robot.composite_controller.part_controllers
        parts += [robot, robot.composite_controller, *controllers.values(), *robot.gripper.values()]
    return parts


def _is_buffer(value: Any) -> bool:
    return type(value).__module__.endswith("utils.buffers")


def without_looks(scene_xml: str) -> str:
    """The scene with its drawn meshes shrunk to points and its textures gone.

    Changed are only meshes that touch nothing, on bodies whose inertia is written down, so that
    none of it follows from them. Names and numbers of all geoms stay, as robosuite looks them up.
    """
    root = ElementTree.fromstring(scene_xml)
    for body in root.iter("body"):
        if body.find("inertial") is not None:
            for geom in filter(_only_drawn, body.findall("geom")):
                geom.attrib.pop("mesh")
                geom.attrib.update(type="sphere", size="0.001")
    used = {geom.get("mesh") for geom in root.iter("geom")}
    for asset in root.iter("asset"):
        for item in list(asset):
            if item.tag == "texture" or (item.tag == "mesh" and item.get("name") not in used):
                asset.remove(item)
            item.attrib.pop("texture", None)
    return ElementTree.tostring(root, encoding="unicode")


def _only_drawn(geom: ElementTree.Element) -> bool:
    return (
        geom.get("type") == "mesh" and geom.get("contype") == "0" and geom.get("conaffinity") == "0"
    )


class Picture:
    """The full model of a scene, posed like a bare one: what the renderer draws."""

    def __init__(self, full_xml: str) -> None:
        """Compile the scene (about half a second)."""
        mujoco = load_mujoco()
        self.full_xml = full_xml
        self.model = mujoco.MjModel.from_xml_string(full_xml)
        self.data = mujoco.MjData(self.model)

    def pose(self, bare_model: Any, bare_data: Any) -> None:
        """Take over the joints' positions and the sites' visibility of the bare simulation."""
        mujoco = load_mujoco()
        self.model.site_rgba[:] = (
            bare_model.site_rgba
        )  # robosuite hides its marker sites after building
        self.data.qpos[:] = bare_data.qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)


def fresh_observations(sim: Any) -> Any:
    """What is to be seen now, after a part of a control period.

    robosuite samples its observables by a counter of their own that is in step with whole periods
    only: left alone, it would show a state of up to a period ago for the rest of the episode. The
    counters are put as they are after a reset.
    """
    seen = sim._get_observations(force_update=True)
    for observable in sim._observables.values():
        observable._time_since_last_sample, observable._sampled = sim.model_timestep, True
    return seen
