"""Asking a policy for plans: at once, after a virtual latency, or in a thread beside the loop.

Knows only `spec` and `seeds` (numpy only); the loop that asks is `control.run`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np

from .checks import check_plan
from .seeds import Purpose, counter_generator
from .spec import Ask, ConfigError, FloatArray, HotstartError, PlanError, Planned, Policy

Latency = Callable[[int, int], float]
"""(row, number of the row's plan, 0 being the first one) -> seconds that the plan takes."""
WINDOW = 50
"""Newest plans that a threaded planner judges its latency by."""


class _Asking:
    """What all planners share: a policy whose calls are timed."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.seconds: list[tuple[int, float]] = []
        """(rows, real seconds) of every call."""

    def _plan(self, state: Any, ask: Ask) -> Planned:
        """The policy's answer; raises PlanError where it is none for exactly the rows that were asked for."""
        began = time.perf_counter()
        planned = self.policy.plan(state, ask.rows, ask.executed, ask.committed)
        self.seconds.append((len(ask.rows), time.perf_counter() - began))
        checked = check_plan(planned, ask.rows)
        if len(checked.rows) < len(ask.rows):
            raise PlanError(f"{len(ask.rows)} rows were asked for; the policy planned for {len(checked.rows)}")
        return checked


class ImmediatePlanner(_Asking):
    """Answers within the call, and by the clock of the loop in no time at all; counts the real seconds it took."""

    expected_s = 0.0

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._answers: list[Planned] = []

    def reset(self) -> None:
        """Forget answers that nobody has taken."""
        self._answers = []

    def submit(self, state: Any, ask: Ask) -> None:
        """Plan at once."""
        self._answers.append(self._plan(state, ask))

    def poll(self, now_s: FloatArray) -> Sequence[Planned]:
        """What `submit` worked out."""
        answers, self._answers = self._answers, []
        return answers

    def due_s(self, row: int) -> float:
        """Nothing is ever under way."""
        return np.inf


class DelayedPlanner(_Asking):
    """Answers are there a given time after the question, by each row's own clock: the policy is charged for its time.

    The real seconds that a call takes do not matter, so a result is the same on every machine.
    """

    def __init__(self, policy: Policy, latency: Latency, expected_s: float) -> None:
        """`expected_s` is how long an answer is said to take when it is asked for; what it does take, `latency` says."""
        if not 0 <= expected_s < np.inf:
            raise ConfigError(f"expected_s is {expected_s}; a finite number of seconds, 0 or more, is wanted")
        super().__init__(policy)
        self._latency, self.expected_s = latency, float(expected_s)
        self._plans: dict[int, int] = {}
        self._due: dict[int, tuple[float, Planned]] = {}

    def reset(self) -> None:
        """Forget what is under way, and how many plans each row had."""
        self._plans, self._due = {}, {}

    def submit(self, state: Any, ask: Ask) -> None:
        """Plan now, and keep each row's answer until it is due."""
        planned = self._plan(state, ask)
        for index, (row, now_s) in enumerate(zip(ask.rows.tolist(), ask.now_s.tolist(), strict=True)):
            number = self._plans.get(row, 0)
            self._plans[row] = number + 1
            own = slice(index, index + 1)
            alone = replace(planned, rows=planned.rows[own], actions=planned.actions[own], nfe=planned.nfe[own])
            self._due[row] = (now_s + self._latency(row, number), alone)

    def poll(self, now_s: FloatArray) -> Sequence[Planned]:
        """The answers that are there by each row's own time."""
        ready = [row for row, (due_s, _) in self._due.items() if due_s <= now_s[row] + 1e-9]
        return [self._due.pop(row)[1] for row in sorted(ready)]

    def due_s(self, row: int) -> float:
        """When the row's answer will be there; infinity where none is under way."""
        return self._due[row][0] if row in self._due else np.inf


class ThreadedPlanner(_Asking):
    """Plans in a thread of its own, for a loop that must not wait; answers one question after the other.

    `expected_s` is the 95th percentile of the newest plans without the first one, which warms caches up. An error of the
    policy is raised by the next `poll`. The thread is a daemon: a policy that never answers keeps no process from ending.
    """

    def __init__(self, policy: Policy, expected_s: float = 0.0) -> None:
        """`expected_s` counts until the second plan was made."""
        super().__init__(policy)
        self._first_guess_s = float(expected_s)
        self._under_way: deque[Future[Planned]] = deque()
        self._lock = threading.Lock()
        self._questions: SimpleQueue[tuple[Future[Planned], Any, Ask] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._answer, name="planner", daemon=True)
        self._thread.start()
        self._closed = False

    def _answer(self) -> None:
        """The thread's work: one question after the other, until there are no more."""
        while (asked := self._questions.get()) is not None:
            question, state, ask = asked
            if question.set_running_or_notify_cancel():
                try:
                    question.set_result(self._plan(state, ask))
                except BaseException as error:  # whatever it is, `poll` raises it where somebody looks
                    question.set_exception(error)

    @property
    def expected_s(self) -> float:
        """How long an answer is expected to take."""
        newest = [seconds for _, seconds in self.seconds[1:][-WINDOW:]]
        return float(np.quantile(newest, 0.95)) if newest else self._first_guess_s

    def reset(self) -> None:
        """Forget what is under way: a plan that is being made is finished, but nobody gets it."""
        with self._lock:
            for question in self._under_way:
                question.cancel()
            self._under_way.clear()

    def submit(self, state: Any, ask: Ask) -> None:
        """Put the question to the thread."""
        if self._closed:
            raise ConfigError("the planner was closed; make a new one")
        question: Future[Planned] = Future()
        with self._lock:
            self._under_way.append(question)
        self._questions.put((question, state, ask))

    def poll(self, now_s: FloatArray) -> Sequence[Planned]:
        """The answers that are there, oldest first."""
        answers = []
        with self._lock:
            while self._under_way and self._under_way[0].done():
                answers.append(self._under_way.popleft().result())
        return answers

    def due_s(self, row: int) -> float:
        """Nobody knows."""
        return np.inf

    def close(self, wait_s: float = 5.0) -> None:
        """Drop what was not begun and end the thread; a plan under way is waited for as long as said, and then left alone.

        May be called twice.
        """
        if not self._closed:
            self._closed = True
            self.reset()
            self._questions.put(None)
        self._thread.join(wait_s)

    def __enter__(self) -> ThreadedPlanner:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close, however the block ended."""
        self.close()


def constant_latency(seconds: float) -> Latency:
    """The same time for every plan."""
    if not 0 <= seconds < np.inf:
        raise ConfigError(f"the latency is {seconds} s; a finite number, 0 or more, is wanted")
    return lambda row, number: seconds


def drawn_latency(cold_s: Sequence[float], warm_s: Sequence[float], seeds: Sequence[int]) -> Latency:
    """Drawn from measured times: a row's first plan from `cold_s`, its later ones from `warm_s`.

    The draw depends on the row's seed (`seeds`, one per row) and on the number of its plan, on nothing beside it.
    """
    pools = [np.sort(np.asarray(pool, np.float64)) for pool in (cold_s, warm_s)]
    if any(len(pool) == 0 or not np.isfinite(pool).all() or pool[0] < 0 for pool in pools):
        raise HotstartError("a latency profile needs finite times of 0 s or more, cold and warm ones")

    def latency(row: int, number: int) -> float:
        pool = pools[min(number, 1)]
        generator = counter_generator(seeds[row], Purpose.LATENCY, (0, 0, number))
        return float(pool[generator.integers(len(pool))])

    return latency
