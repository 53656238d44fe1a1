"""Runs that stop and go on: to the bit, and only where data, model and settings are the same."""

import json
import signal
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.policy import checkpoint
from hotstart.policy.diffusion.objective import Regimes
from hotstart.policy.training.metrics import read_metrics
from hotstart.policy.training.trainer import Trainer
from hotstart.spec import (
    ActionSpec,
    CheckpointError,
    ConfigError,
    DataError,
    Horizon,
    ObsKey,
    ObsSpec,
)
from hotstart.system.interrupts import exit_status

from .small import KINDS, SETTINGS, run


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# --- stopping and going on

TRAIN_UNTIL_KILLED = """
import json, os, signal
from pathlib import Path
from hotstart.policy.training.trainer import Trainer
from hotstart.policy.training.settings import TrainingSettings

def on_log(step, numbers):
    if step == 8:  # the last checkpoint is of step 6
        os.kill(os.getpid(), signal.SIGKILL)

settings = TrainingSettings(**json.loads(args[2]))
dataset = make_dataset()
trainer = Trainer(dataset, make_config(args[1], dataset), settings, Path(args[0]))
trainer.run(progress=False, on_log=on_log)
"""
PLAIN = json.dumps({name: value for name, value in vars(SETTINGS).items() if name != "regimes"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_to_the_bit(kind, tmp_path, tiny_dataset, tiny_config, fresh_python):
    config = tiny_config(kind)
    done = fresh_python(TRAIN_UNTIL_KILLED, tmp_path / "killed", kind, PLAIN)
    assert done.returncode == -signal.SIGKILL, done.stderr
    last = tmp_path / "killed" / "checkpoints" / "last"
    assert checkpoint.read_meta(last)["step"] == 6
    assert [r["step"] for r in read_metrics(tmp_path / "killed")] == list(range(1, 9))
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # the kill came in the middle of a line

    killed, whole = (
        Trainer(tiny_dataset, config, SETTINGS, tmp_path / name) for name in ("killed", "whole")
    )
    seen: list[int] = []
    resumed_model = killed.run(progress=False, on_log=lambda step, _: seen.append(step))
    whole_model = whole.run(progress=False)
    assert seen == list(range(7, 15))  # it did go on, not begin anew
    assert equal(resumed_model.state_dict(), whole_model.state_dict())
    assert equal(killed.model.state_dict(), whole.model.state_dict())
    assert equal(killed._tensors(), whole._tensors())  # the optimiser too
    assert not equal(killed.model.state_dict(), resumed_model.state_dict())
    for name in ("last", "best"):
        saved, again = (
            checkpoint.load(tmp_path / folder / "checkpoints" / name)[0]
            for folder in ("killed", "whole")
        )
        assert equal(saved.state_dict(), again.state_dict())

    records, expected = (read_metrics(tmp_path / name) for name in ("killed", "whole"))
    assert [r["step"] for r in records] == list(
        range(1, 15)
    )  # each step once: what came after step 6 was cut off
    for record, other in zip(records, expected, strict=True):
        assert {**record, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_then_stops(number, tmp_path, tiny_dataset, tiny_config):
    before = signal.getsignal(number)

    def on_log(step, numbers):
        if step == 8:  # the last checkpoint is of step 6
            assert signal.getsignal(number) is not before  # or the next line would end pytest
            signal.raise_signal(number)

    said = r"stopped; .*last holds step 8 of 14; the same command goes on from there"
    with pytest.raises(KeyboardInterrupt, match=said) as stopped:
        run(tiny_dataset, tiny_config(), SETTINGS, tmp_path, on_log=on_log)
    assert exit_status(stopped.value) == 128 + number
    assert signal.getsignal(number) is before
    last = tmp_path / "checkpoints" / "last"
    assert checkpoint.read_meta(last)["step"] == 8
    assert checkpoint.load_training_state(last)[1]["step"] == 8
    seen: list[int] = []
    run(tiny_dataset, tiny_config(), SETTINGS, tmp_path, on_log=lambda step, _: seen.append(step))
    assert seen == list(range(9, 15))


def test_a_resumed_run_keeps_its_number_of_threads(
    tmp_path, tiny_dataset, tiny_config, monkeypatch
):
    """Another number of threads sums in another order: the weights would differ in bits."""
    config, settings = tiny_config(dataset=tiny_dataset), replace(SETTINGS, steps=2, threads=0)
    monkeypatch.setattr(
        "hotstart.policy.training.trainer.choose_threads", lambda most: min(most, 2)
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        run(tiny_dataset, config, settings, tmp_path)
        torch.set_num_threads(3)
        trainer = Trainer(tiny_dataset, config, settings, tmp_path)
        assert torch.get_num_threads() == 2
        trainer.run(progress=False)
        assert torch.get_num_threads() == 1
        Trainer(tiny_dataset, config, replace(settings, threads=2), tmp_path).run(progress=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_best_loss_is_remembered_over_a_stop(tmp_path, tiny_dataset, tiny_config):
    """A worse checkpoint must not take the place of the best one."""
    settings = replace(SETTINGS, steps=4, validate_every=1, save_every=1)

    def stop(step, numbers):
        if step == 3:
            raise KeyboardInterrupt

    first = Trainer(tiny_dataset, tiny_config(), settings, tmp_path)
    first.validate = lambda: float(first.step)
    with pytest.raises(KeyboardInterrupt):
        first.run(progress=False, on_log=stop)
    second = Trainer(tiny_dataset, tiny_config(), settings, tmp_path)
    second.validate = lambda: 1.5
    second.run(progress=False)
    meta = checkpoint.read_meta(tmp_path / "checkpoints" / "best")
    assert (meta["step"], meta["validation_loss"]) == (1, 1.0)


def test_it_trains_in_a_thread_too(tmp_path, tiny_dataset, tiny_config):
    settings = replace(SETTINGS, steps=1)
    thread = threading.Thread(target=run, args=(tiny_dataset, tiny_config(), settings, tmp_path))
    thread.start()
    thread.join()
    assert checkpoint.read_meta(tmp_path / "checkpoints" / "last")["step"] == 1


def test_a_finished_run_is_left_as_it_is(tmp_path, tiny_dataset, tiny_config):
    settings = replace(SETTINGS, steps=3)
    first = run(tiny_dataset, tiny_config(), settings, tmp_path)
    stamp = (tmp_path / "checkpoints" / "last" / "model.safetensors").stat().st_mtime_ns
    again = run(
        tiny_dataset, tiny_config(), settings, tmp_path, on_log=lambda *_: pytest.fail("it trained")
    )
    assert equal(first.state_dict(), again.state_dict())
    assert (tmp_path / "checkpoints" / "last" / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("threads", [1, 0])
def test_the_seed_fixes_the_run(threads, tmp_path, tiny_dataset, tiny_config):
    settings = replace(SETTINGS, steps=3, threads=threads)
    torch.rand(3)  # what others draw does not matter
    one = run(tiny_dataset, tiny_config(), settings, tmp_path / "a")
    torch.manual_seed(99)
    two = run(tiny_dataset, tiny_config(), settings, tmp_path / "b")
    other = run(tiny_dataset, tiny_config(), replace(settings, seed=1), tmp_path / "c")
    assert equal(one.state_dict(), two.state_dict())
    assert not equal(one.state_dict(), other.state_dict())


# --- refusing what does not belong together


def test_other_data_are_refused(tmp_path, tiny_dataset, tiny_config):
    run(tiny_dataset, tiny_config(), replace(SETTINGS, steps=1), tmp_path)
    episodes = [tiny_dataset.episode(i) for i in range(8)]
    episodes[3]["state"] = episodes[3]["state"].copy()
    episodes[3]["state"][2, 1] += 1e-3  # one number
    with pytest.raises(
        CheckpointError, match=rf"other data: choose another run name, or delete {tmp_path}"
    ):
        run(Arrays(episodes, fps=10.0), tiny_config(), SETTINGS, tmp_path)


def test_other_settings_are_refused_and_named(tmp_path, tiny_dataset, tiny_config):
    run(tiny_dataset, tiny_config(), replace(SETTINGS, steps=1), tmp_path)
    for changes in (
        {"learning_rate": 1e-3},
        {"batch": 8},
        {"seed": 1},
        {"regimes": Regimes(0, 1, 0)},
        {"warmup": 1},
        {"learned_weighting": True},
    ):
        with pytest.raises(
            CheckpointError,
            match=rf"another training\.{next(iter(changes))}: choose another run name",
        ):
            run(tiny_dataset, tiny_config(), replace(SETTINGS, **{"steps": 1, **changes}), tmp_path)
    free = {
        "log_every": 2,
        "validate_every": 3,
        "save_every": 7,
        "threads": 0,
    }  # these change no weight
    run(tiny_dataset, tiny_config(), replace(SETTINGS, **{"steps": 1, **free}), tmp_path)


def test_more_steps_go_on_with_a_run_that_is_done(tmp_path, tiny_dataset, tiny_config, capsys):
    """Further steps have the rate of the longer training; a stop on the way changes nothing."""
    short, long = replace(SETTINGS, steps=4, save_every=1), replace(SETTINGS, steps=8, save_every=1)
    for name in ("a", "b"):
        run(tiny_dataset, tiny_config(), short, tmp_path / name)
    assert "longer cosine" not in "".join(capsys.readouterr())

    def stop(step, numbers):
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_dataset, tiny_config(), long, tmp_path / "b", on_log=stop)
    for name in ("a", "b"):
        run(tiny_dataset, tiny_config(), long, tmp_path / name)
    said = "".join(capsys.readouterr())
    assert (
        "goes on from step 4 to 8 in place of 4: the learning rate follows the longer cosine"
        in said
    )
    assert f"beginning at {long.rate(4):.2e}" in said
    one, other = (checkpoint.load(tmp_path / name)[0].state_dict() for name in ("a", "b"))
    assert equal(one, other)
    records = read_metrics(tmp_path / "a")
    assert [record["step"] for record in records] == list(range(1, 9))
    rates = [short.rate(step) for step in range(4)] + [long.rate(step) for step in range(4, 8)]
    assert [record["learning_rate"] for record in records] == pytest.approx(rates)
    with pytest.raises(
        CheckpointError,
        match=r"trained with training\.steps=8: give as many or more, or choose another run",
    ):
        run(tiny_dataset, tiny_config(), short, tmp_path / "a")


@pytest.mark.parametrize(
    ("steps", "given", "other"), [(4000, None, None), (400, None, "warmup"), (400, 250, None)]
)
def test_a_run_from_when_the_warm_up_was_always_250_steps_goes_on_where_it_still_is(
    steps, given, other
):
    saved = {**vars(SETTINGS), "regimes": vars(Regimes()), "steps": steps, "warmup": 250}
    assert replace(SETTINGS, steps=steps + 1, warmup=given).find_difference(saved) == other


def test_settings_that_an_older_run_did_not_know_count_as_their_defaults(
    tmp_path, tiny_dataset, tiny_config
):
    run(tiny_dataset, tiny_config(), SETTINGS, tmp_path)
    last = tmp_path / "checkpoints" / "last"
    meta = checkpoint.read_meta(last)
    del meta["training"]["stratified"]
    checkpoint.write_meta(last, meta)
    run(tiny_dataset, tiny_config(), SETTINGS, tmp_path)
    with pytest.raises(CheckpointError, match=r"another training\.stratified"):
        run(tiny_dataset, tiny_config(), replace(SETTINGS, stratified=True), tmp_path)
    spelt_out = replace(
        tiny_config(), denoiser={**tiny_config().denoiser, "kernel": 5}
    )  # the constructor's own
    run(tiny_dataset, spelt_out, SETTINGS, tmp_path)


def test_another_model_is_refused_and_named(tmp_path, tiny_dataset, tiny_config):
    plain = tiny_config()
    run(tiny_dataset, plain, replace(SETTINGS, steps=1), tmp_path)
    others = {
        "denoiser": {"denoiser": {**plain.denoiser, "channels": [8, 16]}},
        "schedule": {
            "schedule": {"_target_": "hotstart.policy.diffusion.schedule.Flow"}
        },  # the weights would fit
        "prediction": {"prediction": "x0"},
        "horizon": {"horizon": replace(plain.horizon, planned=10)},
    }
    for part, change in others.items():
        with pytest.raises(CheckpointError, match=f"another {part}: choose another run name"):
            run(tiny_dataset, tiny_config(**change), replace(SETTINGS, steps=1), tmp_path)


def test_observations_in_another_order_are_another_model(tmp_path, tiny_config):
    rng = np.random.default_rng(0)
    episodes = [
        {name: rng.normal(size=(14, 2)).astype(np.float32) for name in ("a", "b", "action")}
        for _ in range(4)
    ]
    dataset, settings = Arrays(episodes, 10.0), replace(SETTINGS, steps=1)
    run(dataset, tiny_config(dataset=dataset), settings, tmp_path)
    swapped = ObsSpec({name: dataset.obs_spec.keys[name] for name in ("b", "a")})
    with pytest.raises(CheckpointError, match="another obs_spec"):
        run(dataset, tiny_config(dataset=dataset, obs_spec=swapped), settings, tmp_path)


def test_options_given_as_tuples_are_those_given_as_lists(tmp_path, tiny_dataset, tiny_config):
    plain, settings = tiny_config(), replace(SETTINGS, steps=1)
    tuples = tiny_config(denoiser={**plain.denoiser, "channels": tuple(plain.denoiser["channels"])})
    run(tiny_dataset, tuples, settings, tmp_path)
    run(tiny_dataset, tuples, settings, tmp_path)
    run(tiny_dataset, plain, settings, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"action_spec": ActionSpec.plain(3)},
            r"actions of the data set are 2 wide, the model's specification says 3",
        ),
        (
            {"obs_spec": ObsSpec({"pose": ObsKey((2,))})},
            r"no observation 'pose'; it has \['state'\]",
        ),
        (
            {"obs_spec": ObsSpec({"state": ObsKey((4,))})},
            r"'state' has shape \(2,\) in the data set, \(4,\)",
        ),
    ],
)
def test_data_that_do_not_fit_the_specification_are_refused(
    change, message, tmp_path, tiny_dataset, tiny_config
):
    with pytest.raises(DataError, match=message):
        Trainer(tiny_dataset, tiny_config(**change), SETTINGS, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, r"training\.steps is 0"),
        ({"batch": 0}, r"training\.batch is 0"),
        ({"precision": "fp8"}, r"'fp8'; choose one of auto, fp32, bf16"),
        (
            {"warmup": 15},
            r"warmup is 15, but training\.steps is 14: .* reach 0\.0003; give training\.warmup=1,",
        ),
        ({"warmup": -1}, r"training\.warmup is -1"),
        ({"learning_rate": float("nan")}, r"training\.learning_rate is nan; it must be above 0"),
        ({"clip_norm": 0.0}, r"training\.clip_norm is 0\.0; it must be above 0"),
        ({"ema_power": -0.5}, r"training\.ema_power is -0\.5; it must not be negative"),
        ({"threads": -1}, r"training\.threads is -1; it must not be negative"),
        ({"seed": -1}, r"training\.seed is -1; it must not be negative"),
        ({"validation_share": 1.0}, r"training\.validation_share is 1\.0; it must lie in \[0, 1\)"),
        (
            {"device": "gpu"},
            r"training\.device 'gpu' \(did you mean 'cpu'\?\); valid: auto, cpu, cuda",
        ),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **change)


@pytest.mark.parametrize(
    ("kind", "horizon", "message"),
    [
        ("unet", Horizon(2, 13, 4), r"horizon\.planned is 13.*multiple of 2: try 14"),
        ("transformer", Horizon(2, 66, 4), r"horizon\.planned is 66.*give denoiser\.steps=66"),
        ("mode", Horizon(2, 66, 4), r"horizon\.planned is 66.*give denoiser\.steps=66"),
    ],
)
def test_a_horizon_that_the_network_cannot_take_is_refused_before_the_first_step(
    kind, horizon, message, tmp_path, tiny_dataset, tiny_config, monkeypatch
):
    monkeypatch.setattr(
        "hotstart.policy.training.data.list_windows", None
    )  # nothing of the data was prepared in vain
    with pytest.raises(ConfigError, match=message):
        Trainer(tiny_dataset, tiny_config(kind, horizon=horizon), SETTINGS, tmp_path)


@pytest.mark.parametrize(
    ("regimes", "horizon", "message"),
    [
        (
            Regimes(),
            Horizon(2, 16, 8),  # Diffusion Policy's own
            r"planned is 16.*17 or more in all: give horizon\.planned=20, or .*\.staircase=0",
        ),
        (
            Regimes(0, 1, 1),
            Horizon(1, 1, 1),
            r"horizon\.planned is 1.*give horizon\.planned=2, or training\.regimes\.prefix=0",
        ),
    ],
)
def test_a_horizon_that_the_regimes_cannot_take_is_refused_with_both_mends(
    regimes, horizon, message, tmp_path, tiny_config
):
    """Before anything of the data is looked at: this one would raise at the first touch."""
    untouchable: Any = object()
    with pytest.raises(ConfigError, match=message):
        Trainer(
            untouchable, tiny_config(horizon=horizon), replace(SETTINGS, regimes=regimes), tmp_path
        )


@pytest.mark.parametrize("horizon", [Horizon(2, 20, 8), Horizon(2, 17, 8)])
def test_the_mends_of_a_short_horizon_are_taken(horizon):
    SETTINGS.check_horizon(horizon)
    replace(SETTINGS, regimes=Regimes(staircase=0)).check_horizon(Horizon(2, 16, 8))


def test_a_training_state_that_does_not_fit_is_our_error(tmp_path, tiny_dataset, tiny_config):
    run(tiny_dataset, tiny_config(), replace(SETTINGS, steps=1), tmp_path)
    last = tmp_path / "checkpoints" / "last"
    model, meta = checkpoint.load(last)
    tensors, state = checkpoint.load_training_state(last)
    name = next(name for name in tensors if name.startswith("model."))
    for changed, counters in (
        ({**tensors, name: torch.zeros(1)}, state),
        ({**tensors, "optimizer.x.step": torch.zeros(1)}, state),
        ({}, state),
        (tensors, {}),
        (tensors, {**state, "step": "3"}),
    ):
        checkpoint.save(last, model, meta, changed, counters)
        with pytest.raises(CheckpointError, match="holds no training state to go on from"):
            run(tiny_dataset, tiny_config(), replace(SETTINGS, steps=1), tmp_path)
