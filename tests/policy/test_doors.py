"""Python and the command line run the same policy, every way refuses checkpoints it cannot use,
and training goes on.
"""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hotstart import load
from hotstart.configs.compose import compose_config
from hotstart.policy import checkpoint
from hotstart.policy.diffusion.objective import Regimes
from hotstart.policy.diffusion.solvers import PLMS, DPMSolverPP
from hotstart.policy.diffusion_policy import DiffusionPolicy, build_sampler
from hotstart.policy.fitting.anchors import fit_anchors
from hotstart.policy.samplers.anchored import Anchored
from hotstart.policy.samplers.base import Capabilities
from hotstart.policy.samplers.best_of import BestOf
from hotstart.policy.samplers.bidirectional import BidirectionalDecoding
from hotstart.policy.samplers.classifier_free import ClassifierFreeGuidance
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.real_time_chunking import RealTimeChunking
from hotstart.policy.samplers.stepwise import StepwiseSearch
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.policy.training.settings import TrainingSettings
from hotstart.policy.training.trainer import Trainer
from hotstart.spec import CheckpointError, ConfigError

ALL = ("staircase", "constant", "prefix")
DOORS = {
    "rti": WarmStart,
    "sdp": Streaming,
    "rtc": RealTimeChunking,
    "bid": BidirectionalDecoding,
    "best_of": BestOf,
    "search": StepwiseSearch,
    "anchored": Anchored,
    "ddim": Fresh,
    "dpmpp": lambda: Fresh(solver=DPMSolverPP()),
    "plms": lambda: Fresh(solver=PLMS()),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory, tiny_model, tiny_dataset):
    """Where a checkpoint lies that knows every regime, has anchors and values, and was calibrated
    to begin at 0.45.
    """
    model = tiny_model()
    fit_anchors(model, tiny_dataset, count=3, steps=5)
    model.add_values({"first": 1, "steps": 8, "hidden": 8})
    model.regimes, model.measured_start = ALL, 0.45
    folder = tmp_path_factory.mktemp("known") / "last"
    checkpoint.save(folder, model, {"step": 1})
    return folder


def acted(policy: Any, watched) -> np.ndarray:
    """Actions (R, Ta, A) of a first plan and of the one that goes on from it."""
    state = watched(policy, [3, 4])
    rows, executed = np.arange(2), np.full(2, policy.horizon.executed)
    first = policy.plan(state, rows, executed)
    second = policy.plan(policy.adopt(state, first), rows, executed, np.array([0, 2]))
    return np.concatenate((first.actions, second.actions), 1)


@pytest.mark.parametrize("name", DOORS)
def test_python_and_the_command_line_do_the_same(name, known, watched):
    """A model in hand, a path with a way, and `inference=NAME` as `evaluate` composes it."""
    node = compose_config("evaluate", ["somewhere", f"inference={name}"])["inference"]
    model, _ = checkpoint.load(known)
    by_words = DiffusionPolicy(model, build_sampler(node))
    by_hand = (
        DiffusionPolicy(model, DOORS[name]()),
        load(known, DOORS[name]()).policy,
        load(known, node).policy,
    )
    expected = acted(by_words, watched)
    for policy in by_hand:
        np.testing.assert_array_equal(acted(policy, watched), expected)


def test_what_a_warm_start_leaves_open_the_checkpoint_settles(known, watched):
    policy = load(known, WarmStart()).policy
    assert isinstance(policy.sampler, WarmStart)
    assert (policy.sampler.ramp, policy.sampler.min_start) == (True, 0.45)
    by_hand = acted(load(known, WarmStart(ramp=True, min_start=0.45)).policy, watched)
    np.testing.assert_array_equal(acted(policy, watched), by_hand)
    for other in (WarmStart(ramp=False), WarmStart(min_start=0.2), WarmStart(start=0.2)):
        assert not np.array_equal(acted(load(known, other).policy, watched), by_hand)


def test_a_way_that_two_policies_share_serves_each_as_if_alone(tiny_model, watched):
    """The first one settles what is left open for itself alone."""
    models = [tiny_model(), tiny_model()]
    models[0].regimes, models[0].measured_start = ALL, 0.45
    models[1].regimes = ("constant",)
    shared = WarmStart()
    before = dict(vars(shared))
    policies = [DiffusionPolicy(model, shared) for model in models]
    samplers = [policy.sampler for policy in policies]
    assert [
        (sampler.ramp, sampler.min_start) for sampler in samplers if isinstance(sampler, WarmStart)
    ] == [(True, 0.45), (False, 0.3)]
    assert vars(shared) == before
    for model, policy in zip(models, policies, strict=True):
        np.testing.assert_array_equal(
            acted(policy, watched), acted(DiffusionPolicy(model, WarmStart()), watched)
        )


