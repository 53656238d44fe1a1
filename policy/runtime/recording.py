"""A sampler as numbers: it is run on a stand-in for the network, and what it adds up is read off.

Between two evaluations a sampler only adds terms by weights that its levels fix: the previous plan,
noise, estimates. So it is called once with a row for each term, in which that term is 1 and all
others are 0: what the stand-in is asked about in that row is the term's weight. No solver is
written a second time. A last call with random numbers checks that the sums say all there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from ...spec import ConfigError, FloatArray, Horizon, IntArray
from ..diffusion.contract import BoundDenoiser, Denoiser
from ..diffusion.noise import RowNoise
from ..diffusion.schedule import Schedule
from ..model import PolicyModel
from ..samplers.base import PlanOutcome, PlanRequest, PreviousPlan, Sampler
from ..samplers.fresh import Fresh
from ..samplers.streaming import Streaming
from ..samplers.warm_start import WarmStart
from .program import Part, shift_plans

MOST_CALLS = 1000
NO_SUMS = "this sampler cannot be exported: its plans are no sums of terms, step by step"
TRIALS = 3
CLOSE = 1e-5
"""Relative difference of the sums from the sampler itself that is rounding."""


@dataclass
class Tape:
    """What the stand-in answers, and what it was asked."""

    draws: Tensor  # (D, R, T, A)
    estimates: Tensor  # (S, R, T, A)
    asked: list[Tensor] = field(default_factory=list)  # x (R, T, A) of each evaluation
    levels: list[Tensor] = field(default_factory=list)  # (R, T)
    drawn: int = 0
    clips: set[float | None] = field(default_factory=set)


class TapeNoise(RowNoise):
    """Noise that a tape holds."""

    def __init__(self, tape: Tape) -> None:
        rows = tape.draws.shape[1]
        super().__init__(np.arange(rows), np.zeros(rows, np.int64))
        self.tape = tape

    def normal(self, *shape: int) -> Tensor:
        """The next draw of the tape."""
        self.draws += 1
        self.tape.drawn = max(self.tape.drawn, self.draws)
        return self.tape.draws[self.draws - 1]

    def restart(self) -> RowNoise:
        """The same noise from its first draw on."""
        return TapeNoise(self.tape)

    def take(self, rows: IntArray) -> RowNoise:
        """No sampler that is exported plans for some rows alone."""
        return refuse()

    def branch(self, copies: int, first: int = 0) -> RowNoise:
        """No sampler that is exported makes several plans of a row."""
        return refuse()


class TapeDenoiser(BoundDenoiser):
    """A bound denoiser that answers from a tape."""

    def __init__(self, tape: Tape, denoiser: Denoiser) -> None:
        super().__init__(denoiser, None, None, None)
        self.tape = tape

    def __call__(self, x: Tensor, level: Tensor, step: int | None = None) -> Tensor:
        """The tape's next estimate."""
        number = len(self.tape.asked)
        self.tape.asked.append(x)
        self.tape.levels.append(level)
        self.count((level > 0).any(1))
        return self.tape.estimates[number]


@dataclass(frozen=True)
class TapeModel:
    """A `PlanModel` without a network."""

    model: PolicyModel
    horizon: Horizon
    tape: Tape

    @property
    def width(self) -> int:
        """A."""
        return self.model.actions.spec.width

    @property
    def schedule(self) -> Schedule:
        """The model's own."""
        return self.model.schedule

    @property
    def discrete(self) -> Tensor:
        """(A,) bool: the numbers of an action that take two values only."""
        return torch.as_tensor(self.model.actions.discrete)

    @property
    def discrete_size(self) -> float:
        """How far from 0 both values lie, in normalised units."""
        return self.model.actions.discrete_size

    def bind(self, levels: Tensor | None, clip: float | None) -> TapeDenoiser:
        """The tape as a denoiser."""
        self.tape.clips.add(clip)
        return TapeDenoiser(self.tape, self.model.denoiser)

    def steer_noise(self, noise: Tensor) -> Tensor:
        """The noise as it is: a model with a noise policy is not exported."""
        return noise

    def unconditional(self) -> NoReturn:
        """Refused."""
        refuse()

    def anchor(self) -> NoReturn:
        """Refused."""
        refuse()

    def score(self, plan: Tensor) -> NoReturn:
        """Refused."""
        refuse()

    def take(self, rows: Tensor) -> NoReturn:
        """Refused."""
        refuse()


