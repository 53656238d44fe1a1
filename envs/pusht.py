"""Push-T: push a T-shaped block with a round agent onto a goal pose, seen from above.

The task and its physics are those of Diffusion Policy (arXiv 2303.04137, section 5), simulated with
pymunk: replaying the 206 human demonstrations from their first states follows the recorded states
(tests/envs/test_pusht.py). Lengths are pixels of a 512 x 512 world, angles radians. A pose is (x,
y, angle); (x, y) is the middle of the top edge of the T's bar, not the centre of gravity. A state
is (agent x, agent y, block x, block y, block angle).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pymunk
import shapely
from numpy.typing import ArrayLike, NDArray

from ..spec import ActionDim, ActionSpec, ConfigError, FloatArray, ObsKey, ObsPart, ObsSpec
from .base import Observations, TaskEnv

ObsMode = Literal["keypoints", "state", "image"]

WORLD_PX = 512.0
GOAL_POSE = (256.0, 256.0, np.pi / 4)
SUCCESS_COVERAGE = 0.95
RATE_HZ = 10.0
IMAGE_PX = 96
"""Side of the pictures that are observed, as in the human data."""
SUBSTEPS = 10
BELT_END_PX = 60.0
"""Where a belt ends: the block's reference point comes no nearer to a wall."""
SUBSTEP_S = 1.0 / (RATE_HZ * SUBSTEPS)
AGENT_RADIUS = 15.0
POSITION_GAIN, VELOCITY_GAIN = 100.0, 20.0  # k_p [1/s^2], k_v [1/s]

BAR = ((-60.0, 30.0), (60.0, 30.0), (60.0, 0.0), (-60.0, 0.0))
STEM = ((-15.0, 30.0), (-15.0, 120.0), (15.0, 120.0), (15.0, 30.0))
OUTLINE = np.array(
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], np.float64
)
AREA_PX2 = 120.0 * 30.0 + 30.0 * 90.0
CENTRE_OF_GRAVITY = (0.0, 45.0)  # the mean of the two pieces' centres, although the bar is larger
WALLS = (((5, 506), (5, 5)), ((5, 5), (506, 5)), ((506, 5), (506, 506)), ((5, 506), (506, 506)))

# Nine points of the block in its own frame: least squares over the frames of the human data in
# which the block rests.
# While it is pushed, the recorded keypoints belong to a slightly other moment than the recorded
# state (99 % within 0.04 px).
KEYPOINTS = np.array(
    [
        (9.26979, 90.04097),
        (-60.98347, -1.18673),
        (60.91276, -1.39336),
        (-0.2705, 25.54363),
        (-14.06493, 122.81585),
        (39.00274, 32.8574),
        (-39.96641, 32.72966),
        (-16.82434, 62.86318),
        (23.54146, -1.70029),
    ]
)


def to_world(points: FloatArray, poses: ArrayLike) -> FloatArray:
    """Points (P, 2) of the block's frame, seen in the world at poses (..., 3): (..., P, 2)."""
    poses = np.asarray(poses, np.float64)
    cos, sin = np.cos(poses[..., 2, None]), np.sin(poses[..., 2, None])  # (..., 1)
    x = poses[..., 0, None] + cos * points[:, 0] - sin * points[:, 1]  # (..., P)
    y = poses[..., 1, None] + sin * points[:, 0] + cos * points[:, 1]
    return np.stack([x, y], axis=-1)


def keypoints(block_pose: ArrayLike) -> FloatArray:
    """The nine keypoints of Diffusion Policy's human data for block poses (..., 3): (..., 9, 2) in
    the world.
    """
    return to_world(KEYPOINTS, block_pose)


def coverages(block_poses: ArrayLike, goal_pose: ArrayLike = GOAL_POSE) -> FloatArray:
    """Share of the goal's area that the block covers, exact, for poses (..., 3): (...) in [0,
    1].
    """
    blocks = shapely.polygons(to_world(OUTLINE, block_poses))
    goal = shapely.polygons(to_world(OUTLINE, goal_pose))
    return np.clip(shapely.area(shapely.intersection(blocks, goal)) / AREA_PX2, 0.0, 1.0)


def coverage(block_pose: ArrayLike, goal_pose: ArrayLike = GOAL_POSE) -> float:
    """area(block and goal) / area(goal) for one pose (3,)."""
    return float(coverages(block_pose, goal_pose))


def score_of_coverage(covered: ArrayLike) -> FloatArray:
    """Diffusion Policy's reward: coverage / 0.95, at most 1."""
    return np.clip(np.asarray(covered) / SUCCESS_COVERAGE, 0.0, 1.0)


