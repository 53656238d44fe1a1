"""A latent world model of pictures and states: a filter, priors that imagine, and decoders.

States are carried as numbers beside the latents: a step decodes their change since the frame
before, and the sum goes into the next step. Absolute states decoded from latents miss by
centimetres. Nothing is drawn when it imagines.

Letters: B rows, L steps, A numbers of an action, S numbers of all states, H width of h, G
categoricals of C classes, M members, F = H + G C.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..policy.filters.categoricals import draw, mix_logits
from ..policy.filters.latent import LATENT, LatentFilter, Pick
from ..spec import ActionSpec, ConfigError, IntArray, ObsSpec, option, shorten
from .base import Jump, State, WorldModel
from .nets import EnsembleMLP, choose_members
from .pictures import PictureDecoder, as_bytes
from .play import Play

FARTHEST = 30.0
"""A state changes in a step by at most so many standard deviations of its changes."""
STILL = 1e-6
"""A state whose changes have a smaller standard deviation never changes."""
_CARRIED = ("h", "z", "values")
"""Names of a belief's parts in a state."""
FRAMES, ROWS = 512, 64
"""Pictures that are encoded, and episodes that are filtered, at a time."""


@dataclass(frozen=True)
class LatentOptions:
    """The parts of a latent model."""

    hidden: int = option(128, "width of the recurrent state, and of hidden layers")
    groups: int = option(8, "categoricals of the latent")
    classes: int = option(8, "classes of each categorical")
    members: int = option(3, "priors on one recurrent trunk; how they differ says what is unknown")
    channels: int = option(24, "channels of the first layer that reads pictures")
    pick: Pick = option("mean", "latents of imagined steps: the mean, or the likeliest class")
    unseen: Sequence[str] = option(
        (), "states that are learned and decoded, but that no filter reads"
    )

    def __post_init__(self) -> None:
        """Raise ConfigError for options that cannot be."""
        if self.members < 1:
            raise ConfigError(f"members is {self.members}; it must be 1 or more")


@dataclass(frozen=True)
class Belief:
    """What is believed of rows (...) at one step: `change` of `values` since the step before."""

    h: Tensor  # (..., H)
    z: Tensor  # (..., G C)
    values: Tensor  # (..., S) in the observation's units
    change: Tensor  # (..., S)


@dataclass(frozen=True)
class Imagined:
    """A belief one action later, and what each member says of it."""

    belief: Belief
    log_shares: Tensor  # (M, B, G, C) of the priors
    changes: Tensor  # (M, B, S) in standard deviations of a change


