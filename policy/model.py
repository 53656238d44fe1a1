"""The model that is trained and saved: encoder, denoiser network and normaliser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..spec import ActionSpec, CheckpointError, ConfigError, Horizon, ObsSpec, shorten
from .actions import Representation
from .diffusion.contract import Denoiser, Preconditioner
from .diffusion.objective import LearnedLossWeighting, denoising_loss
from .diffusion.schedule import Schedule
from .filters.latent import LATENT, LatentFilter
from .noise_policy import NoisePolicy
from .normalizer import ACTION, COMMAND, Normalizer, collect_shapes
from .registry import build
from .residual import Residual
from .samplers.base import Capabilities
from .values import ChunkValues

AS_GIVEN = {"_target_": f"{Representation.__module__}.{Representation.__qualname__}"}
"""Actions as the robot takes them."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Number formats that a denoiser's weights may be held in while it runs."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a model but its weights.

    Plain values, written to and read from a checkpoint. `encoder`, `denoiser`, `schedule` and
    `actions` name a registered class as `_target_` and hold its options.
    """

    encoder: Mapping[str, Any]
    denoiser: Mapping[str, Any]
    schedule: Mapping[str, Any]
    obs_spec: ObsSpec
    action_spec: ActionSpec
    horizon: Horizon = field(default_factory=Horizon)
    prediction: str = "v"
    actions: Mapping[str, Any] = field(default_factory=lambda: dict(AS_GIVEN))
    learned_weighting: bool = False
    """Whether the weight of each noise level in the loss is learned (`LearnedLossWeighting`)."""
    anchors: int = 0
    """Number of anchors that a checkpoint was given after its training (see fitting/anchors.py)."""
    noise_policy: Mapping[str, Any] = field(default_factory=dict)
    """Options of the policy over the starting noise; empty: there is none."""
    residual: Mapping[str, Any] = field(default_factory=dict)
    """Options of the network that corrects chunks; empty: there is none."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Options of the networks that say what a chunk is worth; empty: there are none."""
    filter: Mapping[str, Any] = field(default_factory=dict)
    """What a filter is built from that makes the observation `latent`; empty: there is none."""


class Anchors(nn.Module):
    """K normalised plans (K, T, A), and a head that scores them by the condition tokens.

    `policy.fitting.anchors` fills them.
    """

    plans: Tensor

    def __init__(
        self, count: int, steps: int, width: int, tokens: int, token_width: int, hidden: int = 256
    ) -> None:
        super().__init__()
        self.register_buffer("plans", torch.zeros(count, steps, width))
        self.head = nn.Sequential(
            nn.Linear(tokens * token_width, hidden), nn.SiLU(), nn.Linear(hidden, count)
        )

    def score(self, tokens: Tensor) -> Tensor:
        """Logits (B, K) of the anchors from condition tokens (B, N, E)."""
        return self.head(tokens.flatten(1))

    def find_nearest(self, plans: Tensor) -> Tensor:
        """Which anchor (B,) lies nearest to each of plans (B, T, A)."""
        return torch.cdist(plans.flatten(1), self.plans.flatten(1)).argmin(1)

    def choose(self, tokens: Tensor) -> Tensor:
        """The anchor (B, T, A) that the head puts first."""
        return self.plans[self.score(tokens).argmax(1)]


