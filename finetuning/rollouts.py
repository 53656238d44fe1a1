"""Rollouts of a policy whose denoising steps are recorded.

Letters: N chunks, B rows, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.samplers.loop import Transition
from ..policy.turns import PolicyRows
from ..spec import BoolArray, FloatArray, IntArray, RolloutSource, Turn
from .chains import Transitions, keep_trained
from .critic import Critic, describe_rows


@dataclass(frozen=True)
class Rollout:
    """N chunks in B rows, and the denoising steps that made them.

    Plan n * B + b is chunk n of row b.
    """

    steps: Transitions | None  # None: no step can be trained
    tokens: Tensor  # (N B, K, E)
    features: Tensor  # (N B, F)
    value: FloatArray  # (N, B)
    next_value: FloatArray  # (N, B) of what the chunk led to, final observations included
    reward: FloatArray  # (N, B)
    terminated: BoolArray  # (N, B)
    done: BoolArray  # (N, B)
    success: BoolArray  # (N, B)
    periods: IntArray  # (N, B) control periods that were run
    doubtful: BoolArray  # (N, B) chunks of episodes whose outcome is not to be learned from

    @property
    def usable(self) -> Tensor:
        """(N B,) bool: plans that were executed, in episodes whose outcome is not in doubt."""
        return torch.as_tensor(((self.periods > 0) & ~self.doubtful).reshape(-1))

    def count_episodes(self) -> tuple[int, int]:
        """The first episode of every row, and how many of them succeeded.

        Later episodes are left out: those that succeed end early, so they would count more often.
        """
        before = np.cumsum(self.done, 0) - self.done
        first = before == 0
        return self.done.shape[1], int((first & self.success).any(0).sum())

    def describe(self) -> dict[str, float]:
        """To log: success of every row's first episode, how many rows, and the reward of a row."""
        episodes, successes = self.count_episodes()
        return {
            "success": successes / max(1, episodes),
            "episodes": float(episodes),
            "reward": float(self.reward.sum() / max(1, episodes)),
            "doubtful": float(self.doubtful.mean()),
        }


