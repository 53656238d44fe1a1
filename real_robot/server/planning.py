"""Sessions and the one thread that plans for them, several rows at a time. No sockets."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from ...checks import check_plan
from ...rows import join_rows, take_rows
from ...spec import Executed, FloatArray, HotstartError, Planned, Policy, State
from .requests import RefusedError, Request, split_frames

LOGGER = logging.getLogger("hotstart.serve")
QUIET_S = 1.0
"""Between two failures that are written down [s]."""
WINDOW = 50
"""Newest plans by which it is judged how long one takes at the least."""


Answer = dict[str, Any] | RefusedError
"""What a client is told; an error is a value here, as nobody may wait for it any more."""


class Session:
    """What a policy remembers of one client; only the planning thread changes that."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.under_way: Future[Answer] | None = None
        """The answer to the newest job; a session has one job at a time."""
        self.begin(0)

    def begin(self, seed: int) -> None:
        """An episode begins."""
        self.state: State = self.policy.initial_state([seed])
        self.passed = 0
        """Observations since the newest plan that no plan was asked for."""
        self.handed_out = 0
        """Actions of the newest plan."""

    def observe(self, request: Request) -> None:
        """Push what the request observes onto the history; nothing changes where that fails."""
        frames = split_frames(
            request.observation, self.policy.obs_spec, self.policy.horizon.observed
        )
        executed = None
        if request.applied is not None:
            executed = self._note_applied(request.applied, len(frames))
        state = self.state
        for frame in frames:
            state = self.policy.observe(state, frame, executed)
        self.state = state
        if request.kind == "observe":
            self.passed += len(frames)

    def _note_applied(self, applied: FloatArray, frames: int) -> Executed:
        """What was executed since the observation before, for one control period."""
        width = self.policy.action_spec.width
        if applied.shape != (width,) or frames > 1:
            raise RefusedError(
                "refused",
                f"applied has shape {applied.shape}, for {frames} observations; ({width},) and "
                "one are wanted",
            )
        return Executed(applied[None], np.full(1, 1.0 / (self.policy.rate_hz or 1.0)))

    def count_executed(self, request: Request) -> int:
        """Steps of the newest plan that lie behind: as told, as observed, or all of them."""
        steps = self.handed_out
        if request.executed is not None:
            steps = request.executed
        elif self.passed:
            steps = self.passed + 1
        return min(steps, self.policy.horizon.planned)

    def adopt(self, planned: Planned) -> None:
        """Continue from a plan (one row)."""
        self.state = self.policy.adopt(self.state, planned)
        self.passed, self.handed_out = 0, planned.actions.shape[1]


@dataclass
class Job:
    """A request on its way through the planning thread."""

    session: Session
    request: Request
    until_s: float
    """The answer must be there by then, by `time.monotonic`."""
    fresh_until_s: float
    """The observation is too old after that."""
    answer: Future[Answer] = field(default_factory=Future)