class PolicyModel(nn.Module):
    """Encoder, denoiser and normaliser, and how actions are represented.

    `forward` is the training loss. `encode` and `denoiser` are what samplers need.
    """

    def __init__(self, config: ModelConfig, normalizer: Normalizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = build(
            "encoder", config.encoder, obs_spec=config.obs_spec, observed=config.horizon.observed
        )
        specs = {"action_spec": config.action_spec, "obs_spec": config.obs_spec}
        self.actions: Representation = build("actions", config.actions, **specs)
        sizes = {
            "width": self.actions.spec.width,
            "tokens": self.encoder.tokens,
            "token_width": self.encoder.token_width,
        }
        self.network = build("denoiser", config.denoiser, **sizes)
        self.network.check_steps(config.horizon.planned)
        self.schedule: Schedule = build("schedule", config.schedule)
        commands = None
        if self.actions.changes:
            commands = config.action_spec
        self.normalizer = normalizer or Normalizer(
            collect_shapes(config.obs_spec, self.actions.spec, commands)
        )
        self.denoiser = Denoiser(self.network, Preconditioner(config.prediction))
        self.learned_weighting: LearnedLossWeighting | None = None
        if config.learned_weighting:
            self.learned_weighting = LearnedLossWeighting()
        self.anchors: Anchors | None = None
        if config.anchors:
            self.add_anchors(config.anchors)
        self.noise_policy: NoisePolicy | None = None
        if config.noise_policy:
            self.add_noise_policy(config.noise_policy)
        self.residual: Residual | None = None
        if config.residual:
            self.add_residual(config.residual)
        self.values: ChunkValues | None = None
        if config.values:
            self.add_values(config.values)
        self.filter: LatentFilter | None = None
        if config.filter:
            self.add_filter(LatentFilter.from_json(config.filter))
        self.regimes: tuple[str, ...] | None = None
        """Regimes of levels that the weights were trained with; None where that is unknown."""
        self.measured_start: float | None = None
        """Lowest start of warm starts by calibration [schedule time]; None where it was not run."""
        self.parameter_count = 0
        """Numbers that training sets; a trained model keeps the count without their gradients."""
        for parameter in self.parameters():
            if parameter.requires_grad:
                self.parameter_count += parameter.numel()

    def __repr__(self) -> str:
        """One line, with the number of parameters; `print(model.network)` shows every layer."""
        encoder, network = type(self.encoder).__name__, type(self.network).__name__
        parts = f"{encoder}, {network}, {type(self.schedule).__name__}"
        millions = self.parameter_count / 1e6
        return f"PolicyModel({millions:.2f} M parameters: {parts}; {self.config.horizon})"

    def add_anchors(self, count: int) -> None:
        """Make room for anchors, which `policy.fitting.anchors` fills."""
        self.config = replace(self.config, anchors=count)
        sizes = (
            self.config.horizon.planned,
            self.actions.spec.width,
            self.encoder.tokens,
            self.encoder.token_width,
        )
        self.anchors = (
            Anchors(count, *sizes).to(next(self.network.parameters()).device).train(self.training)
        )

    def add_noise_policy(self, options: Mapping[str, Any]) -> None:
        """Put a policy over the starting noise before the denoiser, which fine-tuning trains."""
        self.config = replace(self.config, noise_policy=dict(options))
        self.noise_policy = NoisePolicy(**self._small_sizes(), **options).train(self.training)

    def add_residual(self, options: Mapping[str, Any]) -> None:
        """Put a network that corrects chunks behind the sampler, which fine-tuning trains."""
        self.config = replace(self.config, residual=dict(options))
        self.residual = Residual(**self._small_sizes(), **options).train(self.training)

    def add_values(self, options: Mapping[str, Any]) -> None:
        """Add networks that say what a chunk is worth, which fine-tuning trains."""
        self.config = replace(self.config, values=dict(options))
        self.values = ChunkValues(**self._small_sizes(), **options).train(self.training)

    def add_filter(self, latent: LatentFilter) -> None:
        """Put a filter before the encoder, which stays as it is. Raises ConfigError where the model
        does not observe what it says.
        """
        keys = self.config.obs_spec.keys
        if LATENT not in keys or keys[LATENT].shape != latent.key.shape:
            raise ConfigError(
                f"the filter makes the observation {LATENT} of {latent.width} numbers; the model "
                f"observes {shorten(dict(keys), 400)}"
            )
        self.config = replace(self.config, filter=latent.to_json())
        self.filter = latent.requires_grad_(False).eval()

    @property
    def observed_spec(self) -> ObsSpec:
        """What it must be shown: what the filter reads, if there is one, and all other keys."""
        keys = dict(self.config.obs_spec.keys)
        if self.filter is None:
            return self.config.obs_spec
        del keys[LATENT]
        return ObsSpec({**self.filter.obs_spec.keys, **keys})

    def _small_sizes(self) -> dict[str, int]:
        """Sizes of the networks around the sampler, which fine-tuning adds."""
        return {
            "features": self.encoder.tokens * self.encoder.token_width,
            "width": self.actions.spec.width,
            "planned": self.config.horizon.planned,
        }

    def forward(
        self,
        observation: Mapping[str, Tensor],
        actions: Tensor,
        time: Tensor,
        noise: Tensor,
        whole_time: Tensor | None = None,
        step_weight: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The training loss, a scalar, and detached numbers to log (see `denoising_loss`).

        The observation (key -> (B, To, ...)) and the actions (B, T, A') are in their own units; the
        actions have the form that `self.actions.encode` gives them. `time` (B, T) holds schedule
        times, `noise` (B, T, A') is standard normal. `whole_time` (G, T) holds the times of the
        whole batch where these B rows are one process's share of it. `step_weight` (B, T) is what
        each step counts; None: all the same.
        """
        context = self.encode(observation)
        x0 = self.normalizer.normalize(ACTION, actions)
        return denoising_loss(
            self.denoiser,
            self.schedule,
            context,
            x0,
            time,
            noise,
            self.learned_weighting,
            whole_time,
            step_weight,
        )

    def encode(self, observation: Mapping[str, Tensor]) -> Any:
        """Context for the denoiser from an observation in its own units, key -> (B, To, ...)."""
        return self.network.encode_context(self.encode_tokens(observation))

    @property
    def capabilities(self) -> Capabilities:
        """What samplers ask of it."""
        return Capabilities(
            regimes=self.regimes,
            horizon=self.config.horizon,
            relative=bool(self.actions.reads),
            anchored=self.anchors is not None,
            unconditional=self.has_unconditional,
            start=self.measured_start,
            valued=self.values is not None,
        )

    @property
    def has_unconditional(self) -> bool:
        """Whether it was trained to do without the instruction."""
        return getattr(self.encoder, "condition_dropout", 0.0) > 0

    def encode_tokens(self, observation: Mapping[str, Tensor], conditional: bool = True) -> Tensor:
        """Condition tokens (B, K, E) of an observation in its own units, key -> (B, To, ...).

        Without `conditional` the instruction is left out. Raises CheckpointError for missing keys.
        """
        keys = self.config.obs_spec.keys
        missing = [name for name in keys if name not in observation]
        if missing:
            raise CheckpointError(
                f"the policy was trained with {shorten(list(keys), 400)}; "
                f"{missing} are not observed"
            )
        normalised = {}
        for name, key in keys.items():
            normalised[name] = observation[name]
            if key.kind == "state":
                normalised[name] = self.normalizer.normalize(name, observation[name])
        if conditional:
            return self.encoder(normalised)
        return self.encoder(normalised, conditional=False)

    def decode(self, plan: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        """A normalised plan (B, T, A') as the robot's actions (B, T, A), in their own units.

        A number that never changed in the training data is exactly what it was there, whatever form
        the network sees.
        """
        actions = self.actions.decode(self.normalizer.denormalize(ACTION, plan), observation)
        if COMMAND in self.normalizer.shapes:
            return self.normalizer.pin_constants(COMMAND, actions)
        return actions

    def set_precision(self, name: str) -> PolicyModel:
        """Hold and multiply the denoiser's weights as `fp32` or `bf16`, whatever it can run in."""
        if name not in PRECISIONS:
            raise ConfigError(
                f"precision is {shorten(name)}; choose one of {', '.join(PRECISIONS)}"
            )
        self.network.set_precision(PRECISIONS[name])
        return self
