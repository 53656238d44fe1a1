"""Does a rollout go wrong? Scores of each new plan, alarms above a threshold, and what then.

Plans overlap: a new plan and the one before it name actions for the same steps. How far they
disagree costs nothing to know, and grows where a policy does not know what to do (STAC, Agia et
al., 2410.04640, compares distributions of plans, which `Samples` does). The threshold comes from
successful rollouts alone, see `evaluation.conformal`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy.spatial import KDTree

from ..datasets.episodes import Dataset
from ..evaluation.conformal import Threshold
from ..rows import take_rows
from ..spec import (
    BoolArray,
    ConfigError,
    FloatArray,
    HotstartError,
    Planned,
    Planner,
    PlanQuery,
    State,
    Tick,
    unknown,
)
from ..system import outputs
from .diffusion_policy import DiffusionPolicy
from .model import PolicyModel
from .normalizer import ACTION
from .state import PolicyState

OnFailure = Literal["log", "hold", "ask"]
FORMAT = 1
RIDGE = 1e-3
"""Added to the variances of states, in their own units."""


class FailureError(HotstartError):
    """A rollout goes wrong, and the operator has ended it."""


@dataclass(frozen=True)
class Moment:
    """One row's new plan, and what it was made from."""

    row: int
    state: PolicyState  # (1, ...) as it was when asked: it holds the plan before
    planned: Planned  # of one row
    executed: int  # steps of the plan before that lie behind
    frozen: int

    @property
    def number(self) -> int:
        """Plans that the row had before this one."""
        return int(self.state.plan.count[0])


Scorer = Callable[[Moment], Mapping[str, float]]
"""Name -> score of a plan, higher where it looks worse; NaN where nothing can be said."""


@dataclass(frozen=True)
class Scored:
    """The scores of one plan."""

    row: int
    number: int
    scores: Mapping[str, float]


def used_numbers(model: PolicyModel) -> BoolArray:
    """Which numbers (A,) of an action are neither two-valued nor constant in the data."""
    moves = model.normalizer.get_buffer(f"{ACTION}__scale") > 0
    return moves.cpu().numpy() & ~np.asarray(model.actions.discrete, bool)


class _PlanScore:
    """What scores of plans share: which steps and numbers of two plans can be compared."""

    def __init__(self, policy: DiffusionPolicy) -> None:
        """Raises ConfigError where plans are relative to what was observed when they were made."""
        if policy.model.actions.reads:
            raise ConfigError(
                "actions relative to the hand cannot be compared from plan to plan: "
                "take actions=rotation_6d"
            )
        self.policy = policy
        self.used = used_numbers(policy.model)

    def _share(
        self, before: FloatArray, now: FloatArray, moment: Moment
    ) -> tuple[FloatArray, FloatArray]:
        """The steps and numbers (..., N) that a plan before and a new one (..., T, A) both name.

        Steps that the new plan was made to keep, and noisy ones, are left out.
        """
        steps = max(0, now.shape[-2] - moment.executed)
        first = self.policy.horizon.past + moment.frozen
        old_level = moment.state.plan.level[0, moment.executed :]
        clean = (old_level == 0) & (moment.planned.plan.level[0, :steps] == 0)
        clean[:first] = False
        old = before[..., moment.executed :, :][..., clean, :][..., self.used]
        new = now[..., :steps, :][..., clean, :][..., self.used]
        flat = (*now.shape[:-2], -1)
        return old.reshape(flat), new.reshape(flat)


class Disagreement(_PlanScore):
    """Root mean square difference between a plan and the one before, in normalised units."""

    def __call__(self, moment: Moment) -> Mapping[str, float]:
        """The score `disagreement`."""
        before = moment.state.plan.x[0]
        old, new = self._share(before, moment.planned.plan.x[0], moment)
        if not np.isfinite(old).all() or old.size == 0:
            return {"disagreement": np.nan}
        return {"disagreement": float(np.sqrt(np.mean((new - old) ** 2)))}


class Samples(_PlanScore):
    """Several plans of the same observation: their spread, and the distance from those before.

    It costs `count` further plans each time. The plans of a warm-started sampler all begin from the
    row's own plan before.
    """

    def __init__(self, policy: DiffusionPolicy, count: int = 8) -> None:
        """`count` plans, 2 or more."""
        super().__init__(policy)
        if count < 2:
            raise ConfigError(f"count is {count}; 2 plans or more are compared")
        self.count = count
        self._before: dict[int, FloatArray] = {}

    def __call__(self, moment: Moment) -> Mapping[str, float]:
        """The scores `spread` (standard deviation) and `energy` (energy distance)."""
        plans = self._draw(moment)  # (M, T, A)
        chunk = plans[:, self.policy.horizon.past :, self.used]
        scores = {"spread": float(np.sqrt(np.mean(chunk.var(0)))), "energy": np.nan}
        if moment.number > 0 and moment.row in self._before:
            old, new = self._share(self._before[moment.row], plans, moment)
            if new.size:
                scores["energy"] = energy_distance(old, new)
        self._before[moment.row] = plans
        return scores

    def _draw(self, moment: Moment) -> FloatArray:
        seed, number = int(moment.state.seeds[0]), moment.number
        seeds = np.random.default_rng([seed, number, self.count]).integers(2**62, size=self.count)
        many = replace(take_rows(moment.state, [0] * self.count), seeds=seeds)
        rows = np.arange(self.count)
        executed = np.full(self.count, moment.executed)
        planned = self.policy.plan(many, rows, executed, np.full(self.count, moment.frozen))
        return planned.plan.x


