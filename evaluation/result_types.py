"""What a result holds, for type checkers: the keys of the JSON that `hotstart evaluate` writes."""

from typing import Any, NotRequired, TypedDict


class SuccessRate(TypedDict):
    """A share of episodes with Wilson's 95 % interval; None where success is not reported."""

    rate: float | None
    low: float | None
    high: float | None


class TaskSuccess(SuccessRate):
    """The success of one task of several."""

    episodes: int


class MeanScore(TypedDict):
    """The mean of the task's own score with a bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


class Evaluations(TypedDict):
    """Denoiser evaluations of a first plan, of a later one, and per action of the steady state."""

    cold: float | None
    warm: float | None
    per_action: float | None


class CallTimes(TypedDict):
    """Times of planning calls [ms], see `measures.measure_calls`."""

    p50: float | None
    p95: float | None
    per_second_of_motion: float | None
    p50_low: float | None
    p50_high: float | None
    rows: float | None
    calls: float | None


class Smoothness(TypedDict):
    """How smooth the commands were, see `measures.smoothness`."""

    jerk_rms: float | None
    max_step: float | None


class SolvedAtReset(TypedDict):
    """Episodes that were solved before the policy acted, and the success of the others."""

    episodes: int
    success_of_others: SuccessRate


class Episode(TypedDict):
    """One episode: its length in steps is in control periods."""

    seed: int
    success: bool | None
    score: float
    steps: int
    solved_at_reset: NotRequired[bool]
    task: NotRequired[str]


class EvaluationResult(TypedDict):
    """A result of `hotstart.evaluate`, or one that `hotstart.read_result` read.

    Results of earlier versions may lack the keys after `versions`. Only evaluations of several
    instructions have `tasks`, and only those of a fine-tuning `ledger` and
    `identity`.
    """

    task: str
    checkpoint: str
    inference: str
    episodes: int
    seed: int
    success: SuccessRate
    score: MeanScore
    nfe: Evaluations
    inference_ms: CallTimes
    latency_s: float
    late_actions: float | None
    starved_ticks: float | None
    reaction_s: float | None
    smoothness: Smoothness
    per_episode: list[Episode]
    versions: dict[str, Any]
    format: int
    executed: float | None
    rate_hz: float
    solved_at_reset: SolvedAtReset
    planner: str | None
    jerk_per_episode: list[float | None]
    wall_seconds: float | None
    machine: dict[str, Any] | None
    date: str
    tasks: NotRequired[dict[str, TaskSuccess]]
    env: str
    task_options: dict[str, Any]
    checkpoint_step: int | None
    weights_hash: str | None
    data_rate_hz: float | None
    precision: str | None
    runtime: NotRequired[str | None]
    sampler_settings: dict[str, Any]
    ledger: NotRequired[dict[str, Any]]
    identity: NotRequired[str]