class Planning:
    """A thread that serves jobs, at most `batch` rows in one call of the policy.

    There is never more than one job of a session at a time.
    """

    def __init__(self, policy: Policy, batch: int = 16) -> None:
        self.policy, self.batch = policy, batch
        self.seconds: deque[float] = deque(maxlen=WINDOW)
        self.planned = 0
        """Plans that were handed out."""
        self._quiet_until_s = 0.0
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="planning", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Put a job behind the others."""
        self._jobs.put(job)

    def close(self, wait_s: float) -> None:
        """End the thread after the jobs that it has; waits `wait_s` [s] at most."""
        self._jobs.put(None)
        self._thread.join(wait_s)

    def warm_up(self) -> None:
        """Make one plan, from zeros, so that the first client does not wait for cold caches."""
        session, frame = Session(self.policy), {}
        for name, key in self.policy.obs_spec.keys.items():
            frame[name] = np.zeros((1, *key.shape), key.dtype)
        nothing = Executed.nothing(1, self.policy.action_spec.width)
        try:
            state = self.policy.observe(session.state, frame, nothing)
            self.policy.plan(state, np.zeros(1, np.int64), np.zeros(1, np.int64))
        except HotstartError as error:
            LOGGER.warning("no plan could be made from zeros: %s", error)

    def _work(self) -> None:
        """Serve jobs until there is None."""
        while True:
            jobs = [self._jobs.get()]
            try:
                while len(jobs) < self.batch:
                    jobs.append(self._jobs.get_nowait())
            except Empty:
                pass
            self._serve([job for job in jobs if job is not None])
            if None in jobs:
                return

    def _serve(self, jobs: Sequence[Job]) -> None:
        """Do what the jobs ask; those that want a plan are planned for together."""
        wanting = []
        for job in jobs:
            try:
                if self._begin(job):
                    wanting.append(job)
                else:
                    job.answer.set_result({})
            except RefusedError as error:
                job.answer.set_result(error)
            except Exception as error:  # whatever a message led to, the next one is served
                job.answer.set_result(self._explain(error))
        if wanting:
            self._plan(wanting)

    def _begin(self, job: Job) -> bool:
        """Check the times and observe; whether a plan is wanted. Raises RefusedError."""
        if job.request.kind == "reset":
            job.session.begin(job.request.seed)
            return False
        now_s = time.monotonic()
        if now_s > job.fresh_until_s:
            raise RefusedError("stale", "the observation is too old to plan from: send a newer one")
        job.session.observe(job.request)
        if job.request.kind == "observe":
            return False
        if now_s + min(self.seconds, default=0.0) > job.until_s:
            if self.seconds:
                self.seconds.popleft()  # old times must not refuse for ever
            raise RefusedError("deadline", "no plan can be made within the deadline: allow more")
        return True

    def _plan(self, jobs: Sequence[Job]) -> None:
        """Plan for jobs in one call; where that fails, for each by itself."""
        began_s = time.monotonic()
        try:
            planned = self._call(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_result(self._explain(error))
                return
            for job in jobs:
                self._plan([job])
            return
        now_s = time.monotonic()
        self.seconds.append(now_s - began_s)
        for index, job in enumerate(jobs):
            if now_s > job.until_s:
                late = RefusedError("deadline", "the plan was not ready within the deadline")
                job.answer.set_result(late)
                continue
            part = take_rows(planned, [index])
            job.session.adopt(replace(part, rows=np.zeros(1, np.int64)))
            self.planned += 1
            job.answer.set_result(
                {
                    "actions": part.actions[0],
                    "nfe": int(part.nfe[0]),
                    "server_timing": {"infer_ms": 1e3 * (now_s - began_s), "rows": len(jobs)},
                }
            )

    def _call(self, jobs: Sequence[Job]) -> Planned:
        """The plans of the jobs' rows, in their order."""
        rows = np.arange(len(jobs))
        states = [job.session.state for job in jobs]
        state = join_rows(states, [rows[index : index + 1] for index in rows])
        executed = np.array([job.session.count_executed(job.request) for job in jobs])
        longest = self.policy.horizon.planned
        frozen = np.array([min(job.request.frozen, longest) for job in jobs])
        planned = self.policy.plan(state, rows, executed, frozen)
        checked = check_plan(planned, rows, self.policy.action_spec.width, longest)
        if not np.array_equal(checked.rows, rows):
            raise HotstartError("the policy did not plan for the rows that were asked for")
        return checked

    def _explain(self, error: Exception) -> RefusedError:
        """What a client is told of an error: our own words, and nothing of others' insides."""
        if isinstance(error, HotstartError):
            return RefusedError("refused", str(error))
        now_s = time.monotonic()
        if now_s > self._quiet_until_s:  # a client that makes it fail shall not fill the disk
            self._quiet_until_s = now_s + QUIET_S
            LOGGER.error("the policy failed", exc_info=error)
        return RefusedError("failed", f"the policy failed ({type(error).__name__}); see the server")