def energy_distance(old: FloatArray, new: FloatArray) -> float:
    """Energy distance of two samples (M, N) and (M', N), per root of N (Szekely and Rizzo 2013)."""
    parts = [_mean_distance(old, new), _mean_distance(old, old), _mean_distance(new, new)]
    return float(2 * parts[0] - parts[1] - parts[2]) / np.sqrt(old.shape[1])


def _mean_distance(one: FloatArray, other: FloatArray) -> float:
    return float(np.linalg.norm(one[:, None] - other[None], axis=-1).mean())


class StateDistance:
    """How far the newest state lies from the training data, in its standard deviations."""

    def __init__(self, policy: DiffusionPolicy, dataset: Dataset) -> None:
        """Raises ConfigError for a policy that sees pictures or words."""
        if any(key.kind != "state" for key in policy.obs_spec.keys.values()):
            raise ConfigError("distances to the data are those of states; this policy sees more")
        self.keys = list(policy.obs_spec.keys)
        parts = []
        for name in self.keys:
            values = np.asarray(dataset.array(name)[:], np.float64)
            parts.append(values.reshape(len(values), -1))
        data = np.concatenate(parts, 1)
        self.centre, self.scale = data.mean(0), data.std(0)
        self.moves = self.scale > 1e-6 * (1 + np.abs(self.centre))
        scaled = self._scale(data)
        covariance = np.atleast_2d(np.cov(scaled.T)) + RIDGE * np.eye(scaled.shape[1])
        self.inverse, self.tree = np.linalg.inv(covariance), KDTree(scaled)

    def __call__(self, moment: Moment) -> Mapping[str, float]:
        """The scores `mahalanobis` and `nearest` (to the nearest state of the data)."""
        newest = [moment.state.history[name][0, -1].ravel() for name in self.keys]
        seen = self._scale(np.concatenate(newest).astype(np.float64)[None])
        return {
            "mahalanobis": float(np.sqrt(seen @ self.inverse @ seen.T)[0, 0]),
            "nearest": float(self.tree.query(seen)[0][0]),
        }

    def _scale(self, states: FloatArray) -> FloatArray:
        """(N, D) without numbers that stand still in the data."""
        return ((states - self.centre) / np.where(self.moves, self.scale, 1))[:, self.moves]


class _Asked(NamedTuple):
    """What a row's plan is made from."""

    state: State
    executed: int
    frozen: int


class WatchedPlanner:
    """A planner whose plans are scored as they arrive; `found` has those of the episode so far."""

    def __init__(self, planner: Planner, scorers: Sequence[Scorer]) -> None:
        self.planner, self.scorers = planner, scorers
        self.found: list[Scored] = []
        self._asked: dict[int, _Asked] = {}

    @property
    def expected_s(self) -> float:
        """The planner's."""
        return self.planner.expected_s

    def reset(self) -> None:
        """An episode begins."""
        self.found = []
        self._asked = {}
        self.planner.reset()

    def submit(self, state: State, query: PlanQuery) -> None:
        """Remember what is asked, and pass it on."""
        for index, row in enumerate(query.rows.tolist()):
            own = take_rows(state, [row])
            self._asked[row] = _Asked(own, int(query.executed[index]), int(query.frozen[index]))
        self.planner.submit(state, query)

    def poll(self, now_s: FloatArray) -> Sequence[Planned]:
        """The planner's answers, scored."""
        answers = self.planner.poll(now_s)
        for answer in answers:
            for index, row in enumerate(np.asarray(answer.rows).tolist()):
                self._score(row, take_rows(answer, [index]))
        return answers

    def due_s(self, row: int) -> float:
        """The planner's."""
        return self.planner.due_s(row)

    def _score(self, row: int, planned: Planned) -> None:
        asked = self._asked.pop(row)
        moment = Moment(row, asked.state, planned, asked.executed, asked.frozen)
        scores: dict[str, float] = {}
        for scorer in self.scorers:
            scores.update(scorer(moment))
        self.found.append(Scored(row, moment.number, scores))