class Collector:
    """Runs a policy in a source and records what an update needs."""

    def __init__(
        self,
        policy: DiffusionPolicy,
        source: RolloutSource,
        critic: Critic | None = None,
        below: float = 0.0,
    ) -> None:
        """Steps at levels up to `below` are recorded; where there are any, the sampler explores.

        Without a critic every value is 0, and rows are described for the recorded steps alone.
        """
        self.policy, self.source = policy, source
        self.critic = critic
        self.below = below

    @torch.no_grad()
    def collect(self, chunks: int, seeds: IntArray) -> Rollout:
        """`chunks` (N) chunks in all rows, from new episodes on.

        seeds (N + 1, B): of the first episodes, and of one that begins after each chunk
        """
        return self._collect(chunks, seeds, seeds[0])

    def collect_groups(self, chunks: int, starts: IntArray, noise: IntArray) -> Rollout:
        """At most `chunks` chunks (N) of one episode in each row.

        Rows of the same seed in `starts` (B,) begin alike; `noise` (B,) are seeds of the policy.
        """
        return self._collect(chunks, starts[None], noise)

    def _collect(self, chunks: int, seeds: IntArray, noise: IntArray) -> Rollout:
        """Episodes in all rows; a row goes on with a new one where `seeds` hold another."""
        everyone = np.arange(self.source.rows)
        observation = self.source.begin(everyone, seeds[0].tolist())
        rows = PolicyRows.begin(self.policy, observation, noise.tolist())
        steps: list[Transitions] = []
        described: list[tuple[Tensor, Tensor]] = []
        turns: list[Turn] = []
        next_values: list[NDArray[np.float64]] = []
        here = self._describe(rows)
        for number in range(chunks):
            actions, recorded = self._plan(rows, number * len(everyone))
            turn = self.source.step(actions)
            rows.push(turn)
            described.append(here)
            turns.append(turn)
            steps += recorded
            here = self._describe(rows)
            next_values.append(self._evaluate(here[1]))
            if len(seeds) == 1:
                if turn.done.all():
                    break
            elif turn.done.any():
                self._begin_anew(rows, np.flatnonzero(turn.done), seeds[number + 1])
                here = self._describe(rows)
        features = torch.cat([each for _, each in described])
        joined = None
        if steps:
            joined = Transitions.join(steps)
        return Rollout(
            steps=joined,
            tokens=torch.cat([each for each, _ in described]),
            features=features,
            value=self._evaluate(features).reshape(len(turns), -1),
            next_value=np.stack(next_values),
            reward=np.stack([turn.reward for turn in turns]),
            terminated=np.stack([turn.terminated for turn in turns]),
            done=np.stack([turn.done for turn in turns]),
            success=np.stack([turn.success for turn in turns]),
            periods=np.stack([turn.steps for turn in turns]),
            doubtful=_mark_doubtful(turns),
        )

    def keep(
        self, trace: Sequence[Transition], level_after: Tensor, chunk: Tensor
    ) -> Transitions | None:
        """What an update needs of one planning call; see `keep_trained`."""
        return keep_trained(trace, level_after, chunk, self.policy.horizon, self.below)

    def _plan(self, rows: PolicyRows, first: int) -> tuple[FloatArray, list[Transitions]]:
        """Actions (B, Ta, A) of all rows, and the denoising steps; plans count from `first`."""
        actions = np.zeros(rows.chunk_shape)
        recorded: list[Transitions] = []
        for planned, trace in rows.plan(self.below > 0):
            actions[planned.rows] = planned.actions
            if trace is None:
                continue
            level = torch.as_tensor(planned.plan.level)
            kept = self.keep(trace, level, torch.as_tensor(first + planned.rows))
            if kept is not None:
                recorded.append(kept)
        return actions, recorded

    def _begin_anew(self, rows: PolicyRows, over: IntArray, seeds: IntArray) -> None:
        """Begin new episodes in the rows `over` (R,); seeds (B,)."""
        chosen = seeds[over].tolist()
        rows.begin_anew(over, self.source.begin(over, chosen), chosen)

    def _describe(self, rows: PolicyRows) -> tuple[Tensor, Tensor]:
        """Condition tokens (B, K, E) and the critic's features (B, F)."""
        if self.critic is None and self.below <= 0:
            nothing = torch.zeros(len(rows.has_plan), 0)
            return nothing, nothing
        model = self.policy.model
        observed = {name: torch.as_tensor(each) for name, each in rows.state.history.items()}
        tokens = model.encode_tokens(observed)
        features = describe_rows(
            model, self.policy.sampler, rows.state, observed, tokens, rows.elapsed
        )
        return tokens, features

    def _evaluate(self, features: Tensor) -> NDArray[np.float64]:
        """Values (M,) of features (M, F)."""
        if self.critic is None:
            return np.zeros(len(features))
        return self.critic(features).double().numpy()


def _mark_doubtful(turns: Sequence[Turn]) -> BoolArray:
    """(N, B): chunks of the episodes that ended in doubt."""
    marked = np.zeros((len(turns), len(turns[0].steps)), bool)
    doubt = np.zeros(marked.shape[1], bool)
    for number in reversed(range(len(turns))):
        turn = turns[number]
        doubt &= ~turn.done
        if turn.doubtful is not None:
            doubt |= turn.doubtful
        marked[number] = doubt
    return marked


def group_seeds(seeds: IntArray, branches: int) -> tuple[IntArray, IntArray]:
    """Seeds (B,) of the episodes of groups of rows, alike within a group, and of their policies.

    A group has the seed that its first row has in `seeds` (B,). Seeds of its policies are
    neighbours, from a multiple of `branches` on.
    """
    starts = np.repeat(seeds[::branches], branches)
    return starts, starts * branches + np.arange(len(starts)) % branches