class LatentModel(WorldModel):
    """A recurrent state-space model with categorical latents, whose ensemble is of its priors.

    Observations hold pictures, states or both; instructions are passed on as they are. Its filter
    is a part of its own (`policy.filters`), which a policy may carry.
    """

    change_scale: Tensor  # (S,) of the states, 0 for what never changes
    seen: Tensor  # (S,) which of them the filter reads

    def __init__(
        self,
        obs_spec: ObsSpec,
        action_spec: ActionSpec,
        rate_hz: float,
        jump: int,
        options: LatentOptions | None = None,
    ) -> None:
        """Raises ConfigError for observations that it cannot read."""
        super().__init__()
        self.options = options or LatentOptions()
        self.obs_spec, self.action_spec = obs_spec, action_spec
        self.rate_hz, self.jump = rate_hz, jump
        self.members = self.options.members
        self.states = _names(obs_spec, "state")
        self.words = _names(obs_spec, "language")
        self.widths = [math.prod(obs_spec.keys[name].shape) for name in self.states]
        self.filter = self._make_filter()
        self.cameras = self.filter.cameras
        self.register_buffer("change_scale", torch.ones(sum(self.widths)))
        seen = [torch.zeros(0, dtype=torch.bool)]
        for name, count in zip(self.states, self.widths, strict=True):
            seen.append(torch.full((count,), name in self.filter.states))
        self.register_buffer("seen", torch.cat(seen))
        self._add_heads()

    def _make_filter(self) -> LatentFilter:
        """The filter of all that is not unseen."""
        options = self.options
        for name in options.unseen:
            if name not in self.states:
                raise ConfigError(
                    f"unseen names {shorten(name)}; the states are {shorten(list(self.states))}"
                )
        left_out = {*options.unseen, *self.words}
        read = {name: key for name, key in self.obs_spec.keys.items() if name not in left_out}
        return LatentFilter(
            ObsSpec(read),
            self.action_spec.width,
            options.hidden,
            options.groups,
            options.classes,
            options.channels,
            options.pick,
        )

    def _add_heads(self) -> None:
        """Priors, changes of states, and decoders of pictures."""
        options = self.options
        latents = options.groups * options.classes
        features = options.hidden + latents
        members, hidden = options.members, options.hidden
        self.prior_heads = EnsembleMLP(members, hidden, latents, hidden, layers=2)
        self.change_heads = EnsembleMLP(members, features, sum(self.widths), hidden, layers=2)
        self.picture_decoders = nn.ModuleList()
        for name in self.cameras:
            shape = self.obs_spec.keys[name].shape
            self.picture_decoders.append(PictureDecoder(shape, options.channels, features))

    def to_json(self) -> dict[str, Any]:
        """Plain values; see `WorldModel.to_json`."""
        return {
            "options": {**vars(self.options), "unseen": list(self.options.unseen)},
            "obs_spec": self.obs_spec.to_json(),
            "action_spec": self.action_spec.to_json(),
            "rate_hz": self.rate_hz,
            "jump": self.jump,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> LatentModel:
        """An untrained model as `to_json` says."""
        return cls(
            ObsSpec.from_json(plain["obs_spec"]),
            ActionSpec.from_json(plain["action_spec"]),
            float(plain["rate_hz"]),
            int(plain["jump"]),
            LatentOptions(**plain["options"]),
        )

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.change_scale.device

    @property
    def decoders(self) -> dict[str, PictureDecoder]:
        """Camera -> what makes its pictures."""
        found = {}
        for name, decoder in zip(self.cameras, self.picture_decoders, strict=True):
            assert isinstance(decoder, PictureDecoder)
            found[name] = decoder
        return found

    def fit_statistics(self, play: Play, episodes: IntArray) -> None:
        """Take scales, and the mean pictures, from these episodes of a play."""
        steps = np.flatnonzero(np.isin(play.episode_of, episodes))
        values = self.join_values(play, steps)
        within = (np.diff(steps) == 1) & (np.diff(play.episode_of[steps]) == 0)
        changes = values.diff(dim=0)[torch.from_numpy(within)]
        scale, change_scale = values.std(0), changes.std(0)
        self.change_scale.copy_(torch.where(change_scale > STILL, change_scale, 0.0))
        read, seen = self.filter, self.seen.cpu()
        read.centre.copy_(values.mean(0)[seen])
        read.scale.copy_(torch.where(scale > STILL, scale, 1.0)[seen])
        read.change_scale.copy_(self.change_scale[self.seen])
        actions = torch.as_tensor(play.actions[steps], dtype=torch.float32)
        read.action_centre.copy_(actions.mean(0))
        read.action_scale.copy_(actions.std(0).clamp_min(STILL))
        for name, decoder in self.decoders.items():
            decoder.fit_statistics(play.observations[name][steps])

    def join_values(self, play: Play, steps: IntArray) -> Tensor:
        """All states of recorded steps (...), joined: float32 (..., S)."""
        parts = [torch.zeros(*steps.shape, 0)]
        for name in self.states:
            values = torch.as_tensor(play.observations[name][steps], dtype=torch.float32)
            parts.append(values.flatten(steps.ndim))
        return torch.cat(parts, -1)

    def embed(self, pictures: Tensor | None, values: Tensor, change: Tensor) -> Tensor:
        """What observations hold (..., H): embedded pictures, if any, and states (..., S)."""
        return self.filter.embed(pictures, values[..., self.seen], change[..., self.seen])

    # ---------------------------------------------------------------- filter and imagination

    def filter_steps(
        self,
        embedded: Tensor,
        values: Tensor,
        change: Tensor,
        actions: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Belief, Tensor]:
        """Follow recorded steps (B, L, ...) from a zero state.

        `embedded` (B, L, H) describes the observations. Latents are drawn from the posterior with a
        generator, picked without. Returns the beliefs (B, L, ...) and the posterior's
        log-probabilities (B, L, G, C).
        """
        rows, steps = embedded.shape[:2]
        inputs = self._join_inputs(values, change, actions)
        h = embedded.new_zeros(rows, self.options.hidden)
        hidden, latents = [], []
        posteriors = []
        for step in range(steps):
            log_shares = self.filter.judge(h, embedded[:, step])
            if generator is None:
                z = self.filter.pick(log_shares)
            else:
                z = draw(log_shares, generator)
            hidden.append(h)
            latents.append(z)
            posteriors.append(log_shares)
            h = self.filter.advance(h, z, inputs[:, step])
        belief = Belief(torch.stack(hidden, 1), torch.stack(latents, 1), values, change)
        return belief, torch.stack(posteriors, 1)

    def imagine(self, belief: Belief, actions: Tensor, member: Tensor) -> Imagined:
        """One action (B, A) ahead of beliefs (B, ...); `member` (B,) moves each row."""
        inputs = self._join_inputs(belief.values, belief.change, actions)
        h = self.filter.advance(belief.h, belief.z, inputs)
        log_shares = self.foresee(h)
        z = self.filter.pick(log_shares)  # (M, B, G C)
        changes = self.predict_changes(h, z)
        change = choose_members(changes, member) * self.change_scale
        moved = Belief(h, choose_members(z, member), belief.values + change, change)
        return Imagined(moved, log_shares, changes)

    def foresee(self, h: Tensor) -> Tensor:
        """Log-probabilities (M, B, G, C) of every member's prior, from h (B, H)."""
        return mix_logits(self.prior_heads(h), self.options.groups)

    def predict_changes(self, h: Tensor, z: Tensor) -> Tensor:
        """Every member's change of the states (M, B, S) [standard deviations of a change].

        From h (B, H), and from latents z that all share (B, G C) or one each (M, B, G C).
        """
        shared = h.expand(*z.shape[:-1], -1)
        return self.change_heads(torch.cat((shared, z), -1)).clamp(-FARTHEST, FARTHEST)

    def decode_pictures(self, h: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Pictures (B, height, width, C) of 0 to 1, not clamped, from h (B, H), z (B, G C)."""
        features = torch.cat((h, z), -1)
        return {name: decoder(features) for name, decoder in self.decoders.items()}

    def _join_inputs(self, values: Tensor, change: Tensor, actions: Tensor) -> Tensor:
        """What goes into the GRU with actions (..., A): they, and the states they began from."""
        return self.filter.join_inputs(values[..., self.seen], change[..., self.seen], actions)

    def _measure_spread(self, imagined: Imagined) -> Tensor:
        """How far the members lie apart (B,), over latents and over states that move."""
        latents = imagined.log_shares.exp().flatten(2)
        changes = imagined.changes[..., self.change_scale > 0]
        said = torch.cat((latents * math.sqrt(self.options.classes), changes), -1)
        return said.var(0, correction=0).mean(-1).sqrt()

    # ---------------------------------------------------------------- the interface

    @torch.no_grad()
    def encode(self, play: Play) -> State:
        """The filtered belief of every step, and how old its episode is."""
        pieces = [self._filter_episodes(play, rows) for rows in _split_rows(play)]
        state = {}
        for name in _CARRIED:
            state[name] = torch.cat([piece[name] for piece in pieces])
        age = np.arange(len(play)) - play.first[play.episode_of]
        state["age"] = torch.as_tensor(age, device=self.device)
        for name in self.words:
            state[name] = torch.as_tensor(play.observations[name], device=self.device)
        return state

    def begin(self, encoded: Mapping[str, Tensor], index: Tensor) -> State:
        """The beliefs at steps `index` (B,) and before; an episode's first is repeated."""
        back = torch.arange(self._kept - 1, -1, -1, device=index.device)
        steps = index[:, None] - torch.minimum(back[None], encoded["age"][index][:, None])
        state = {name: encoded[name][steps] for name in _CARRIED}
        state.update({name: encoded[name][index] for name in self.words})
        return state

    def step(self, state: State, actions: Tensor, member: Tensor) -> Jump:
        """Ta steps of the priors; the disagreement is the mean over them."""
        trail = Belief(state["h"], state["z"], state["values"], state["values"])
        now = trail.values[:, -1]
        belief = Belief(trail.h[:, -1], trail.z[:, -1], now, now - trail.values[:, -2])
        beliefs, spreads = [], []
        for number in range(actions.shape[1]):
            imagined = self.imagine(belief, actions[:, number], member)
            belief = imagined.belief
            beliefs.append(belief)
            spreads.append(self._measure_spread(imagined))
        moved = dict(state)
        for name in _CARRIED:
            new = torch.stack([getattr(each, name) for each in beliefs], 1)
            moved[name] = torch.cat((state[name], new), 1)[:, -self._kept :]
        return Jump(moved, torch.stack(spreads).mean(0))

    def decode(self, state: State, frames: int) -> dict[str, Tensor]:
        """Pictures from the latents, states as they were carried; raises ConfigError for too many.

        The last Ta frames are kept, or 2 where Ta is 1.
        """
        self._check_frames(frames)
        h, z = state["h"][:, -frames:], state["z"][:, -frames:]
        seen = self.decode_pictures(h.flatten(0, 1), z.flatten(0, 1))
        decoded = {}
        for name, picture in seen.items():
            decoded[name] = as_bytes(picture).unflatten(0, h.shape[:2])
        values = state["values"][:, -frames:].split(self.widths, -1)
        for name, value in zip(self.states, values, strict=True):
            decoded[name] = value.unflatten(-1, self.obs_spec.keys[name].shape or (1,))
        decoded |= self._repeat_words(state, frames)
        return {name: decoded[name] for name in self.obs_spec.keys}

    def recall(self, state: State, frames: int) -> dict[str, Tensor]:
        """What the filter says, as far as priors know it; instructions are passed on."""
        self._check_frames(frames)
        values = state["values"][:, -frames:, self.seen]
        said = self.filter.describe(state["h"][:, -frames:], state["z"][:, -frames:], values)
        return {LATENT: said, **self._repeat_words(state, frames)}

    def features(self, state: State) -> Tensor:
        """h, z and the normalised states that the filter reads, (B, F + seen)."""
        values = state["values"][:, -1][..., self.seen]
        return self.filter.describe(state["h"][:, -1], state["z"][:, -1], values)

    def _check_frames(self, frames: int) -> None:
        if not 1 <= frames <= self._kept:
            raise ConfigError(
                f"{frames} frames are asked of a latent model; it keeps the last {self._kept}"
            )

    def _repeat_words(self, state: State, frames: int) -> dict[str, Tensor]:
        """Instructions, which stay as they are, name -> (B, M, bytes)."""
        return {name: state[name][:, None].expand(-1, frames, -1) for name in self.words}

    @property
    def _kept(self) -> int:
        """Steps that a state holds: those of a chunk, and two at least, for the change."""
        return max(self.jump, 2)

    def _filter_episodes(self, play: Play, episodes: IntArray) -> State:
        """Belief of every step of neighbouring episodes, name -> (n, ...)."""
        first = play.first[episodes]
        lengths = play.episode_ends[episodes] - first
        offsets = np.arange(lengths.max())
        inside = offsets < lengths[:, None]
        steps = first[:, None] + np.minimum(offsets, lengths[:, None] - 1)
        before = np.maximum(steps - 1, first[:, None])
        values = self.join_values(play, steps).to(self.device)
        change = values - self.join_values(play, before).to(self.device)
        flat = np.arange(first[0], play.episode_ends[episodes[-1]])
        pictures = self._embed_recorded(play, flat)
        if pictures is not None:
            pictures = pictures[torch.as_tensor(steps - first[0], device=self.device)]
        actions = torch.as_tensor(play.actions[steps], device=self.device)
        embedded = self.embed(pictures, values, change)
        belief, _ = self.filter_steps(embedded, values, change, actions)
        kept = torch.as_tensor(inside, device=self.device)
        return {name: getattr(belief, name)[kept] for name in _CARRIED}

    def _embed_recorded(self, play: Play, steps: IntArray) -> Tensor | None:
        """What is seen in the pictures of steps (n,), in pieces, (n, H)."""
        if not self.cameras:
            return None
        parts = []
        for first in range(0, len(steps), FRAMES):
            piece = steps[first : first + FRAMES]
            shown: dict[str, Tensor] = {}
            for name in self.cameras:
                pictures = play.observations[name][piece]
                shown[name] = torch.as_tensor(pictures, device=self.device)
            embedded = self.filter.embed_pictures(shown)
            if embedded is not None:
                parts.append(embedded)
        return torch.cat(parts)


def _split_rows(play: Play) -> Iterator[IntArray]:
    """Neighbouring episodes that are filtered together."""
    count = len(play.episode_ends)
    for first in range(0, count, ROWS):
        yield np.arange(first, min(first + ROWS, count))


def _names(obs_spec: ObsSpec, kind: str) -> tuple[str, ...]:
    return tuple(name for name, key in obs_spec.keys.items() if key.kind == kind)