@dataclass(frozen=True)
class Detector:
    """A score with its threshold, for one checkpoint and one sampler."""

    score: str
    threshold: Threshold
    checkpoint: str
    """SHA-256 of the weights."""
    inference: str
    made: str
    """Day of the calibration."""

    @classmethod
    def make(cls, score: str, threshold: Threshold, checkpoint: str, inference: str) -> Detector:
        """A detector that was calibrated today."""
        return cls(score, threshold, checkpoint, inference, date.today().isoformat())

    def save(self, path: Path) -> None:
        """Write it as a small JSON file."""
        plain = {**vars(self), "threshold": self.threshold.to_json(), "format": FORMAT}
        outputs.write_text(path, json.dumps(plain, indent=2))

    @classmethod
    def load(cls, path: Path) -> Detector:
        """Read what `save` wrote; raises ConfigError for anything else."""
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            threshold = Threshold.from_json(plain["threshold"])
            words = {}
            for name in ("score", "checkpoint", "inference", "made"):
                words[name] = str(plain[name])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no failure detector: {error}") from error
        return cls(threshold=threshold, **words)


@dataclass(frozen=True)
class Alarm:
    """A plan whose score lies above its threshold."""

    row: int
    number: int
    score: float
    threshold: float
    tick: int
    now_s: float

    def __str__(self) -> str:
        return (
            f"this rollout may fail: plan {self.number} of row {self.row} scores {self.score:.3g}, "
            f"above {self.threshold:.3g}"
        )


class FailureMonitor:
    """Raises alarms in a running loop; `hotstart.run(..., intervene=monitor.intervene)`.

    log: alarms are told and listed, nothing else. hold: the row holds its position from the first
    alarm on. ask: it holds until `ask` returns, in a thread of its own; True lets the row go on,
    False raises FailureError, and the loop stops the robot.
    """

    def __init__(
        self,
        planner: WatchedPlanner,
        detector: Detector,
        hold_position: Callable[[], FloatArray],
        on_failure: OnFailure = "log",
        ask: Callable[[Alarm], bool] | None = None,
        tell: Callable[[str], None] = print,
    ) -> None:
        """`hold_position` is the robot's. Raises ConfigError for an unknown `on_failure`, and for
        ask without somebody to ask.
        """
        if on_failure not in get_args(OnFailure):
            raise ConfigError(unknown("choice for on_failure", on_failure, get_args(OnFailure)))
        if on_failure == "ask" and ask is None:
            raise ConfigError("on_failure=ask needs somebody to ask: give `ask`")
        self.planner, self.detector = planner, detector
        self.hold_position, self.on_failure = hold_position, on_failure
        self.ask, self.tell = ask, tell
        self.alarms: list[Alarm] = []
        self._found: list[Scored] = []
        self._read = 0
        self._held: dict[int, Future[bool] | None] = {}

    def intervene(self, tick: Tick) -> FloatArray | None:
        """See `hotstart.spec.Intervention`."""
        for alarm in self._find_alarms(tick):
            self.alarms.append(alarm)
            if alarm.row in self._held:
                continue
            self.tell(str(alarm))
            if self.on_failure != "log":
                self._held[alarm.row] = self._begin_asking(alarm)
        self._hear_answers()
        if not self._held:
            return None
        actions = np.full(tick.actions.shape, np.nan)
        rows = list(self._held)
        actions[rows] = self.hold_position()[rows]
        return actions

    def _find_alarms(self, tick: Tick) -> list[Alarm]:
        """Alarms of the plans that have come since the turn before."""
        if self._found is not self.planner.found:  # another episode
            self._found, self._read = self.planner.found, 0
            self._held = {}
        alarms = []
        for scored in self._found[self._read :]:
            score = scored.scores[self.detector.score]
            threshold = self.detector.threshold.at(scored.number)
            if score > threshold:
                now_s = float(tick.now_s[scored.row])
                alarms.append(
                    Alarm(scored.row, scored.number, score, threshold, tick.number, now_s)
                )
        self._read = len(self._found)
        return alarms

    def _begin_asking(self, alarm: Alarm) -> Future[bool] | None:
        """Ask in a thread; None where nobody is asked."""
        if self.on_failure != "ask" or self.ask is None:
            return None
        answer: Future[bool] = Future()
        threading.Thread(target=_answer, args=(self.ask, alarm, answer), daemon=True).start()
        return answer

    def _hear_answers(self) -> None:
        """Let rows go on, or end, as the operator says."""
        for row, answer in list(self._held.items()):
            if answer is None or not answer.done():
                continue
            if not answer.result():
                raise FailureError(f"the operator has ended the rollout of row {row}")
            del self._held[row]


def _answer(ask: Callable[[Alarm], bool], alarm: Alarm, answer: Future[bool]) -> None:
    """Ask, and hand the answer or the error on."""
    try:
        answer.set_result(bool(ask(alarm)))
    except BaseException as error:
        answer.set_exception(error)
