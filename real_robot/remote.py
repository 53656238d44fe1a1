"""A policy on another machine as a `Policy` and a `Planner`, for `hotstart.run`: needs no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..planners import ThreadedPlanner
from ..rows import RowArrays, put_rows
from ..spec import (
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
    SilentError,
)
from .client import Client, LateError, ServerError

PAUSE_S = 0.02
"""Between two requests for the same plan."""


@dataclass(frozen=True)
class RemoteState:
    """What this side remembers of one row: what it has seen. Plans live on the server."""

    history: RowArrays  # key -> (1, To, ...)
    seen: IntArray  # (1,) observations since the reset
    seen_s: FloatArray  # (1,) when the newest one came [s]
    seeds: IntArray  # (1,)
    plans: IntArray  # (1,) plans since the reset


class RemotePolicy:
    """A policy of one row whose plans a server makes; see `hotstart.spec.Policy`.

    `plan` waits, so give it to a `RemotePlanner`. It sends the newest To observations with every
    request, and the server keeps the plans. After a lost connection a plan begins afresh.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        patience_s: float = 10.0,
    ) -> None:
        """Connect; a plan is asked for again and again until `patience_s` [s] have passed.

        Raises SilentError where nobody answers, ConfigError where the server refuses.
        """
        self.patience_s = patience_s
        try:
            self.client = Client(host, port, token)
        except ServerError as error:
            raise _translate(error) from error
        told = self.client.metadata
        try:
            self.horizon = Horizon(**_want_map(told, "horizon"))
            self.obs_spec = ObsSpec.from_json(_want_map(told, "observation"))
            self.action_spec = ActionSpec.from_json(told["action"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{host}:{port} does not say what its policy is: {error}") from error
        self.rate_hz: float | None = told.get("rate_hz")
        self._closed = False

    def initial_state(self, seeds: Sequence[int]) -> RemoteState:
        """Nothing seen; raises ConfigError for more than one row."""
        if len(seeds) != 1:
            raise ConfigError(f"a remote policy has one row; {len(seeds)} were asked for")
        history = {}
        for name, key in self.obs_spec.keys.items():
            history[name] = np.zeros((1, self.horizon.observed, *key.shape), key.dtype)
        nothing = np.zeros(1, np.int64)
        return RemoteState(history, nothing, np.zeros(1), np.array(seeds, np.int64), nothing)

    def reset_rows(self, state: RemoteState, rows: IntArray, seeds: Sequence[int]) -> RemoteState:
        """Begin anew with another seed."""
        return put_rows(state, np.asarray(rows), self.initial_state(seeds))

    def observe(
        self,
        state: RemoteState,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> RemoteState:
        """Push an observation (1, ...), or replace the newest one where the row is not `new`."""
        first = state.seen[0] == 0
        further = first or new is None or bool(new[0])
        history = {}
        for name, window in state.history.items():
            if name not in observation:
                raise ConfigError(f"the observation lacks {name!r}; the policy wants it")
            newest = np.asarray(observation[name])
            before = window
            if first:
                before = np.repeat(newest[:, None], window.shape[1], 1)
            if further:
                before = before[:, 1:]
            else:
                before = before[:, :-1]
            history[name] = np.concatenate((before, newest[:, None]), 1)
        return replace(
            state,
            history=history,
            seen=state.seen + int(further),
            seen_s=np.full(1, time.monotonic()),
        )

    def plan(
        self,
        state: RemoteState,
        rows: IntArray,
        executed: IntArray,
        frozen: IntArray | None = None,
    ) -> Planned:
        """The server's plan for the row; waits for it.

        Raises SilentError where none comes within `patience_s`, ConfigError where it is refused.
        """
        ahead = 0
        if frozen is not None:
            ahead = int(frozen[0])
        observation = {name: window[0] for name, window in state.history.items()}
        until_s = time.monotonic() + self.patience_s
        while True:
            left_s = until_s - time.monotonic()
            try:
                if state.plans[0] == 0:
                    self.client.reset(int(state.seeds[0]), left_s)
                actions = self.client.infer(
                    observation,
                    made_s=float(state.seen_s[0]),
                    deadline_s=left_s,
                    max_age_s=2 * self.patience_s,  # late actions are dropped by their times
                    executed=int(executed[0]),
                    frozen=ahead,
                )
                break
            except LateError as error:
                if self._closed or time.monotonic() + PAUSE_S > until_s:
                    raise _translate(error) from error
                time.sleep(PAUSE_S)
            except ServerError as error:
                raise _translate(error) from error
        nfe = np.array([int(self.client.answer.get("nfe", 0))])
        return Planned(np.asarray(rows), np.asarray(actions)[None], state.plans + 1, nfe)

    def adopt(self, state: RemoteState, planned: Planned) -> RemoteState:
        """Count the plan; it stays on the server."""
        return replace(state, plans=planned.plan)

    def close(self) -> None:
        """Let go of the connection; a plan that is waited for ends."""
        self._closed = True
        self.client.close()


class RemotePlanner(ThreadedPlanner):
    """Asks a policy server in a thread of its own: `submit` and `poll` never wait.

        planner = RemotePlanner("192.168.1.5", 8000, token)
        hotstart.run(robot, planner.policy, planner, hotstart.RealClock(), [0], settings)

    Where the server is silent, the loop holds and raises SilentError after its `patience_s`.
    """

    policy: RemotePolicy

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        patience_s: float = 10.0,
    ) -> None:
        """As `RemotePolicy`."""
        super().__init__(RemotePolicy(host, port, token, patience_s))

    def close(self, wait_s: float = 5.0) -> None:
        """Let go of the server and end the thread; may be called twice."""
        self.policy.close()
        super().close(wait_s)


def _want_map(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the metadata."""
    if not isinstance(told[name], dict):
        raise TypeError(f"{name} is no map")
    return told[name]


def _translate(error: ServerError) -> ConfigError | SilentError:
    """A client's error as one of ours."""
    if isinstance(error, LateError):
        return SilentError(str(error))
    return ConfigError(str(error))