def test_a_model_says_itself_what_it_was_trained_and_measured_for(
    tmp_path, tiny_dataset, tiny_config
):
    """Trained in Python, in hand, and saved without a word about it."""
    settings = TrainingSettings(
        steps=1, batch=4, warmup=1, threads=1, regimes=Regimes(0.5, 0.5, 0.0)
    )
    model = Trainer(tiny_dataset, tiny_config(), settings, tmp_path / "run").run(progress=False)
    assert model.capabilities.regimes == ("staircase", "constant")
    model.measured_start = 0.35
    checkpoint.save(tmp_path / "c", model, {})
    assert checkpoint.load(tmp_path / "c")[0].capabilities == model.capabilities


CANNOT_BE = r"warm starts begin at .*calibrate the checkpoint again"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"start": 0.0}, CANNOT_BE),
        ({"start": 1.5}, CANNOT_BE),
        ({"start": "0.3"}, CANNOT_BE),
        ({}, CANNOT_BE),
        (0.3, r"warm_start is 0\.3; it must be keys with values"),
    ],
)
def test_a_measured_start_that_cannot_be_is_refused(written, message, folder):
    checkpoint.write_meta(folder, {**checkpoint.read_meta(folder), "warm_start": written})
    with pytest.raises(CheckpointError, match=message):
        load(folder, WarmStart())


# --- checkpoints that cannot do it

STAIRS = ("staircase",)
COLD = [
    Fresh(),
    Fresh(3, DPMSolverPP()),
    WarmStart(),
    RealTimeChunking(),
    RealTimeChunking(mode="identity"),
    RealTimeChunking(mode="trained"),
    BidirectionalDecoding(),
    BestOf(),
    StepwiseSearch(),
    ClassifierFreeGuidance(weight=1.0),
    Streaming(),
    Streaming(primer="constant"),
]


@pytest.mark.parametrize(
    "sampler", COLD, ids=lambda sampler: f"{type(sampler).__name__}-{getattr(sampler, 'mode', '')}"
)
def test_a_checkpoint_of_staircases_alone_refuses_what_begins_with_one_level(sampler, tiny_model):
    model = tiny_model()
    model.regimes = STAIRS
    wanted = (
        "not trained for .constant; it knows staircase.: "
        "take inference=sdp inference.primer=zero, or train with"
    )
    with pytest.raises(ConfigError, match=wanted):
        DiffusionPolicy(model, sampler)


def test_what_the_message_offers_is_possible(tiny_model, watched):
    """The levels that a policy of staircases alone meets, from the first plan on, are a
    staircase's.
    """
    model = tiny_model()
    model.regimes = STAIRS
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    acted(DiffusionPolicy(model, Streaming(primer="zero")), watched)
    assert len(seen) == 8
    for level in seen:
        assert bool(
            (level[:, 1:5].amax(1) < level[:, 5:].amin(1)).all()
        )  # the second block is noisier than the first


def test_a_checkpoint_without_prefixes_refuses_them_and_offers_what_it_can_do(tiny_model):
    model = tiny_model()
    model.regimes = ("constant",)
    for sampler in (RealTimeChunking(mode="trained"), Streaming(), WarmStart(ramp=True)):
        with pytest.raises(
            ConfigError,
            match=r"it knows constant.: take inference=ddim or a flat inference=rti, or train",
        ):
            DiffusionPolicy(model, sampler)
    prefixed = Capabilities(("prefix",), model.config.horizon)
    with pytest.raises(
        ConfigError, match=r"it knows prefix.: train with training.regimes.constant above 0"
    ):
        Fresh().adapt_to(prefixed, model.config.horizon)


@pytest.mark.parametrize("executed", [0, -1])
def test_no_step_to_execute_is_refused_and_not_taken_for_a_default(executed, tiny_model):
    with pytest.raises(
        ConfigError, match=rf"horizon\.executed is {executed}; it must be .* at least 1"
    ):
        DiffusionPolicy(tiny_model(), executed=executed)


# --- models under training


def test_a_policy_round_a_model_under_training_leaves_it_alone(
    tmp_path, tiny_dataset, tiny_config, watched
):
    """Two trainings, one looked at after every step: the same weights, to the bit."""
    settings = TrainingSettings(steps=3, batch=8, warmup=1, threads=1, save_every=100)
    watched_one, alone = (
        Trainer(tiny_dataset, tiny_config(), settings, tmp_path / name) for name in "ab"
    )
    for _ in range(3):
        for trainer in (watched_one, alone):
            trainer.advance()
        snapshot = copy.deepcopy(watched_one.model.state_dict())
        policy = DiffusionPolicy(watched_one.model)
        first = acted(policy, watched)
        assert np.isfinite(first).all()
        assert all(weight.requires_grad for weight in watched_one.model.network.parameters())
        assert watched_one.model.network.training
        assert all(
            torch.equal(held, snapshot[name]) for name, held in policy.model.state_dict().items()
        )
    watched_one.advance()
    alone.advance()
    np.testing.assert_array_equal(
        acted(policy, watched), first
    )  # the policy holds the weights it was given
    for one, other in zip(watched_one.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_finished_model_is_not_copied(tiny_model):
    model = tiny_model()
    assert DiffusionPolicy(model).model is model
    again = replace(model.config, anchors=2)
    assert DiffusionPolicy(type(model)(again)).model.anchors is not None
