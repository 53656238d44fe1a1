"""All randomness comes from a seed, a purpose and a step, mixed by numpy's SeedSequence.

Streams for different purposes, and of different seeds, share no numbers. All 64 bits count.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .spec import ConfigError, IntArray

LARGEST = 2**64 - 1
"""The largest seed, and the largest step."""


class Purpose(IntEnum):
    """What random numbers are drawn for.

    A number stands for its purpose in every stream: never give it to another.
    """

    INITIALISATION = 1  # a network's first weights
    SPLIT = 2  # which episodes are held out
    SHUFFLE = 3  # the order of training windows, one step per epoch
    LEVELS = 4  # noise levels of a training step
    NOISE = 5  # noise on the actions of a training step
    LAYERS = 6  # what layers draw in a training step: crops, dropout of the instruction
    OBSERVATIONS = 7  # noise on the observations of a training step
    PLANS = 8  # a policy's noise in a rollout
    DEMONSTRATOR = 9  # what a demonstrator draws in an episode
    LATENCY = 10  # how long a plan takes in simulation
    ANCHORS = 11  # k-means, and the training of the head that chooses an anchor
    CALIBRATION = 12  # the moments of the data that a warm start is measured at
    FINETUNING_STARTS = 13  # which episodes a rollout of fine-tuning begins
    FINETUNING = 14  # a critic's first weights, and the order of denoising steps in an update
    WORLD_MODEL = 15  # first weights, batches and noise of a world model's training
    DREAMS = 16  # which recorded steps imagined episodes begin at, and with which member
    SCENE = 17  # where arm, object and goal of an arm's scene begin
    FAULTS = 18  # which messages of a simulated device are lost, and how late they are
    MIXTURE = 19  # from which data set of several each window of a training step is, and which


def seed_sequence(seed: int, purpose: Purpose, step: int = 0) -> np.random.SeedSequence:
    """The entropy of one stream; raises ConfigError unless seed and step lie in [0, 2^64)."""
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value <= LARGEST:
            raise ConfigError(
                f"the {name} is {value}; it must be a whole number from 0 to {LARGEST}"
            )
    # Two words each: SeedSequence would take [2^32 + 3] and [3, 1] for the same entropy.
    words = [*_two_words(seed), int(purpose), *_two_words(step)]
    return np.random.SeedSequence(words)


def numpy_generator(seed: int, purpose: Purpose, step: int = 0) -> np.random.Generator:
    """A numpy generator at the beginning of its stream."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, purpose, step)))


def torch_seed(seed: int, purpose: Purpose, step: int = 0) -> int:
    """What to give to torch's `manual_seed`.

    Torch's generator on a CPU reads the low 32 bits only, so all bits are mixed into them.
    """
    return int(seed_sequence(seed, purpose, step).generate_state(1, np.uint32)[0])


def counter_generator(
    seed: int, purpose: Purpose, counter: tuple[int, int, int]
) -> np.random.Generator:
    """A Philox generator at a place of its own in the stream: cheap for many short draws.

    Philox counts up in its lowest word; `counter` fills the higher ones, so no two draws overlap.
    """
    words = np.array([0, *counter], np.uint64)
    return np.random.Generator(np.random.Philox(key=_philox_key(seed, purpose), counter=words))


def draw_plan_noise(
    seeds: IntArray, plans: IntArray, branches: IntArray, draw: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Standard normal noise (R, *shape) for R rows: draw number `draw` of a plan.

    A row's numbers follow from its seed, its number of plans and its branch, (R,) each, whatever
    the rows beside it.
    """
    rows = []
    for seed, plan, branch in zip(seeds, plans, branches, strict=True):
        counter = (int(branch), draw, int(plan))
        generator = counter_generator(int(seed), Purpose.PLANS, counter)
        rows.append(generator.standard_normal(shape, np.float32))
    return np.stack(rows)


@lru_cache(maxsize=4096)
def _philox_key(seed: int, purpose: Purpose) -> NDArray[np.uint64]:
    """A key of 128 bits, (2,)."""
    return seed_sequence(seed, purpose).generate_state(2, np.uint64).astype(np.uint64)


def _two_words(value: int) -> tuple[int, int]:
    """The low and the high 32 bits."""
    return int(value) & 0xFFFFFFFF, int(value) >> 32
