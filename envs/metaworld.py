"""Meta-World's 50 tasks (1910.10897) as `TaskEnv`: a Sawyer arm moved by its hand's position and
gripper at 80 Hz.

Goals and objects are drawn anew at every reset, from the seed; the goal is part of the observation.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arms.rendering import CameraView, SceneRenderer, choose_gl
from ..spec import (
    TEXT_KEY,
    ActionDim,
    ActionSpec,
    ConfigError,
    FloatArray,
    ObsKey,
    ObsPart,
    ObsSpec,
    text_to_bytes,
    unknown,
)
from .base import Observations, TaskEnv
from .cameras import CameraChoice, Cameras
from .snapshots import physics_state, plain_fields, set_physics_state, set_plain_fields

RATE_HZ = 80.0
STATE = 39
STATE_PARTS = (
    ObsPart("hand", 3, "position"),
    ObsPart("gripper"),
    ObsPart("object_1", 3, "position"),
    ObsPart("object_1_rotation", 4, "quaternion"),
    ObsPart("object_2", 3, "position"),
    ObsPart("object_2_rotation", 4, "quaternion"),
    ObsPart("before", 18),  # the same one step before
    ObsPart("goal", 3, "position"),
)
STATE_KEY = ObsKey((STATE,), parts=STATE_PARTS)
STEP_M = 0.01
"""What an action of 1 moves the hand's goal by."""
MOST_REWARD = 10.0
"""Every task's reward ends here."""
MOVED = (
    "body_pos",
    "body_quat",
    "site_pos",
    "site_quat",
    "geom_pos",
    "geom_quat",
    "geom_size",
    "eq_data",
)
"""Arrays of the model that tasks write to when an episode begins."""
VIEW = CameraView(
    lookat_m=(0.0, 0.65, 0.15), distance_m=1.15, azimuth_deg=140.0, elevation_deg=-28.0
)
ACTION_SPEC = ActionSpec(
    (
        *(ActionDim(f"hand_d{axis}", f"{STEP_M} m", absolute=False) for axis in "xyz"),
        ActionDim("gripper", "effort, 1 closes"),
    )
)
INSTRUCTIONS = {
    "assembly-v3": "put the ring over the peg",
    "basketball-v3": "throw the ball through the hoop",
    "bin-picking-v3": "move the cube into the other bin",
    "box-close-v3": "put the lid on the box",
    "button-press-topdown-v3": "press the button from above",
    "button-press-topdown-wall-v3": "press the button behind the wall from above",
    "button-press-v3": "press the button",
    "button-press-wall-v3": "press the button behind the wall",
    "coffee-button-v3": "press the button of the coffee machine",
    "coffee-pull-v3": "pull the mug away from the coffee machine",
    "coffee-push-v3": "push the mug under the coffee machine",
    "dial-turn-v3": "turn the dial",
    "disassemble-v3": "lift the ring off the peg",
    "door-close-v3": "close the door",
    "door-lock-v3": "lock the door by turning the lock",
    "door-open-v3": "open the door",
    "door-unlock-v3": "unlock the door by turning the lock",
    "drawer-close-v3": "push the drawer shut",
    "drawer-open-v3": "pull the drawer open",
    "faucet-close-v3": "turn the faucet off",
    "faucet-open-v3": "turn the faucet on",
    "hammer-v3": "hammer the nail in",
    "hand-insert-v3": "put the hand into the hole",
    "handle-press-side-v3": "press the handle down from the side",
    "handle-press-v3": "press the handle down",
    "handle-pull-side-v3": "pull the handle up from the side",
    "handle-pull-v3": "pull the handle up",
    "lever-pull-v3": "pull the lever up",
    "peg-insert-side-v3": "put the peg into the hole in the side",
    "peg-unplug-side-v3": "pull the plug out of the side",
    "pick-out-of-hole-v3": "take the puck out of the hole",
    "pick-place-v3": "take the puck to the goal",
    "pick-place-wall-v3": "take the puck over the wall to the goal",
    "plate-slide-back-side-v3": "slide the plate back out sideways",
    "plate-slide-back-v3": "slide the plate back out",
    "plate-slide-side-v3": "slide the plate sideways into the net",
    "plate-slide-v3": "slide the plate into the net",
    "push-back-v3": "pull the puck back to the goal",
    "push-v3": "push the puck to the goal",
    "push-wall-v3": "push the puck around the wall to the goal",
    "reach-v3": "reach the goal",
    "reach-wall-v3": "reach the goal behind the wall",
    "shelf-place-v3": "put the cube on the shelf",
    "soccer-v3": "push the ball into the goal",
    "stick-pull-v3": "pull the box with the stick",
    "stick-push-v3": "push the box with the stick",
    "sweep-into-v3": "sweep the cube into the hole",
    "sweep-v3": "sweep the cube off the table",
    "window-close-v3": "slide the window shut",
    "window-open-v3": "slide the window open",
}
TASK_SETS = {
    "mt10": (
        "reach-v3",
        "push-v3",
        "pick-place-v3",
        "door-open-v3",
        "drawer-open-v3",
        "drawer-close-v3",
        "button-press-topdown-v3",
        "peg-insert-side-v3",
        "window-open-v3",
        "window-close-v3",
    ),
    "mt50": tuple(INSTRUCTIONS),
}
"""Sets of tasks (1910.10897, section 4.2): one environment of which every episode is another task.
"""