def score_of_states(
    states: ArrayLike, episode_ends: Sequence[int] | NDArray[Any], goal_pose: ArrayLike = GOAL_POSE
) -> FloatArray:
    """Best score of each recorded episode: states (N, 5) joined, episode_ends (E,) -> (E,)."""
    scores = score_of_coverage(coverages(np.asarray(states)[:, 2:5], goal_pose))
    ends = np.asarray(episode_ends)
    return np.maximum.reduceat(scores[: ends[-1]], np.concatenate([[0], ends[:-1]]))


def observations_from_states(
    states: ArrayLike, obs: ObsMode, goal: ArrayLike = GOAL_POSE
) -> dict[str, NDArray[Any]]:
    """What the environment would show in states (..., 5): the keys of `observation_spec(obs)`,
    (..., *shape) each.
    """
    states = np.asarray(states, np.float64)
    agent, pose = states[..., :2], states[..., 2:5]
    if _check_mode(obs) == "keypoints":
        flat = keypoints(pose).reshape(*states.shape[:-1], 2 * len(KEYPOINTS))
        return {"keypoints": flat.astype(np.float32), "agent_pos": agent.astype(np.float32)}
    if obs == "image":
        flat = states.reshape(-1, 5)
        frames = [draw(state, goal, None, IMAGE_PX) for state in flat]
        return {
            "image": np.stack(frames).reshape(*states.shape[:-1], IMAGE_PX, IMAGE_PX, 3),
            "agent_pos": agent.astype(np.float32),
        }
    angle = pose[..., 2:]
    return {
        "state": np.concatenate(
            [agent, pose[..., :2], np.sin(angle), np.cos(angle)], axis=-1
        ).astype(np.float32)
    }


def observation_spec(obs: ObsMode) -> ObsSpec:
    """Keys of the observation: `keypoints` (18,) and `agent_pos` (2,); `state` (6,) with sine and
    cosine of the angle; or `image` (96, 96, 3) and `agent_pos`.
    """
    agent = ObsPart("agent", 2, "position")
    agent_key = ObsKey((2,), parts=(agent,))
    if _check_mode(obs) == "keypoints":
        points: list[ObsPart] = []
        for number in range(len(KEYPOINTS)):
            points.append(ObsPart(f"keypoint_{number}", 2, "position"))
        key = ObsKey((2 * len(KEYPOINTS),), parts=tuple(points))
        return ObsSpec({"keypoints": key, "agent_pos": agent_key})
    if obs == "image":
        picture = ObsKey((IMAGE_PX, IMAGE_PX, 3), "uint8", "image")
        return ObsSpec({"image": picture, "agent_pos": agent_key})
    block = (ObsPart("block", 2, "position"), ObsPart("block_angle", 2, "angle"))
    return ObsSpec({"state": ObsKey((6,), parts=(agent, *block))})


