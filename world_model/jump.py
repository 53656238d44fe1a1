"""A model of states that jumps a whole chunk of actions ahead: an ensemble of densities.

A chunk-level jump compounds a quarter of the errors of single steps, and its inputs, all Ta actions
and the velocity, say what a single observation hides. Dynamics are learned as the change of what
moves, in units of its own standard deviation (PETS, 1805.12114; weighted as by Seitzer et al.,
2203.09168). A Gaussian predicts means, Laplace's density medians: where an object mostly goes along
and sometimes slips, a mean lags a little and a median never slips.

Letters: see `layout`; E members, B rows, Ta actions of a chunk of A numbers each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..spec import ActionSpec, BoolArray, ConfigError, IntArray, ObsSpec, option
from .base import Jump, State, WorldModel
from .layout import (
    Layout,
    list_differences,
    put_late,
    put_moving,
    straighten,
    take_moving,
)
from .layout_search import find_layout, join_states, trace_set_points
from .nets import EnsembleMLP, choose_members
from .play import Play

WIDEST = 5.0
"""Normalised inputs are clamped to this."""
FARTHEST = 30.0
"""Changes further than this many standard deviations are clamped in training."""
LOG_VARIANCE = (-8.0, 1.5)
STILL = 1e-4
"""What changes by less than this share of its own spread is held fixed."""
LEAST = 1e-8


@dataclass(frozen=True)
class JumpSettings:
    """A chunk-level jump ensemble on states."""

    members: int = option(3, "networks of the ensemble")
    hidden: int = option(192, "width of each network")
    layers: int = option(4, "linear layers of each network")
    set_points: bool = option(True, "whether what increments add up to is an input")
    differences: bool = option(True, "whether differences of positions are inputs")
    stride: int = option(
        0, "control periods that the network itself goes ahead; 0: the whole chunk", "ticks"
    )
    density: Literal["gaussian", "laplace"] = option(
        "gaussian", "what is predicted: gaussian a mean, laplace a median"
    )
    beta: float = option(0.5, "weight of the variance in the loss, 0: likelihood, 1: squared error")

    def __post_init__(self) -> None:
        """Raise ConfigError for values that cannot be."""
        for name in ("members", "hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.stride < 0:
            raise ConfigError(f"stride is {self.stride}; it must be 0 or more")
        if self.layers < 2:
            raise ConfigError(f"layers is {self.layers}; it must be 2 or more")
        if not 0 <= self.beta <= 1:
            raise ConfigError(f"beta is {self.beta}; it must lie in [0, 1]")


class JumpModel(WorldModel):
    """Jumps Ta control periods ahead; see the module."""

    input_mean: Tensor
    input_std: Tensor
    change_std: Tensor  # (2 S,) of the change over a chunk, and of its last control period
    action_low: Tensor
    action_high: Tensor
    rest: Tensor  # (A,) stands for the last action of an episode that begins
    place_low: Tensor
    place_high: Tensor

    def __init__(
        self,
        layout: Layout,
        settings: JumpSettings,
        obs_spec: ObsSpec,
        action_spec: ActionSpec,
        rate_hz: float,
        jump: int,
    ) -> None:
        super().__init__()
        self.layout, self.settings = layout, settings
        self.obs_spec, self.action_spec = obs_spec, action_spec
        self.rate_hz, self.jump = rate_hz, jump
        self.members = settings.members
        self.stride = settings.stride or jump
        if jump % self.stride:
            raise ConfigError(f"stride is {self.stride}; it must divide the chunk of {jump} steps")
        self._pairs: list[tuple[int, int]] = []
        if settings.differences:
            self._pairs = list_differences(layout)
        self._increments: list[int] = []
        self._places: list[int] = []
        for number, point in enumerate(layout.set_points):
            if point.place >= 0:
                self._increments.append(number)
                self._places.append(point.place)
        seen = layout.moving + len(layout.context) + len(self._pairs)
        inputs = seen + layout.moving + action_spec.width * (1 + self.stride)
        self.seen = seen
        for name, width in self._widths(inputs).items():
            self.register_buffer(name, torch.zeros(width))
        self.network = EnsembleMLP(
            settings.members, inputs, 4 * layout.moving, settings.hidden, settings.layers
        )

    def _widths(self, inputs: int) -> dict[str, int]:
        """Statistics of the play that the model keeps."""
        actions = self.action_spec.width
        moving = self.layout.moving
        return {
            "input_mean": inputs,
            "input_std": inputs,
            "change_std": 2 * moving,
            "action_low": actions,
            "action_high": actions,
            "rest": actions,
            "place_low": moving,
            "place_high": moving,
        }

    @classmethod
    def fit_layout(cls, play: Play, jump: int, settings: JumpSettings) -> JumpModel:
        """An untrained model for a play, with its statistics."""
        layout = find_layout(play, settings.set_points)
        if not layout.groups:
            raise ConfigError("nothing in the play's states ever changes: there is no dynamics")
        model = cls(layout, settings, play.obs_spec, play.action_spec, play.rate_hz, jump)
        model._measure(play)
        return model

    @torch.no_grad()
    def _measure(self, play: Play) -> None:
        """Statistics of a play's inputs and changes."""
        actions = torch.as_tensor(play.actions)
        self.action_low.copy_(actions.amin(0))
        self.action_high.copy_(actions.amax(0))
        self.rest.copy_(actions.mean(0))
        states = torch.as_tensor(join_states(play.obs_spec, play.observations))
        moving = take_moving(self.layout, states)
        self.place_low.copy_(moving.amin(0))
        self.place_high.copy_(moving.amax(0))
        encoded = self.encode(play)
        index = torch.as_tensor(play.list_windows(self.stride))
        state = self.begin(encoded, index)
        chunks = play.take_chunks(index.numpy(), self.stride)
        inputs = self._gather_inputs(state, torch.as_tensor(chunks))
        self.input_mean.copy_(inputs.mean(0))
        self.input_std.copy_(inputs.std(0).clamp_min(LEAST))
        change = self._find_change(moving, index)
        spread = moving.std(0).repeat(2)
        std = change.std(0)
        self.change_std.copy_(torch.where(std < STILL * spread, 0.0, std))

    def encode(self, play: Play) -> State:
        """States, those one period before, and set-points of every step of a play."""
        states = join_states(play.obs_spec, play.observations)
        before = np.roll(states, 1, axis=0)
        before[play.first] = states[play.first]
        moving = take_moving(self.layout, torch.as_tensor(states)).numpy()
        points = trace_set_points(self.layout, play, moving, self.rest.double().numpy())
        encoded = {
            "states": torch.as_tensor(states),
            "before": torch.as_tensor(before),
            "points": torch.as_tensor(points),
        }
        for name, key in play.obs_spec.keys.items():
            if key.kind == "language":
                encoded[name] = torch.as_tensor(play.observations[name])
        return encoded

    def features(self, state: State) -> Tensor:
        """What moves, the context and the differences, (B, F), normalised."""
        seen = self._see(take_moving(self.layout, state["states"]), state["states"])
        return self._normalise(seen, slice(0, self.seen))

    @torch.no_grad()
    def step(self, state: State, actions: Tensor, member: Tensor) -> Jump:
        """Execute chunks (B, Ta, A); see `WorldModel.step`."""
        held = actions.double().clamp(self.action_low.double(), self.action_high.double())
        active = (self.change_std > 0).float()
        disagreement = torch.zeros(len(actions))
        for part in held.split(self.stride, 1):
            predicted = self.predict(state, part.float())[0]
            spread = (predicted - predicted.mean(0)).square().mean(0)
            apart = ((spread * active).sum(-1) / active.sum().clamp_min(1)).sqrt()
            disagreement = disagreement + apart * self.stride / self.jump
            state = self._move(state, choose_members(predicted, member).double(), part)
        return Jump(state, disagreement)

    def predict(self, state: State, chunks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (E, B, 2 S) of the change over a stride and of its last period.

        In standard deviations of the play's changes; chunks (B, stride, A).
        """
        mean, log_variance = self.network(self.make_inputs(state, chunks)).chunk(2, -1)
        return mean, soft_clamp(log_variance)

    def make_inputs(self, state: State, chunks: Tensor) -> Tensor:
        """The network's inputs (B, inputs), normalised, of states and chunks (B, Ta, A)."""
        return self._normalise(self._gather_inputs(state, chunks), slice(None))

    def input_noise(self) -> Tensor:
        """A standard deviation of a change, as each of the network's inputs has it, (inputs,)."""
        over, last = self.change_std.chunk(2)
        noise = torch.zeros_like(self.input_std)
        moving = self.layout.moving
        noise[:moving] = over
        noise[self.seen : self.seen + moving] = last
        return noise / self.input_std

    def compute_loss(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Likelihood of targets (B, 2 S) in standard deviations; inputs (B, inputs) are normalised.

        Rows are split over the members.
        """
        rows = len(inputs) // self.members
        shares = inputs[: rows * self.members].unflatten(0, (self.members, rows))
        wanted = target[: rows * self.members].unflatten(0, (self.members, rows))
        mean, log_variance = self.network(shares).chunk(2, -1)
        log_variance = soft_clamp(log_variance)
        if self.settings.density == "gaussian":
            loss = 0.5 * ((wanted - mean).square() * torch.exp(-log_variance) + log_variance)
        else:
            loss = (wanted - mean).abs() * torch.exp(-0.5 * log_variance) + 0.5 * log_variance
        weight = torch.exp(self.settings.beta * log_variance).detach()
        active = (self.change_std > 0).float()
        return (loss * weight * active).mean()

    def find_target(self, encoded: Mapping[str, Tensor], index: Tensor) -> Tensor:
        """The true changes (B, 2 S) after the recorded steps `index` (B,), in deviations."""
        changes = self._find_change(take_moving(self.layout, encoded["states"]), index)
        scaled = changes / self.change_std.double().clamp_min(LEAST)
        return (scaled * (self.change_std > 0)).clamp(-FARTHEST, FARTHEST).float()

    def decode(self, state: State, frames: int) -> dict[str, Tensor]:
        """The last observations; those before the last two are interpolated from them."""
        newest, before = state["states"], state["before"]
        late = [newest, before]
        while len(late) < frames:
            late.append(late[-1] + (before - newest))
        joined = torch.stack(list(reversed(late[:frames])), 1)  # (B, M, D)
        return self._split(joined, state)

    def _split(self, states: Tensor, state: State) -> dict[str, Tensor]:
        """States (B, M, D) key by key, with what is not a state."""
        decoded: dict[str, Tensor] = {}
        start = 0
        for name, shape in self.layout.keys.items():
            size = int(np.prod(shape))
            values = states[..., start : start + size].unflatten(-1, shape)
            start += size
            decoded[name] = values.float()
        for name, key in self.obs_spec.keys.items():
            if key.kind == "language":
                words = state[name]
                decoded[name] = words[:, None].expand(-1, states.shape[1], *words.shape[1:])
        return decoded

    def _find_change(self, moving: Tensor, index: Tensor) -> Tensor:
        """Changes (B, 2 S) of what moves (N, S): over a chunk, and over its last period."""
        later = moving[index + self.stride]
        return torch.cat((later - moving[index], later - moving[index + self.stride - 1]), -1)

    def _see(self, moving: Tensor, states: Tensor) -> Tensor:
        """What moves, the context and the differences, (B, F), in their own units."""
        whole = torch.cat((moving, states[..., self.layout.context]), -1)
        if not self._pairs:
            return whole
        pairs = torch.as_tensor(self._pairs)
        return torch.cat((whole, whole[..., pairs[:, 1]] - whole[..., pairs[:, 0]]), -1)

    def _gather_inputs(self, state: State, chunks: Tensor) -> Tensor:
        """All inputs (B, inputs) of the network, in their own units."""
        moving = take_moving(self.layout, state["states"])
        velocity = moving - take_moving(self.layout, state["before"])
        points = state["points"].clone()
        points[:, self._increments] -= moving[:, self._places]
        seen = self._see(moving, state["states"])
        return torch.cat((seen, velocity, points, chunks.double().flatten(1)), -1).float()

    def _normalise(self, inputs: Tensor, part: slice) -> Tensor:
        scaled = (inputs.float() - self.input_mean[part]) / self.input_std[part]
        return scaled.clamp(-WIDEST, WIDEST)

    def _move(self, state: State, change: Tensor, actions: Tensor) -> State:
        """The state after predicted changes (B, 2 S) in deviations and chunks (B, Ta, A)."""
        change = change * self.change_std.double()
        over, last = change.chunk(2, -1)
        moving = take_moving(self.layout, state["states"])
        later = straighten(self.layout, moving + over)
        before = straighten(self.layout, later - last)
        states_before = put_moving(self.layout, state["states"], before)
        states = put_moving(self.layout, state["states"], later)
        states = put_late(self.layout, states, states_before)
        # What is late in the frame before comes from the one before it: the same velocity again.
        further = put_moving(self.layout, state["states"], straighten(self.layout, before - last))
        states_before = put_late(self.layout, states_before, further)
        points = self._command(state["points"], actions)
        return {**state, "states": states, "before": states_before, "points": points}

    def _command(self, points: Tensor, actions: Tensor) -> Tensor:
        """Set-points (B, A) after a chunk of actions (B, Ta, A)."""
        moved = actions[:, -1].clone()
        for number, place in zip(self._increments, self._places, strict=True):
            scale = self.layout.set_points[number].scale
            current = points[:, number]
            for step in range(actions.shape[1]):
                current = current + scale * actions[:, step, number]
                current = current.clamp(self.place_low[place], self.place_high[place])
            moved[:, number] = current
        return moved

    def to_json(self) -> dict[str, Any]:
        """What `from_json` builds it from, weights apart."""
        return {
            "layout": self.layout.to_json(),
            "settings": vars(self.settings),
            "obs_spec": self.obs_spec.to_json(),
            "action_spec": self.action_spec.to_json(),
            "rate_hz": self.rate_hz,
            "jump": self.jump,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> JumpModel:
        """An untrained model as `to_json` says."""
        return cls(
            Layout.from_json(plain["layout"]),
            JumpSettings(**plain["settings"]),
            ObsSpec.from_json(plain["obs_spec"]),
            ActionSpec.from_json(plain["action_spec"]),
            float(plain["rate_hz"]),
            int(plain["jump"]),
        )


def soft_clamp(log_variance: Tensor) -> Tensor:
    """Log-variances held in `LOG_VARIANCE`, smoothly (PETS, 1805.12114, appendix A.1)."""
    low, high = LOG_VARIANCE
    held = high - torch.nn.functional.softplus(high - log_variance)
    return low + torch.nn.functional.softplus(held - low)


def find_events(model: JumpModel, play: Play, index: IntArray) -> BoolArray:
    """Which windows (M,) hold what is rare: something moves that mostly rests, or success changes.

    The chunk before and the chunk after count too.
    """
    moving = take_moving(
        model.layout, torch.as_tensor(join_states(play.obs_spec, play.observations))
    ).numpy()
    change = np.abs(np.diff(moving, axis=0, prepend=moving[:1]))
    change[play.first] = 0.0
    moves = change > 0.05 * np.quantile(change, 0.99, axis=0)
    rare = moves.mean(0) < 0.5
    event = moves[:, rare].any(1)
    event |= np.diff(play.reached.astype(int), prepend=0) != 0
    near = event.copy()
    for shift in range(1, model.jump + 1):
        near[:-shift] |= event[shift:]
        near[shift:] |= event[:-shift]
    return near[index]