@functools.cache
def load_metaworld(module: str = "env_dict") -> Any:
    """A module of the metaworld package; raises ConfigError that says how to install it."""
    choose_gl()
    try:
        return import_module(f"metaworld.{module}")
    except ImportError as error:
        raise ConfigError(
            f"metaworld cannot be imported ({error}); install it: pip install 'hotstart[metaworld]'"
        ) from error


class MetaWorldEnv(TaskEnv):
    """One of the 50 tasks, chosen by name, as `reach-v3`, or a set of them, `mt10` or `mt50`.

    Of a set of n tasks an episode of seed k is task k % n, and the observation holds its words:
    `instruction`, uint8 (96,). Every task that was met keeps its simulation; rows whose number is a
    multiple of n, with seeds in order, meet one each.

    Observation `state`, float32 (39,): hand and gripper (4), up to two objects (14), the same one
    step before (18), goal (3). Actions (4) in [-1, 1]: see `ACTION_SPEC`. The score is the task's
    reward over the most it can be.
    """

    def __init__(
        self,
        task: str = "reach-v3",
        max_steps: int = 500,
        render_size: int = 256,
        cameras: CameraChoice = None,
    ) -> None:
        """Make the task with these options.

        task: one of Meta-World's tasks, as drawer-open-v3, or a set of them: mt10, mt50
        max_steps: length of an episode [ticks]
        render_size: side of the pictures of a video [px]
        cameras: cameras to observe, names or {name: side in px}: corner, corner2 to 4, topview,
        behindGripper, gripperPOV
        """
        if task not in INSTRUCTIONS and task not in TASK_SETS:
            raise ConfigError(unknown("Meta-World task", task, [*TASK_SETS, *sorted(INSTRUCTIONS)]))
        self.tasks = TASK_SETS.get(task, (task,))
        self.cameras = Cameras.of(cameras)
        if len(self.tasks) > 1:
            words = {"instruction": TEXT_KEY}
        else:
            words = {}
        super().__init__(
            obs_spec=ObsSpec({"state": STATE_KEY, **words, **self.cameras.keys}),
            action_spec=ACTION_SPEC,
            action_low=-1.0,
            action_high=1.0,
            rate_hz=RATE_HZ,
            max_steps=max_steps,
        )
        self.chosen, self.render_size = task, render_size
        self._sims: dict[str, Any] = {}
        self._renderer: SceneRenderer | None = None
        self._take(self.tasks[0])

    @property
    def simulation(self) -> Any:
        """Meta-World's own environment."""
        if self.task not in self._sims:
            raise RuntimeError("there is no simulation before the first reset")
        return self._sims[self.task]

    @property
    def state(self) -> FloatArray:
        """The newest observation (39,) in float64, as Meta-World's own policies want it."""
        return self._seen

    def _take(self, task: str) -> None:
        """Go on with another task; its scene is drawn by another renderer."""
        self._close_renderer()
        self.task, self.instruction = task, INSTRUCTIONS[task]

    def _begin(self, options: dict[str, Any]) -> None:
        if len(self.tasks) > 1:
            if self.seed is None:
                number = int(self.np_random.integers(2**31))
            else:
                number = self.seed
            task = self.tasks[number % len(self.tasks)]
            if task != self.task:
                self._take(task)
        if self.task not in self._sims:
            self._sims[self.task] = _build(self.task)
        sim = self.simulation
        sim.seed(int(self.np_random.integers(2**31)))
        self._seen, _ = sim.reset()
        self._reward, self._success = 0.0, False

    def _advance(self, action: FloatArray, substeps: int) -> None:
        sim = self.simulation
        sim.curr_path_length = 0  # the episode's end is `TaskEnv`'s business
        result = sim.step(np.clip(action, -1.0, 1.0).astype(np.float32))
        self._seen, self._reward = result[:2]
        self._success = bool(result[-1]["success"])

    def _identity(self) -> tuple[Any, ...]:
        return (*super()._identity(), self.chosen, *self.cameras.sizes.items())

    def _save(self) -> Any:
        sim = self.simulation
        model = {name: np.array(getattr(sim.model, name)) for name in MOVED}
        return {
            "task": self.task,
            "seen": np.array(self._seen),
            "reward": self._reward,
            "success": self._success,
            "physics": physics_state(sim.model, sim.data),
            "model": model,
            "fields": plain_fields(sim),
        }

    def _load(self, state: Any) -> None:
        task = state["task"]
        if task != self.task or task not in self._sims:
            self.reset(seed=self.tasks.index(task))  # builds it
        self._reward, self._success = state["reward"], state["success"]
        sim = self.simulation
        for name, values in state["model"].items():
            getattr(sim.model, name)[...] = values
        set_plain_fields(sim, state["fields"])
        set_physics_state(sim.model, sim.data, state["physics"])
        self._seen = np.array(state["seen"])

    def _observe(self) -> Observations:
        if self.cameras:
            pictures = self.cameras.pictures(self._open_renderer(), self.simulation.data)
        else:
            pictures = {}
        if len(self.tasks) > 1:
            words = {"instruction": text_to_bytes(self.instruction)}
        else:
            words = {}
        return {"state": np.asarray(self._seen, np.float32), **words, **pictures}

    def _judge(self) -> tuple[float, bool]:
        return float(np.clip(self._reward / MOST_REWARD, 0.0, 1.0)), self._success

    def render(self) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene from the front, (H, W, 3) RGB. Raises RenderingError if no OpenGL library
        works.
        """
        return self._open_renderer().frame(
            self.simulation.data, VIEW, (self.render_size, self.render_size)
        )

    def _open_renderer(self) -> SceneRenderer:
        """The renderer, opened when it is first needed."""
        if self._renderer is None:
            self._renderer = SceneRenderer(
                self.simulation.model, VIEW, self.cameras.largest(self.render_size)
            )
        return self._renderer

    def close(self) -> None:
        """Free the simulations and the drawing surface."""
        self._close_renderer()
        self._sims = {}

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None


def _build(task: str) -> Any:
    """Meta-World's environment of a task; as its `set_task` would do, the goal is seen, and drawn
    anew at every reset.
    """
    sim = load_metaworld().ALL_V3_ENVIRONMENTS[task]()
    sim._partially_observable, sim._freeze_rand_vec = False, False
    sim.seeded_rand_vec = True
    sim._set_task_called = True
    del (
        sim.sawyer_observation_space
    )  # cached with no room for the goal, and observations are clipped to it
    sim.touching_object = functools.partial(_feel_object, sim)
    return sim


def _feel_object(sim: Any, object_geom_id: int) -> bool:
    """Whether both fingers press on an object: what Meta-World's own `touching_object` says.

    That one makes a Python object of every contact, twice: a fifth of the time of a step.
    """
    data = sim.data
    geoms = data.contact.geom  # (contacts, 2)
    on_object = (geoms == object_geom_id).any(1)
    for pad in ("leftpad_geom", "rightpad_geom"):
        on_pad = (geoms == data.geom(pad).id).any(1)
        force = data.efc_force[data.contact.efc_address[on_object & on_pad]].sum()
        if not force > 0:
            return False
    return True