class PushTEnv(TaskEnv):
    """Push-T; the action is where the agent shall go, (x, y) in pixels of the world."""

    substeps = SUBSTEPS

    def __init__(
        self,
        obs: ObsMode = "keypoints",
        goal: Sequence[float] = GOAL_POSE,
        max_steps: int = 300,
        render_size: int = 256,
        belt_px_s: float = 0.0,
    ) -> None:
        """Make the task with these options.

        obs: what is observed: keypoints, state (the block's pose) or image (96 x 96 pixels)
        goal: pose that the block is to have, as [200,300,1.0]: x [px], y [px], angle [rad]
        max_steps: length of an episode [ticks of 0.1 s]
        render_size: side of the pictures of a video [px]
        belt_px_s: speed of a belt that carries the block, in a direction of its own every episode
        [px/s]
        """
        target = ActionSpec((ActionDim("target_x", "px"), ActionDim("target_y", "px")))
        super().__init__(
            obs_spec=observation_spec(obs),
            action_spec=target,
            action_low=0.0,
            action_high=WORLD_PX,
            rate_hz=RATE_HZ,
            max_steps=max_steps,
        )
        if render_size < 16:
            raise ConfigError(f"render_size is {render_size}; it must be at least 16 pixels")
        if not 0 <= belt_px_s <= WORLD_PX:
            raise ConfigError(
                f"belt_px_s is {belt_px_s}; it must lie between 0 and {WORLD_PX} pixels a second"
            )
        self.obs_mode: ObsMode = obs
        self.belt_px_s = float(belt_px_s)
        self._belt = (0.0, 0.0)
        self.render_size = int(render_size)
        self.goal = _finite("goal", goal, "x, y, angle")
        self.set_state(self.goal[:2], self.goal)

    @property
    def state(self) -> FloatArray:
        """The present state (5,); the angle lies in [0, 2 pi), as in the human data."""
        return np.array(
            [*self._agent.position, *self._block.position, self._block.angle % (2 * np.pi)]
        )

    def set_state(self, agent_xy: ArrayLike, block_pose: ArrayLike) -> None:
        """Put agent (2,) and block (3,) exactly there, at rest; steps and best score of the episode
        go on.
        """
        agent_xy, block_pose = (
            _finite("agent_xy", agent_xy, "x, y"),
            _finite("block_pose", block_pose, "x, y, angle"),
        )
        # A new space each time: contacts that the old one remembers would make the same state move
        # on differently.
        self._space, self._agent, self._block = _build_space()
        self._agent.position = tuple(agent_xy.tolist())
        # Turning is about the centre of gravity and would move the reference point: the angle goes
        # first.
        self._block.angle = float(block_pose[2])
        self._block.position = tuple(block_pose[:2].tolist())
        for body in (self._agent, self._block):
            self._space.reindex_shapes_for_body(body)
        self._target = agent_xy
        self._origin = np.concatenate([agent_xy, block_pose])
        self._since: list[tuple[FloatArray, int]] = []

    def restart_from(self, state: ArrayLike) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode at a recorded state (5,)."""
        return self.reset(options={"state": state})

    def _begin(self, options: dict[str, Any]) -> None:
        if others := sorted(set(options) - {"state"}):
            raise ConfigError(f"unknown reset option {others[0]!r} of Push-T; valid: state")
        state = _finite(
            "state", options.get("state", self._draw()), "agent x, agent y, block x, block y, angle"
        )
        if self.belt_px_s:
            angle = self.np_random.uniform(-np.pi, np.pi)
            self._belt = (self.belt_px_s * np.cos(angle), self.belt_px_s * np.sin(angle))
        self.set_state(state[:2], state[2:])

    def _draw(self) -> FloatArray:
        """A random start (5,) from Diffusion Policy's distribution.

        There the block is put upright with the middle of its bar at whole numbers, then turned
        about its centre of gravity: so it is the centre of gravity that is uniform, as it is in the
        first states of the human data.
        """
        agent = self.np_random.integers(50, 450, size=2)
        centre = self.np_random.integers(100, 400, size=2) + np.array(CENTRE_OF_GRAVITY)
        angle = self.np_random.standard_normal() * 2 * np.pi - np.pi
        turned = to_world(np.array([CENTRE_OF_GRAVITY]), (0.0, 0.0, angle))[0]
        return np.array([*agent, *(centre - turned), angle], np.float64)

    def hold_position(self) -> FloatArray:
        """Where the agent is (2,)."""
        return self.state[:2]

    def _advance(self, action: FloatArray, substeps: int) -> None:
        """Substeps of a PD controller that sets the agent's velocity: a = k_p (target - p) -
        k_v v.
        """
        self._target = action
        self._since.append((action, substeps))
        vx, vy = self._agent.velocity
        ax, ay = action.tolist()
        for _ in range(substeps):
            x, y = self._agent.position
            vx += (POSITION_GAIN * (ax - x) - VELOCITY_GAIN * vx) * SUBSTEP_S
            vy += (POSITION_GAIN * (ay - y) - VELOCITY_GAIN * vy) * SUBSTEP_S
            self._agent.velocity = (vx, vy)
            self._space.step(SUBSTEP_S)
            if self.belt_px_s:
                self._carry()

    def _carry(self) -> None:
        """Move the block with the belt, no further than the walls."""
        x, y = self._block.position
        dx, dy = self._belt
        inside = []
        for v in (x + dx * SUBSTEP_S, y + dy * SUBSTEP_S):
            inside.append(float(np.clip(v, BELT_END_PX, WORLD_PX - BELT_END_PX)))
        self._block.position = (inside[0], inside[1])
        self._space.reindex_shapes_for_body(self._block)

    def _identity(self) -> tuple[Any, ...]:
        return (*super()._identity(), self.obs_mode, *self.goal.tolist(), self.belt_px_s)

    def _save(self) -> Any:
        return {
            "origin": self._origin,
            "belt": self._belt,
            "since": copy.deepcopy(self._since),
        }

    def _load(self, state: Any) -> None:
        # The space remembers its contacts, and a copy of it forgets part of them: what led here is
        # simulated again.
        self._belt = state["belt"]
        self.set_state(state["origin"][:2], state["origin"][2:])
        for action, substeps in state["since"]:
            self._advance(action, substeps)

    def _observe(self) -> Observations:
        return dict(observations_from_states(self.state, self.obs_mode, self.goal))

    def _judge(self) -> tuple[float, bool]:
        covered = coverage(self.state[2:], self.goal)
        return float(score_of_coverage(covered)), covered > SUCCESS_COVERAGE

    def render(self) -> NDArray[np.uint8]:
        """The scene as (render_size, render_size, 3): goal green, block grey-blue, agent blue,
        target a red cross; y down.
        """
        return draw(self.state, self.goal, self._target, self.render_size)


def draw(
    state: ArrayLike, goal: ArrayLike, target: ArrayLike | None, size: int
) -> NDArray[np.uint8]:
    """A picture (size, size, 3) of state (5,), goal pose (3,) and, where one is given, target
    (2,).
    """
    import cv2  # only pictures need it

    bits = 4  # OpenCV takes fixed-point coordinates: sixteenths of a pixel
    wide = 3 * size  # drawn larger and averaged down: smooth edges at small sizes too
    scale = wide / WORLD_PX

    def to_fixed_point(points: ArrayLike) -> NDArray[np.int32]:
        return np.round((np.asarray(points, np.float64) * scale) * 2**bits).astype(np.int32)

    state = np.asarray(state, np.float64)
    image = np.full((wide, wide, 3), 255, np.uint8)
    width = max(1, round(4 * scale))
    corner = [tuple(map(int, to_fixed_point(point))) for point in ((5, 5), (506, 506))]
    cv2.rectangle(image, corner[0], corner[1], (211, 211, 211), width, cv2.LINE_AA, bits)
    for pose, colour, edge in (
        (goal, (144, 238, 144), (144, 238, 144)),
        (state[2:], (143, 163, 184), (119, 136, 153)),
    ):
        corners = to_fixed_point(to_world(OUTLINE, pose))
        cv2.fillPoly(image, [corners], colour, cv2.LINE_AA, bits)
        cv2.polylines(image, [corners], True, edge, wide // size, cv2.LINE_AA, bits)
    centre, radius = tuple(map(int, to_fixed_point(state[:2]))), int(to_fixed_point(AGENT_RADIUS))
    cv2.circle(image, centre, radius, (78, 126, 255), -1, cv2.LINE_AA, bits)
    cv2.circle(image, centre, radius, (65, 105, 225), wide // size, cv2.LINE_AA, bits)
    for arm in () if target is None else ((7.0, 7.0), (7.0, -7.0)):
        ends = []
        for sign in (-1, 1):
            ends.append(tuple(map(int, to_fixed_point(np.asarray(target) + sign * np.array(arm)))))
        cv2.line(
            image, ends[0], ends[1], (220, 50, 47), max(1, round(3 * scale)), cv2.LINE_AA, bits
        )
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _build_space() -> tuple[pymunk.Space, pymunk.Body, pymunk.Body]:
    """A new world: (space, agent, block). No gravity, damping 0 (what is not pushed stops at once),
    no friction.
    """
    space = pymunk.Space()
    space.damping = 0.0
    for start, end in WALLS:
        space.add(pymunk.Segment(space.static_body, start, end, 2.0))
    agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
    space.add(agent, pymunk.Circle(agent, AGENT_RADIUS))
    # The stem counts with the bar's moment of inertia: the demonstrations were recorded so, and
    # only so do they replay.
    block = pymunk.Body(1.0, 2 * pymunk.moment_for_poly(1.0, BAR))
    block.center_of_gravity = CENTRE_OF_GRAVITY
    space.add(block, pymunk.Poly(block, BAR), pymunk.Poly(block, STEM))
    return space, agent, block


def _check_mode(obs: str) -> str:
    """`obs`, or a ConfigError with the valid choices."""
    if obs not in get_args(ObsMode):
        raise ConfigError(f"obs is {obs!r}; valid: {', '.join(get_args(ObsMode))}")
    return obs


def _finite(name: str, value: ArrayLike, words: str) -> FloatArray:
    """`value` as float64 with one finite number for each of the comma-separated words."""
    array = np.asarray(value, np.float64)
    if array.shape != (len(words.split(",")),) or not np.isfinite(array).all():
        raise ConfigError(f"{name} is {value!r}; it must hold finite numbers ({words})")
    return array