@dataclass(frozen=True)
class Situation:
    """What a sampler finds: rows with plans of some level and age, or rows without."""

    model: PolicyModel
    horizon: Horizon
    sampler: Sampler
    level: FloatArray | None  # (T,) noise left in the previous plan; None: no row has one
    executed: int = 0

    @property
    def plan_shape(self) -> tuple[int, int]:
        """(T, A)."""
        return self.horizon.planned, self.model.actions.spec.width

    def run(self, previous: Tensor, tape: Tape) -> PlanOutcome:
        """Call the sampler for rows with these plans (R, T, A)."""
        rows = len(previous)
        before = None
        if self.level is not None:
            before = PreviousPlan(
                previous,
                torch.as_tensor(self.level).expand(rows, -1),
                torch.full((rows,), self.executed),
                torch.zeros(rows, dtype=torch.long),
            )
        stand_in = TapeModel(self.model, self.horizon, tape)
        with torch.no_grad():
            return self.sampler(PlanRequest(stand_in, TapeNoise(tape), before))


@dataclass(frozen=True)
class Variant:
    """One recorded call: S evaluations of N terms."""

    weights: FloatArray  # (S + 1, N, T, A)
    rows: FloatArray  # (S, T) levels of each evaluation
    level: FloatArray  # (T,) noise that is left
    clip: float | None
    nfe: int


def check_sampler(sampler: Sampler) -> None:
    """Raise ConfigError for a sampler that is more than sums of terms."""
    words = ""
    if not isinstance(sampler, Fresh | WarmStart | Streaming):
        words = f"{type(sampler).__name__} does more between evaluations than adding terms"
    elif isinstance(sampler, WarmStart) and sampler.fallback is not None:
        words = "inference.fallback decides by what the network says"
    elif isinstance(sampler, Streaming) and sampler.primer == "constant":
        words = "inference.primer=constant repeats one action over the plan"
    if words:
        raise ConfigError(
            f"{words}, and such a sampler cannot be exported: take inference=ddim, inference=rti "
            "without inference.fallback, or inference=sdp with inference.primer=denoise; hotstart "
            "serve runs every sampler"
        )


def refuse() -> NoReturn:
    """Raise ConfigError: the sampler asks for more than a network."""
    raise ConfigError(
        "this sampler asks for more than one plan a row, and cannot be exported: take "
        "inference=ddim, inference=rti or inference=sdp"
    )


def record(situation: Situation) -> Variant:
    """What the sampler adds up in a situation.

    Raises ConfigError where its plans are no sums of terms.
    """
    planned, width = situation.plan_shape
    counted = _make_tape(1, MOST_CALLS, (planned, width))
    situation.run(torch.zeros(1, planned, width), counted)
    calls, draws = len(counted.asked), counted.drawn
    terms = 1 + draws + calls
    # Row 0 has no term at all, row n + 1 the term n alone.
    unit = torch.zeros(terms, terms + 1, planned, width, dtype=torch.float64)
    for term in range(terms):
        unit[term, term + 1] = 1
    tape = Tape(unit[1 : 1 + draws], unit[1 + draws :])
    outcome = situation.run(unit[0], tape)
    sums = torch.stack([*tape.asked, outcome.plan]).double()  # (S + 1, N + 1, T, A)
    if float(sums[:, 0].abs().max()) > 0 or len(tape.clips) != 1:
        raise ConfigError(NO_SUMS)
    level = torch.zeros(planned)
    if outcome.level is not None:
        level = outcome.level[0]
    found = Variant(
        weights=sums[:, 1:].numpy(),
        rows=torch.stack([each[0] for each in tape.levels]).float().numpy(),
        level=level.float().numpy(),
        clip=next(iter(tape.clips)),
        nfe=int(outcome.nfe[0]),
    )
    _check_sums(situation, found, draws)
    return found


