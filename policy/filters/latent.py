"""A recurrent filter with categorical latents: the part of a latent world model that looks.

h says what the past foretells, z what the newest observation adds. The world model that it was
learned with imagines further (`world_model.latent`); a policy may be conditioned on what it says.

Letters: B rows, A numbers of an action, S numbers of all states, H width of h, G categoricals of C
classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ...spec import ConfigError, ObsKey, ObsSpec, shorten
from .categoricals import mix_logits, symlog, take_mean, take_mode
from .pictures import PictureEncoder, check_sizes

Pick = Literal["mean", "mode"]
LATENT = "latent"
"""Name of the observation that a filter makes."""


class LatentFilter(nn.Module):
    """Follows pictures, states and executed actions."""

    centre: Tensor  # (S,) of the states
    scale: Tensor  # (S,)
    change_scale: Tensor  # (S,) of their changes in a control period
    action_centre: Tensor  # (A,)
    action_scale: Tensor  # (A,)

    def __init__(
        self,
        obs_spec: ObsSpec,
        actions: int,
        hidden: int = 128,
        groups: int = 8,
        classes: int = 8,
        channels: int = 24,
        pick: Pick = "mean",
    ) -> None:
        """`obs_spec` is what is read; raises ConfigError where that is nothing, or cannot be read.

        actions: numbers of an action (A)
        pick: latents where none are drawn: their mean, or their likeliest class
        """
        super().__init__()
        self.obs_spec, self.actions = obs_spec, actions
        self.options = {
            "hidden": hidden,
            "groups": groups,
            "classes": classes,
            "channels": channels,
            "pick": pick,
        }
        self.hidden, self.groups = hidden, groups
        self.pick_name = pick
        self.cameras = tuple(name for name, key in obs_spec.keys.items() if key.kind == "image")
        self.states = tuple(name for name, key in obs_spec.keys.items() if key.kind == "state")
        self._check()
        self.read = sum(math.prod(obs_spec.keys[name].shape) for name in self.states)
        for name in ("centre", "scale", "change_scale"):
            self.register_buffer(name, torch.ones(self.read))
        self.register_buffer("action_centre", torch.zeros(actions))
        self.register_buffer("action_scale", torch.ones(actions))

        latents = groups * classes
        self.width = hidden + latents + self.read
        self.picture_encoders = nn.ModuleList()
        for name in self.cameras:
            shape = obs_spec.keys[name].shape
            self.picture_encoders.append(PictureEncoder(shape, channels, hidden))
        self.state_encoder = None
        if self.read:
            self.state_encoder = nn.Sequential(
                nn.Linear(2 * self.read, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
        self.enter = nn.Sequential(
            nn.Linear(latents + 2 * self.read + actions, hidden), nn.LayerNorm(hidden), nn.SiLU()
        )
        self.cell = nn.GRUCell(hidden, hidden)
        self.posterior = nn.Sequential(
            nn.Linear(2 * hidden, hidden),
            nn.LayerNorm(hidden),
            nn.SiLU(),
            nn.Linear(hidden, latents),
        )

    def _check(self) -> None:
        check_sizes({name: self.obs_spec.keys[name] for name in self.cameras})
        if not self.cameras and not self.states:
            raise ConfigError("a filter needs a picture or a state that it may read")
        for name in ("hidden", "groups", "classes", "channels"):
            if self.options[name] < 1:
                raise ConfigError(f"{name} is {self.options[name]}; it must be 1 or more")
        if self.pick_name not in get_args(Pick):
            choices = ", ".join(get_args(Pick))
            raise ConfigError(f"pick is {shorten(self.pick_name)}; choose one of {choices}")

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` builds it, weights apart."""
        return {**self.options, "actions": self.actions, "obs_spec": self.obs_spec.to_json()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> LatentFilter:
        """An untrained filter as `to_json` says."""
        return cls(**{**plain, "obs_spec": ObsSpec.from_json(plain["obs_spec"])})

    @property
    def key(self) -> ObsKey:
        """The observation that it makes."""
        return ObsKey((self.width,))

    def embed_pictures(self, pictures: Mapping[str, Tensor]) -> Tensor | None:
        """What is shown (..., H) by pictures uint8 (..., height, width, C); None without camera."""
        embedded = None
        for name, encoder in zip(self.cameras, self.picture_encoders, strict=True):
            axes = pictures[name].shape[:-3]
            part = encoder(pictures[name].flatten(0, -4)).unflatten(0, axes)
            if embedded is None:
                embedded = part
            else:
                embedded = embedded + part
        return embedded

    def embed(self, pictures: Tensor | None, values: Tensor, change: Tensor) -> Tensor:
        """What an observation holds (..., H): embedded pictures, states (..., S), their change."""
        if self.state_encoder is None:
            if pictures is None:
                raise ConfigError("the observation holds no pictures")
            return pictures
        shown = self.state_encoder(self._read_states(values, change))
        if pictures is None:
            return shown
        return shown + pictures

    def join_inputs(self, values: Tensor, change: Tensor, actions: Tensor) -> Tensor:
        """What goes into the GRU: states (..., S), their change, and actions (..., A)."""
        shown = (actions.to(self.centre) - self.action_centre) / self.action_scale
        return torch.cat((self._read_states(values, change), shown), -1)

    def advance(self, h: Tensor, z: Tensor, inputs: Tensor) -> Tensor:
        """The next h (B, H), from h, z (B, G C) and what `join_inputs` gives."""
        return self.cell(self.enter(torch.cat((z, inputs), -1)), h)

    def judge(self, h: Tensor, embedded: Tensor) -> Tensor:
        """Log-probabilities (..., G, C) of the latents, from h and the observation (..., H)."""
        return mix_logits(self.posterior(torch.cat((h, embedded), -1)), self.groups)

    def pick(self, log_shares: Tensor) -> Tensor:
        """Latents (..., G C) of log-probabilities (..., G, C), nothing drawn."""
        if self.pick_name == "mode":
            return take_mode(log_shares)
        return take_mean(log_shares)

    def describe(self, h: Tensor, z: Tensor, values: Tensor) -> Tensor:
        """All that is believed, (..., F): h, z and the normalised states."""
        return torch.cat((h, z, self._normalize(values)), -1)

    def _read_states(self, values: Tensor, change: Tensor) -> Tensor:
        """Where the states are, and how they change, (..., 2 S)."""
        scale = torch.where(self.change_scale > 0, self.change_scale, 1.0)
        return torch.cat((self._normalize(values), symlog(change / scale)), -1)

    def _normalize(self, values: Tensor) -> Tensor:
        return symlog((values - self.centre) / self.scale)
