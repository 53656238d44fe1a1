"""A policy that acts in a collection: as a demonstrator, or in play for a world model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..checks import check_fit
from ..configs.compose import fill
from ..configs.reader import name_arguments
from ..configs.schema import Collect, PlaySettings
from ..envs.base import TaskEnv
from ..envs.demonstrators.demonstrate import DEMONSTRATORS, KINDS, make_demonstrator
from ..envs.demonstrators.exploring import Explorer, PlayRunner
from ..envs.demonstrators.play import bounds
from ..spec import ConfigError, FloatArray
from ..system.options import read_options

HASH_DIGITS = 12
"""So many digits of the weights' hash tell checkpoints apart in a store's source."""


class PolicyDemonstrator:
    """A trained policy as a demonstrator; it need not succeed, and `noise` disturbs it."""

    def __init__(
        self, checkpoint: str, inference: Mapping[str, Any] | None, noise: float = 0.0
    ) -> None:
        """Load a checkpoint or a run with the configuration of a sampler, see `agent.load`.

        `noise` is a share of the actions' range, standard deviation.
        """
        from ..policy.agent import load  # torch is imported only where a policy acts

        self.agent, self.noise = load(checkpoint, inference), noise
        self.intended: FloatArray = np.zeros(0)

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the policy's noise and the disturbance."""
        self._rng = rng
        self.agent.reset(int(rng.integers(2**31)))

    def act(self, env: TaskEnv) -> FloatArray:
        """The action (A,) to execute now."""
        self.intended = self.agent.act(env.observe())
        low, high, discrete = bounds(env)
        push = self.noise * (high - low) / 2 * self._rng.standard_normal(len(low))
        return np.clip(self.intended + np.where(discrete, 0.0, push), low, high)

    def follow(self, executed: FloatArray) -> None:
        """Tell the policy what was executed (A,), which its filter may follow."""
        self.agent.note_executed(executed)


def player(
    env: str,
    options: dict[str, Any],
    checkpoint: str,
    inference: Mapping[str, Any] | None,
    settings: PlaySettings,
) -> PlayRunner:
    """The environment and the policy that plays in it."""
    policy = PolicyDemonstrator(checkpoint, inference)
    scripted = None
    if env in DEMONSTRATORS:
        scripted = make_demonstrator(env, 0.0)
    explorer = Explorer(
        policy,
        scripted,
        undisturbed=settings.undisturbed,
        scripted_share=settings.scripted,
        noise=settings.noise,
        hold_chance=settings.hold_chance,
        hold_ticks=settings.hold_ticks,
    )
    made = PlayRunner(env, options, explorer, settings.after_success)
    check_fit(made.env, policy.agent.policy)
    return made


def settle_play(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with what play implies; as it is where no play is recorded.

    All episodes are kept, and the task is the checkpoint's own where none is given. Raises
    ConfigError where play is not around a policy, and for options that contradict it.
    """
    if not config["play"]["on"]:
        return config
    if config["demonstrator"] in KINDS:
        raise ConfigError(
            f"demonstrator is {config['demonstrator']}; play.on=true records play around a policy: "
            "give demonstrator=CHECKPOINT, a checkpoint or a run"
        )
    given = {each.name for each in name_arguments(config["arguments"], read_options(Collect))}
    if "keep" in given and config["keep"] != "all":
        raise ConfigError("keep is success; play holds failures too: leave keep out")
    if config["noise"]:
        raise ConfigError(
            f"noise is {config['noise']}; of play each episode draws its own: "
            "leave noise out, and say the largest as play.noise"
        )
    settled = {**config, "keep": "all"}
    if "task" not in given:
        settled["task"] = _read_own_task(config, given)
        if "out" not in given:
            settled["out"] = f"data/{settled['task']['name']}_play.zarr"
    return settled


def _read_own_task(config: Mapping[str, Any], given: set[str]) -> Mapping[str, Any]:
    """The task of the checkpoint that acts; ConfigError for options of a task that is not given."""
    from ..policy.checkpoint import find, read_meta
    from .evaluate import choose_task

    for name in given:
        if name.startswith("task."):
            raise ConfigError(f"{name} needs its task beside it, as task=metaworld {name}=...")
    checkpoint = config["demonstrator"]
    return choose_task({"task": None, "checkpoint": checkpoint}, read_meta(find(checkpoint)))


def name_play(config: Mapping[str, Any]) -> str:
    """What decides play: the checkpoint, the hash of its weights, and how it is disturbed."""
    from ..policy.checkpoint import find, read_meta
    from .evaluate import find_weights_hash

    checkpoint = config["demonstrator"]
    weights = find_weights_hash(read_meta(find(checkpoint)))
    settings = asdict(fill(PlaySettings, config["play"]))
    del settings["on"]
    disturbed = json.dumps(settings, sort_keys=True)
    return f"play around {checkpoint} (weights {str(weights)[:HASH_DIGITS]}), {disturbed},"