def _make_tape(rows: int, length: int, shape: tuple[int, int]) -> Tape:
    """A tape of zeros that is long enough for any sampler; it takes no memory."""
    zeros = torch.zeros(1, 1, 1, 1).expand(length, rows, *shape)
    return Tape(zeros, zeros)


def _check_sums(situation: Situation, found: Variant, draws: int) -> None:
    """Raise ConfigError unless the sums give the sampler's plans for random numbers."""
    generator = torch.Generator().manual_seed(0)
    terms = found.weights.shape[1]
    shape = (terms, TRIALS, *situation.plan_shape)
    drawn = 10 * torch.randn(shape, generator=generator, dtype=torch.float64)
    tape = Tape(drawn[1 : 1 + draws], drawn[1 + draws :])
    plan = situation.run(drawn[0], tape).plan
    wanted = torch.stack([*tape.asked, plan]).numpy()  # (S + 1, TRIALS, T, A)
    values = drawn.numpy().copy()
    values[0] = 0
    if situation.level is not None:
        values[0] = shift_plans(drawn[0].numpy(), situation.executed)
    got = np.einsum("snta,nrta->srta", found.weights, values)
    if np.abs(got - wanted).max() > CLOSE * np.abs(wanted).max():
        raise ConfigError(NO_SUMS)


class LevelList:
    """Rows of levels (T,), each kept once."""

    def __init__(self) -> None:
        self.rows: list[FloatArray] = []
        self._places: dict[bytes, int] = {}

    def place(self, row: FloatArray) -> int:
        """Where the row stands in the list."""
        key = np.ascontiguousarray(row, np.float32).tobytes()
        if key not in self._places:
            self._places[key] = len(self.rows)
            self.rows.append(row)
        return self._places[key]


def join_variants(variants: list[Variant], levels: LevelList) -> Part:
    """One part of a program; variants that are all the same become one."""
    first = variants[0]
    if all(_is_same(first, each) for each in variants):
        variants = [first]
    weights = np.stack([each.weights for each in variants]).astype(np.float32)
    if (weights == weights[..., :1]).all():
        weights = weights[..., :1]
    places: list[list[int]] = []
    for each in variants:
        places.append([levels.place(row) for row in each.rows])
    return Part(weights, np.array(places), first.level, first.clip, first.nfe)


def _is_same(one: Variant, other: Variant) -> bool:
    return np.array_equal(one.weights, other.weights) and np.array_equal(one.rows, other.rows)


class Recorded(NamedTuple):
    """A sampler as numbers."""

    first: Part
    later: Part
    levels: list[FloatArray]
    """The rows of levels (T,) that the parts meet."""


def record_parts(model: PolicyModel, sampler: Sampler, horizon: Horizon) -> Recorded:
    """The parts for first and for later plans.

    Raises ConfigError for a sampler that cannot be exported.
    """
    check_sampler(sampler)
    levels = LevelList()
    first = record(Situation(model, horizon, sampler, None))
    later = []
    for executed in range(horizon.planned + 1):
        later.append(record(Situation(model, horizon, sampler, first.level, executed)))
    same = all(np.array_equal(each.level, first.level) for each in later)
    if not same or len({each.clip for each in later}) != 1:
        raise ConfigError("this sampler cannot be exported: its plans leave noise of several kinds")
    parts = join_variants([first], levels), join_variants(later, levels)
    return Recorded(*parts, levels.rows)
