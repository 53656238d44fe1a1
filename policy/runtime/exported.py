"""A policy from an exported folder: the same plans as the checkpoint's, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...rows import Array
from ...seeds import draw_plan_noise
from ...spec import (
    ActionSpec,
    BoolArray,
    ConfigError,
    Executed,
    FloatArray,
    Horizon,
    IntArray,
    Observation,
    ObsSpec,
    Planned,
)
from ..agent import Agent
from ..state import (
    Plan,
    PolicyState,
    adopt_plans,
    create_state,
    push_observation,
    restart_rows,
)
from .engines import Graph, open_graph
from .exported_contents import Contents, read_contents
from .exported_folder import Folder, explain_damage, read_folder
from .program import Part, shift_plans


@dataclass(frozen=True)
class Group:
    """Rows whose plans are sampled in one way."""

    part: Part
    variant: int
    executed: int
    rows: IntArray  # (R',) counted within the rows of a call


class ExportedPolicy:
    """Observations in, action chunks out, by graphs of an engine; see `hotstart.spec.Policy`."""

    def __init__(self, folder: Folder, threads: int | None = None) -> None:
        """`threads` of an evaluation; None: as many as at the export, 0: as the engine likes.

        Raises CheckpointError for a damaged folder, ConfigError where the engine is not installed.
        """
        found: Contents = explain_damage(folder.path, lambda: read_contents(folder))
        self.contents = found
        self.horizon: Horizon = found.horizon
        self.obs_spec: ObsSpec = found.obs_spec
        self.action_spec: ActionSpec = found.action_spec
        self.rate_hz: float | None = found.rate_hz
        if threads is None:
            threads = found.threads

        def open_one(name: str, precision: str) -> Graph:
            return open_graph(found.engine, folder.find_graph(name), precision, threads)

        self._encode = open_one(found.encode, "fp32")
        self._decode = open_one(found.decode, "fp32")
        self._rebase = None
        if found.rebase is not None:
            self._rebase = open_one(found.rebase, "fp32")
        self._denoise = [open_one(name, found.precision) for name in found.denoise]
        explain_damage(folder.path, self._try_graphs)

    def _try_graphs(self) -> None:
        """Run every graph on zeros: what does not fit shows now, and not in a control loop.

        Raises ValueError for an output of another shape.
        """
        found = self.contents
        state = self.initial_state(range(found.rows))
        context = self._run(self._encode, [state.history[name] for name in self.obs_spec.keys], ())
        plan = np.zeros_like(state.plan.x)
        levels = found.program.levels
        for number, graph in enumerate(self._denoise):
            row = int(np.argmax(levels.graphs == number))
            (output,) = self._run(graph, [plan, *context], levels.prepared[row])
            _check_shape(output, plan.shape)
        read = [state.history[name] for name in found.reads]
        (actions,) = self._run(self._decode, [plan, *read], ())
        _check_shape(actions, (*plan.shape[:2], self.action_spec.width))
        if self._rebase is not None:
            (rebased,) = self._run(self._rebase, [plan, *read, *read], ())
            _check_shape(rebased, plan.shape)

    def initial_state(self, seeds: Sequence[int]) -> PolicyState:
        """A state with one row per seed, nothing observed and nothing planned."""
        found = self.contents
        return create_state(self.obs_spec, self.horizon, found.width, seeds, found.reads)

    def reset_rows(self, state: PolicyState, rows: IntArray, seeds: Sequence[int]) -> PolicyState:
        """Forget everything in `rows` (R,) and give them new seeds; the other rows stay bit-equal.

        Raises ConfigError unless there is one seed per row.
        """
        return restart_rows(state, rows, seeds, self.initial_state)

    def observe(
        self,
        state: PolicyState,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> PolicyState:
        """Push an observation (B, ...) onto the histories, see `state.push_observation`."""
        return push_observation(state, self.obs_spec, observation, new)

    def plan(
        self,
        state: PolicyState,
        rows: IntArray,
        executed: IntArray,
        frozen: IntArray | None = None,
    ) -> Planned:
        """New plans for `rows` (R,), and their Ta actions (R, Ta, A) in the robot's units.

        Raises ConfigError for a row that has observed nothing, and for a plan that is not finite.
        """
        if bool((state.seen[rows] == 0).any()):
            raise ConfigError(
                "plan() was asked for a row that has observed nothing: call observe() first"
            )
        rows = np.asarray(rows)
        histories = [state.history[name][rows] for name in self.obs_spec.keys]
        context = self._run(self._encode, histories, ())
        x = np.zeros((len(rows), self.horizon.planned, self.contents.width), np.float32)
        level = np.zeros(x.shape[:2], np.float32)
        nfe = np.zeros(len(rows), np.int64)
        before = self._rebase_plans(state, rows)
        for group in self._group_rows(before, executed):
            shifted = shift_plans(before[group.rows], group.executed)
            leaves = [leaf[group.rows] for leaf in context]
            x[group.rows] = self._sample(state, rows[group.rows], group, shifted, leaves)
            level[group.rows] = group.part.level
            nfe[group.rows] = group.part.nfe
        if not np.isfinite(x).all():
            raise ConfigError(
                "the policy's plan is not finite: the observation or the weights hold NaN or "
                "infinity"
            )
        observed = {name: state.history[name][rows] for name in self.contents.reads}
        (actions,) = self._run(self._decode, [x, *observed.values()], ())
        first = self.horizon.past
        chunk = actions[:, first : first + self._count_clean(level)]
        plan = Plan(x, level, state.plan.count[rows] + 1, observed)
        return Planned(rows, chunk, plan, nfe)

    def adopt(self, state: PolicyState, planned: Planned) -> PolicyState:
        """The `state` with the plans of `planned` in its rows; histories and memory stay."""
        return adopt_plans(state, planned.rows, planned.plan)

    def _rebase_plans(self, state: PolicyState, rows: IntArray) -> FloatArray:
        """The plans before (R, T, A'), relative to what is observed now; NaN in rows with none."""
        previous = state.plan.x[rows]
        if self._rebase is None:
            return previous
        before = [state.plan.observed[name][rows] for name in self.contents.reads]
        now = [state.history[name][rows] for name in self.contents.reads]
        known = np.isfinite(previous)
        (rebased,) = self._run(self._rebase, [np.where(known, previous, 0), *before, *now], ())
        return np.where(known, rebased, previous)

    def _group_rows(self, before: FloatArray, executed: IntArray) -> list[Group]:
        """The rows by the way in which their plans are sampled; `before` as of `_rebase_plans`."""
        has_plan = np.isfinite(before).all((1, 2))
        found: dict[tuple[bool, int], list[int]] = {}
        for row, known in enumerate(has_plan.tolist()):
            steps = 0
            if known:
                steps = int(executed[row])
            found.setdefault((known, steps), []).append(row)
        groups = []
        for (known, steps), mine in found.items():
            part = self.contents.program.first
            if known:
                part = self.contents.program.later
            groups.append(Group(part, part.choose_variant(steps), steps, np.array(mine)))
        return groups

    def _sample(
        self,
        state: PolicyState,
        rows: IntArray,
        group: Group,
        previous: FloatArray,
        leaves: Sequence[Array],
    ) -> FloatArray:
        """Plans for `rows` (R') of a group, from their shifted plans and their context's leaves."""
        seeds = state.seeds[rows]
        plans = state.plan.count[rows]
        branches = np.zeros_like(seeds)
        noise = np.zeros((group.part.draws, *previous.shape), np.float32)
        for draw in range(len(noise)):
            noise[draw] = draw_plan_noise(seeds, plans, branches, draw, previous.shape[1:])

        def estimate(x: FloatArray, row: int) -> FloatArray:
            levels = self.contents.program.levels
            scales = levels.scales[row, :, :, None]
            denoise = self._denoise[levels.graphs[row]]
            (output,) = self._run(denoise, [scales[0] * x, *leaves], levels.prepared[row])
            return scales[1] * x + scales[2] * output

        return group.part.sample(group.variant, np.nan_to_num(previous), noise, estimate)

    def _run(self, graph: Graph, own: Sequence[Array], shared: Sequence[Array]) -> list[Array]:
        """The outputs of all rows of `own` (R, ...), by a graph for a fixed number of rows."""
        size = self.contents.rows
        parts = []
        for first in range(0, len(own[0]), size):
            taken = [_pad(each[first : first + size], size) for each in own]
            parts.append(graph([*taken, *shared]))
        count = len(own[0])
        return [np.concatenate(each)[:count] for each in zip(*parts, strict=True)]

    def _count_clean(self, level: FloatArray) -> int:
        """The actions to hand out: Ta and the delay, up to the first that is noisy in any row."""
        first = self.horizon.past
        count = self.horizon.executed + self.horizon.delay
        noisy = np.flatnonzero(level[:, first : first + count].max(0))
        if len(noisy):
            return int(noisy[0])
        return count


def _check_shape(output: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError for an output of another shape."""
    if output.shape != shape:
        raise ValueError(f"a graph gives {output.shape}; {shape} was expected")


def _pad(value: Array, rows: int) -> Array:
    """Rows (R, ...) up to `rows`: the last one is repeated."""
    missing = rows - len(value)
    if missing == 0:
        return value
    return np.concatenate((value, np.repeat(value[-1:], missing, 0)))


def load_policy(path: Path | str, threads: int | None = None) -> ExportedPolicy:
    """The policy of an exported folder; `threads` and errors as of `ExportedPolicy`."""
    return ExportedPolicy(read_folder(Path(path)), threads)


def load(path: Path | str, seed: int = 0, threads: int | None = None) -> Agent:
    """An agent from an exported folder, to act in one's own control loop.

    Args:
        path: folder that `hotstart export` wrote
        seed: fixes the noise of the first episode
        threads: threads of an evaluation; None: as many as at the export

    Raises:
        CheckpointError: where the folder is damaged, or no exported policy
        ConfigError: where the engine is not installed

    Examples:
        >>> agent = hotstart_runtime.load("push_exported")
        >>> agent.reset(seed=0)
        >>> action = agent.act(observation)  # once per control period
    """
    return Agent(load_policy(path, threads), seed)
