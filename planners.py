"""Asking a policy for plans: at once, after a virtual latency, or in a thread beside the loop."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np

from .checks import check_plan
from .rows import take_rows
from .seeds import Purpose, counter_generator
from .spec import (
    ConfigError,
    FloatArray,
    HotstartError,
    PlanError,
    Planned,
    PlanQuery,
    Policy,
    State,
)

Latency = Callable[[int, int], float]
"""(row, number of the row's plan, 0 being the first one) -> seconds that the plan takes."""
WINDOW = 50
"""Newest plans that a threaded planner judges its latency by."""
EXIT_S = 10.0
"""How long the program's end waits for plans that are being made in threads."""


class _Asking:
    """What all planners share: a policy whose calls are timed."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.seconds: list[tuple[int, float]] = []
        """(rows, real seconds) of every call."""

    def _plan(self, state: State, query: PlanQuery) -> Planned:
        """The policy's answer; raises PlanError unless it holds exactly the query's rows."""
        began = time.perf_counter()
        planned = self.policy.plan(state, query.rows, query.executed, query.frozen)
        self.seconds.append((len(query.rows), time.perf_counter() - began))
        checked = check_plan(planned, query.rows)
        if len(checked.rows) < len(query.rows):
            raise PlanError(
                f"{len(query.rows)} rows were asked for; the policy planned for {len(checked.rows)}"
            )
        return checked


class ImmediatePlanner(_Asking):
    """Answers within the call: by the loop's clock in no time at all."""

    expected_s = 0.0

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._answers: list[Planned] = []

    def reset(self) -> None:
        """Forget answers that nobody has taken."""
        self._answers = []

    def submit(self, state: State, query: PlanQuery) -> None:
        """Plan at once."""
        self._answers.append(self._plan(state, query))

    def poll(self, now_s: FloatArray) -> Sequence[Planned]:
        """What `submit` worked out."""
        answers, self._answers = self._answers, []
        return answers

    def due_s(self, row: int) -> float:
        """Nothing is ever under way."""
        return np.inf


class DelayedPlanner(_Asking):
    """Answers come a given time after the query, by each row's own clock.

    The real seconds that a call takes do not matter, so a result is the same on every machine.
    """

    def __init__(self, policy: Policy, latency: Latency, expected_s: float) -> None:
        """`latency` gives the seconds that an answer takes; the loop is told `expected_s`."""
        if not 0 <= expected_s < np.inf:
            raise ConfigError(
                f"expected_s is {expected_s}; a finite number of seconds, 0 or more, is wanted"
            )
        super().__init__(policy)
        self._latency, self.expected_s = latency, float(expected_s)
        self._plans: dict[int, int] = {}
        self._due: dict[int, tuple[float, Planned]] = {}

    def reset(self) -> None:
        """Forget what is under way, and how many plans each row had."""
        self._plans, self._due = {}, {}

    def submit(self, state: State, query: PlanQuery) -> None:
        """Plan now, and keep each row's answer until it is due."""
        planned = self._plan(state, query)
        for index, (row, now_s) in enumerate(
            zip(query.rows.tolist(), query.now_s.tolist(), strict=True)
        ):
            number = self._plans.get(row, 0)
            self._plans[row] = number + 1
            self._due[row] = (now_s + self._latency(row, number), take_rows(planned, [index]))

    def poll(self, now_s: FloatArray) -> Sequence[Planned]:
        """The answers that are there by each row's own time."""
        ready = [row for row, (due_s, _) in self._due.items() if due_s <= now_s[row] + 1e-9]
        return [self._due.pop(row)[1] for row in sorted(ready)]

    def due_s(self, row: int) -> float:
        """When the row's answer will be there; infinity where none is under way."""
        if row in self._due:
            return self._due[row][0]
        return np.inf


class Question(NamedTuple):
    """A query on its way through a planning thread, and where the answer goes."""

    answer: Future[Planned]
    state: State
    query: PlanQuery


Questions = SimpleQueue[Question | None]
"""What a planning thread is asked; None ends it."""


class ThreadedPlanner(_Asking):
    """Plans in a thread of its own, for a loop that must not wait; one query after the other.

    An error of the policy is raised by the next `poll`. A planner that nobody closed ends with the
    program, or when nobody holds it any more. The program's end waits EXIT_S at most for a plan
    that is being made: a policy that never answers keeps no process from ending.
    """

    def __init__(self, policy: Policy, expected_s: float = 0.0) -> None:
        """`expected_s` [s] is told to the loop until the second plan was made."""
        super().__init__(policy)
        self._first_guess_s = float(expected_s)
        self._under_way: deque[Future[Planned]] = deque()
        self._lock = threading.Lock()
        self._questions: Questions = SimpleQueue()
        asking = _Asking(policy)  # not this object: the thread would keep it alive
        asking.seconds = self.seconds
        self._thread = threading.Thread(
            target=_answer, args=(asking, self._questions), name="planner", daemon=True
        )
        ending = weakref.finalize(self, _end, self._questions)
        ending.atexit = False  # at the exit `_end_all` does it, and waits
        _watch(self._thread, self._questions)
        self._thread.start()
        self._closed = False

    @property
    def expected_s(self) -> float:
        """The 95th percentile [s] of the newest plans but the first, which warms caches up."""
        newest = [seconds for _, seconds in self.seconds[1:][-WINDOW:]]
        if newest:
            return float(np.quantile(newest, 0.95))
        return self._first_guess_s

    def reset(self) -> None:
        """Forget what is under way: a plan that is being made is finished, but nobody gets it."""
        with self._lock:
            for answer in self._under_way:
                answer.cancel()
            self._under_way.clear()

    def submit(self, state: State, query: PlanQuery) -> None:
        """Put the question to the thread."""
        if self._closed:
            raise ConfigError("the planner was closed; make a new one")
        question = Question(Future(), state, query)
        with self._lock:
            self._under_way.append(question.answer)
        self._questions.put(question)

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
        """Drop what was not begun and end the thread; waits `wait_s` at most for a plan under way.

        May be called twice.
        """
        if not self._closed:
            self._closed = True
            self.reset()
            _end(self._questions)
        self._thread.join(wait_s)

    def __enter__(self) -> ThreadedPlanner:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close, however the block ended."""
        self.close()


_THREADS: dict[threading.Thread, Questions] = {}
"""Planning threads that may still run, with their questions."""


def _answer(asking: _Asking, questions: Questions) -> None:
    """A planning thread's work: one question after the other, until there are no more."""
    while (question := questions.get()) is not None:
        answer = question.answer
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(asking._plan(question.state, question.query))
            except BaseException as error:  # whatever it is, `poll` raises it where somebody looks
                answer.set_exception(error)
        del question, answer  # they are large, and the next question may be long in coming


def _end(questions: Questions) -> None:
    """Let a thread end after the question that it is at; those behind it are dropped."""
    with contextlib.suppress(Empty):
        while True:
            questions.get_nowait()
    questions.put(None)


def _watch(thread: threading.Thread, questions: Questions) -> None:
    """See to it that the program's end finds the thread ended.

    A daemon that comes back from torch into an interpreter that ends aborts the process.
    """
    for old in list(_THREADS):
        if old.ident is not None and not old.is_alive():
            _THREADS.pop(old, None)
    _THREADS[thread] = questions
    atexit.unregister(_end_all)
    atexit.register(_end_all)  # last registered, first run: before torch's own


def _end_all() -> None:
    """End every planning thread and wait for them, EXIT_S all together."""
    until_s = time.monotonic() + EXIT_S
    for questions in _THREADS.values():
        _end(questions)
    for thread in list(_THREADS):
        thread.join(max(0.0, until_s - time.monotonic()))


def constant_latency(seconds: float) -> Latency:
    """The same time for every plan."""
    if not 0 <= seconds < np.inf:
        raise ConfigError(f"the latency is {seconds} s; a finite number, 0 or more, is wanted")
    return lambda row, number: seconds


def drawn_latency(
    cold_s: Sequence[float], warm_s: Sequence[float], seeds: Sequence[int]
) -> Latency:
    """Drawn from measured times: a row's first plan from `cold_s`, its later ones from `warm_s`.

    The draw depends on the row's seed (`seeds`, one per row) and on the number of its plan alone.
    Raises HotstartError for times [s] that are none.
    """
    pools = [np.sort(np.asarray(pool, np.float64)) for pool in (cold_s, warm_s)]
    if any(len(pool) == 0 or not np.isfinite(pool).all() or pool[0] < 0 for pool in pools):
        raise HotstartError(
            "a latency profile needs finite times of 0 s or more, cold and warm ones"
        )

    def latency(row: int, number: int) -> float:
        pool = pools[min(number, 1)]
        generator = counter_generator(seeds[row], Purpose.LATENCY, (0, 0, number))
        return float(pool[generator.integers(len(pool))])

    return latency
