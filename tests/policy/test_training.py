"""Training: resumes to the bit, refuses what does not belong together, needs no simulator, and learns."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.policy import checkpoint
from hotstart.policy.batches import WindowBatches
from hotstart.policy.diffusion.objective import Regimes
from hotstart.policy.diffusion.plans import Fresh
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.metrics import read_metrics
from hotstart.policy.training import Trainer, TrainingSettings
from hotstart.spec import ActionSpec, CheckpointError, ConfigError, DataError, Horizon, ObsKey, ObsSpec

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SETTINGS = TrainingSettings(
    steps=14,
    batch=16,
    warmup=4,
    validation_share=0.2,
    log_every=1,
    validate_every=4,
    save_every=3,
    threads=1,
)
KINDS = ["unet", "transformer"]


def run(dataset, config, settings, folder, **options):
    return Trainer(dataset, config, settings, folder).run(progress=False, **options)


def child(text: str, *arguments: object, **options) -> subprocess.Popen:
    """A fresh Python with tests/conftest.py's names and the arguments in `args`."""
    head = "import runpy, sys\nargs = sys.argv[2:]\nglobals().update(runpy.run_path(sys.argv[1]))\n"
    command = [sys.executable, "-c", head + text, str(CONFTEST), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes, **options)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# --- stopping and going on

TRAIN_UNTIL_KILLED = """
import os, signal
from pathlib import Path
from hotstart.policy.training import Trainer, TrainingSettings

def on_log(step, numbers):
    if step == 8:  # the last checkpoint is of step 6
        os.kill(os.getpid(), getattr(signal, args[3]))

settings = TrainingSettings(**eval(args[2]))
dataset = make_dataset()
Trainer(dataset, make_config(args[1], dataset), settings, Path(args[0])).run(progress=False, on_log=on_log)
"""
PLAIN = {name: getattr(SETTINGS, name) for name in vars(SETTINGS) if name != "regimes"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_to_the_bit(kind, tmp_path, tiny_dataset, tiny_config):
    config = tiny_config(kind)
    process = child(TRAIN_UNTIL_KILLED, tmp_path / "killed", kind, PLAIN, "SIGKILL")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    last = tmp_path / "killed" / "checkpoints" / "last"
    assert checkpoint.read_meta(last)["step"] == 6
    assert [r["step"] for r in read_metrics(tmp_path / "killed")] == list(range(1, 9))
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # the kill came in the middle of a line

    killed, whole = (Trainer(tiny_dataset, config, SETTINGS, tmp_path / name) for name in ("killed", "whole"))
    seen: list[int] = []
    resumed_model = killed.run(progress=False, on_log=lambda step, _: seen.append(step))
    whole_model = whole.run(progress=False)
    assert seen == list(range(7, 15))  # it did go on, not begin anew
    assert equal(resumed_model.state_dict(), whole_model.state_dict())
    assert equal(killed.model.state_dict(), whole.model.state_dict())
    assert equal(killed._tensors(), whole._tensors())  # the optimiser too
    assert not equal(killed.model.state_dict(), resumed_model.state_dict())
    for name in ("last", "best"):
        saved, again = (checkpoint.load(tmp_path / folder / "checkpoints" / name)[0] for folder in ("killed", "whole"))
        assert equal(saved.state_dict(), again.state_dict())

    records, expected = (read_metrics(tmp_path / name) for name in ("killed", "whole"))
    assert [r["step"] for r in records] == list(range(1, 15))  # each step once: what came after step 6 was cut off
    for record, other in zip(records, expected, strict=True):
        assert {**record, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_then_stops(name, tmp_path):
    process = child(TRAIN_UNTIL_KILLED, tmp_path / "run", "unet", PLAIN, name)
    _, errors = process.communicate(timeout=120)
    assert process.returncode not in (0, -signal.SIGKILL)
    assert "KeyboardInterrupt: stopped at step 8; the same command goes on from there" in errors
    last = tmp_path / "run" / "checkpoints" / "last"
    assert checkpoint.read_meta(last)["step"] == 8
    assert checkpoint.load_training_state(last)[1]["step"] == 8


def test_signals_mean_what_they_meant_before_once_the_run_is_over(tmp_path, tiny_dataset, tiny_config):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    during = []
    run(
        tiny_dataset,
        tiny_config(),
        replace(SETTINGS, steps=1),
        tmp_path,
        on_log=lambda *_: during.append(signal.getsignal(signal.SIGINT)),
    )
    assert during[0] is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


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
    again = run(tiny_dataset, tiny_config(), settings, tmp_path, on_log=lambda *_: pytest.fail("it trained"))
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request):
    """A run of three steps; nobody changes it."""
    conftest = request.getfixturevalue("tiny_dataset"), None
    folder = tmp_path_factory.mktemp("finished")
    return folder, conftest[0]


def test_other_data_are_refused(tmp_path, tiny_dataset, tiny_config):
    run(tiny_dataset, tiny_config(), replace(SETTINGS, steps=1), tmp_path)
    episodes = [tiny_dataset.episode(i) for i in range(8)]
    episodes[3]["state"] = episodes[3]["state"].copy()
    episodes[3]["state"][2, 1] += 1e-3  # one number
    with pytest.raises(CheckpointError, match=rf"other data: choose another run name, or delete {tmp_path}"):
        run(Arrays(episodes, fps=10.0), tiny_config(), SETTINGS, tmp_path)


def test_other_settings_are_refused_and_named(tmp_path, tiny_dataset, tiny_config):
    run(tiny_dataset, tiny_config(), replace(SETTINGS, steps=1), tmp_path)
    for changes in ({"learning_rate": 1e-3}, {"batch": 8}, {"seed": 1}, {"regimes": Regimes(0, 1, 0)}, {"steps": 2}):
        with pytest.raises(CheckpointError, match=rf"another training\.{next(iter(changes))}: choose another run name"):
            run(tiny_dataset, tiny_config(), replace(SETTINGS, **{"steps": 1, **changes}), tmp_path)
    free = {"log_every": 2, "validate_every": 3, "save_every": 7, "threads": 0}  # these change no weight
    run(tiny_dataset, tiny_config(), replace(SETTINGS, **{"steps": 1, **free}), tmp_path)


def test_another_model_is_refused_and_named(tmp_path, tiny_dataset, tiny_config):
    plain = tiny_config()
    run(tiny_dataset, plain, replace(SETTINGS, steps=1), tmp_path)
    others = {
        "denoiser": {"denoiser": {**plain.denoiser, "channels": [8, 16]}},
        "schedule": {"schedule": {"_target_": "hotstart.policy.diffusion.schedule.Flow"}},  # the weights would fit
        "prediction": {"prediction": "x0"},
        "horizon": {"horizon": replace(plain.horizon, planned=16)},
    }
    for part, change in others.items():
        with pytest.raises(CheckpointError, match=f"another {part}: choose another run name"):
            run(tiny_dataset, tiny_config(**change), replace(SETTINGS, steps=1), tmp_path)


def test_observations_in_another_order_are_another_model(tmp_path, tiny_config):
    rng = np.random.default_rng(0)
    episodes = [{name: rng.normal(size=(14, 2)).astype(np.float32) for name in ("a", "b", "action")} for _ in range(4)]
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
        ({"action_spec": ActionSpec.plain(3)}, r"actions of the data set are 2 wide, the model's specification says 3"),
        ({"obs_spec": ObsSpec({"pose": ObsKey((2,))})}, r"no observation 'pose'; it has \['state'\]"),
        ({"obs_spec": ObsSpec({"state": ObsKey((4,))})}, r"'state' has shape \(2,\) in the data set, \(4,\)"),
    ],
)
def test_data_that_do_not_fit_the_specification_are_refused(change, message, tmp_path, tiny_dataset, tiny_config):
    with pytest.raises(DataError, match=message):
        Trainer(tiny_dataset, tiny_config(**change), SETTINGS, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, r"training\.steps is 0"),
        ({"batch": 0}, r"training\.batch is 0"),
        ({"precision": "fp8"}, r"'fp8'; choose one of auto, fp32, bf16"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **change)


def test_a_horizon_that_the_network_cannot_take_is_refused_at_the_first_step(tmp_path, tiny_dataset, tiny_config):
    with pytest.raises(ConfigError, match=r"horizon\.planned is 13.*multiple of 2: try 14"):
        run(tiny_dataset, tiny_config(horizon=Horizon(2, 13, 4)), SETTINGS, tmp_path)


# --- numbers that are not


@pytest.mark.parametrize("log_every", [1, 1000])
def test_a_loss_that_is_not_a_number_stops_and_leaves_the_last_good_checkpoint(log_every, tmp_path, tiny_dataset, tiny_config):
    settings = replace(SETTINGS, log_every=log_every, validate_every=1000, save_every=2)
    trainer = Trainer(tiny_dataset, tiny_config(), settings, tmp_path)
    step_of = trainer._train_step

    def poisoned_step():
        if trainer.step == 3:
            with torch.no_grad():
                trainer.model.network.out[1].bias[0] = torch.inf
        return step_of()

    trainer._train_step = poisoned_step
    with pytest.raises(DataError, match=r"the loss is (nan|inf) at step 4: lower training\.learning_rate, check the data"):
        trainer.run(progress=False)
    model, meta = checkpoint.load(tmp_path)
    assert meta["step"] == 2
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_gradient_that_is_not_a_number_is_not_saved_either(tmp_path, tiny_dataset, tiny_config):
    """The loss of the step is still finite, the weights after it are not."""
    trainer = Trainer(tiny_dataset, tiny_config(), replace(SETTINGS, steps=2, save_every=1), tmp_path)
    trainer.model.network.out[1].bias.register_hook(lambda gradient: gradient * torch.nan if trainer.step == 1 else gradient)
    with pytest.raises(DataError, match="the gradient norm is nan at step 2"):
        trainer.run(progress=False)
    assert checkpoint.load(tmp_path / "checkpoints" / "last")[1]["step"] == 1


# --- no simulator

TRAIN_BLOCKED = """
BLOCKED = {"mujoco", "robosuite", "pymunk", "gymnasium", "shapely", "hydra", "omegaconf", "cv2", "dm_control"}

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
assert not BLOCKED & {name.split(".")[0] for name in sys.modules}

from pathlib import Path
import numpy as np
import hotstart
from hotstart.policy.training import Trainer, TrainingSettings

dataset = make_dataset()
for kind in ("unet", "transformer"):
    settings = TrainingSettings(steps=2, batch=4, threads=1)
    Trainer(dataset, make_config(kind, dataset), settings, Path(args[0]) / kind).run(progress=False)
    agent = hotstart.load(Path(args[0]) / kind)
    print(agent.act({"state": np.zeros(2)}).shape)
print("loaded", BLOCKED & {name.split(".")[0] for name in sys.modules})
"""


def test_it_trains_and_acts_without_a_simulator(tmp_path):
    process = child(TRAIN_BLOCKED, tmp_path)
    printed, errors = process.communicate(timeout=120)
    assert printed.splitlines() == ["(2,)", "(2,)", "loaded set()"], errors


# --- data


def test_held_out_episodes_are_never_trained_on(tmp_path, tiny_config):
    """Validation is by episode: each number of an episode carries the episode's number."""
    numbers = np.arange(10, dtype=np.float32)
    episodes = [{"state": np.full((12, 2), n), "action": np.full((12, 2), n)} for n in numbers]
    dataset = Arrays(episodes, 10.0)
    trainer = Trainer(dataset, tiny_config(dataset=dataset), replace(SETTINGS, validation_share=0.3), tmp_path)
    seen = [set(torch.cat([b.at(s)[1] for s in range(20)]).unique().tolist()) for b in (trainer.batches, trainer.held_out)]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(numbers.tolist())
    assert len(seen[1]) == 3
    low, high = min(seen[0]), max(seen[0])  # the statistics are those of the training episodes
    normalised = trainer.model.normalizer.normalize("action", torch.tensor([[low, low], [high, high]]))
    torch.testing.assert_close(normalised, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))


def test_validation_always_has_the_same_loss_for_the_same_weights(tmp_path, tiny_dataset, tiny_config):
    trainer = Trainer(tiny_dataset, tiny_config(), SETTINGS, tmp_path)
    before = trainer.validate()
    trainer.step = 11
    assert trainer.validate() == before
    trainer._train_step()
    assert trainer.validate() != before
    without = Trainer(tiny_dataset, tiny_config(), replace(SETTINGS, validation_share=0.0), tmp_path)
    assert without.validate() is None


def test_the_best_checkpoint_is_that_of_the_least_validation_loss(tmp_path, tiny_dataset, tiny_config):
    trainer = Trainer(tiny_dataset, tiny_config(), replace(SETTINGS, steps=5, validate_every=1), tmp_path)
    losses = iter([3.0, 2.0, float("nan"), 2.5, 2.0])
    trainer.validate = lambda: next(losses)
    trainer.run(progress=False)
    meta = checkpoint.read_meta(tmp_path / "checkpoints" / "best")
    assert (meta["step"], meta["validation_loss"]) == (2, 2.0)
    assert not (tmp_path / "checkpoints" / "best" / "training_state").exists()


@pytest.mark.parametrize("batch", [7, 16, 250])  # less than, not a divisor of, more than the windows there are
def test_every_window_is_taken_once_an_epoch(batch, tiny_dataset, tiny_config):
    index = np.arange(112 * 12).reshape(112, 12)
    batches = WindowBatches(tiny_dataset, tiny_config(), index, batch, seed=3, device="cpu")
    steps = -(-112 * 5 // batch)
    rows = torch.cat([batches._rows(step) for step in range(steps)])[: 112 * 5].reshape(5, 112)
    assert len(rows.unique(dim=0)) == 5  # each epoch in an order of its own
    assert torch.equal(rows.sort(1).values, torch.arange(112).expand(5, 112))
    assert torch.equal(batches._rows(3), rows.flatten()[3 * batch : 4 * batch][: len(batches._rows(3))])  # in any order


def test_a_batch_is_windows_of_the_data(tiny_config):
    """The T actions begin To - 1 steps before the newest observation, within one episode, padded by repetition."""
    episodes = []
    for number in range(3):
        step = 100 * number + np.arange(14, dtype=np.float32)
        episodes.append({"state": step.repeat(2).reshape(14, 2), "action": step.repeat(2).reshape(14, 2)})
    dataset = Arrays(episodes, 10.0)
    trainer = Trainer(dataset, tiny_config(dataset=dataset), replace(SETTINGS, validation_share=0.0), Path("unused"))
    for step in range(10):
        observation, actions = trainer.batches.at(step)
        assert actions.shape == (16, 12, 2)
        assert observation["state"].shape == (16, 2, 2)
        for seen, planned in zip(observation["state"][..., 0], actions[..., 0], strict=True):
            episode, newest = divmod(float(seen[-1]), 100)
            wanted = (newest - 1 + torch.arange(12)).clamp(0, 13) + 100 * episode
            assert torch.equal(planned, wanted)
            assert torch.equal(seen, wanted[:2])


# --- learning


def test_the_learning_rate_warms_up_and_falls_to_zero():
    settings = TrainingSettings(steps=100, warmup=10, learning_rate=1.0)
    rates = [settings.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == 1.0
    assert rates[9] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_vectors_and_tables_do_not_decay(tmp_path, tiny_dataset, tiny_config):
    trainer = Trainer(tiny_dataset, tiny_config("transformer"), SETTINGS, tmp_path)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in trainer.optimizer.param_groups)
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [SETTINGS.weight_decay, 0.0]
    assert decayed | kept == set(names.values())
    assert all(name.endswith("weight") for name in decayed)
    expected = {"network.position", "network.observation_position"}
    assert expected <= kept
    assert not any(name.endswith("bias") or "norm_" in name or "offset" in name for name in decayed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_policy_learns_the_right_action(kind, tmp_path, tiny_config, request):
    """The loss falls, and the trained policy gives the deterministic action of states it has not seen, in the data's units."""
    from_conftest = request.getfixturevalue("tiny_problem")
    dataset = from_conftest.make_dataset(episodes=60)
    settings = TrainingSettings(
        steps=350, batch=32, warmup=20, learning_rate=4e-3, validation_share=0.1, threads=1, log_every=10, save_every=1000
    )
    model = run(dataset, tiny_config(kind, dataset), settings, tmp_path)
    losses = [record["loss"] for record in read_metrics(tmp_path)]
    assert np.mean(losses[-5:]) < 0.25 * losses[0]

    policy = DiffusionPolicy(model, Fresh(steps=10))
    states = np.random.default_rng(5).uniform(-2.5, 2.5, (20, 2)).astype(np.float32)
    state = policy.observe(policy.initial_state(range(20)), {"state": states})
    actions = policy.plan(state, np.arange(20), np.zeros(20, np.int64)).actions
    spread = np.array([30 * 1.7, 0.1 * 1.7])  # one standard deviation of the right actions
    error = (actions - from_conftest.right_action(states)[:, None]) / spread
    assert np.sqrt((error**2).mean()) < 0.25


def test_metrics_are_read_up_to_the_first_broken_line(tmp_path):
    assert read_metrics(tmp_path) == []
    lines = [json.dumps({"step": n, "loss": 0.5}) for n in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 3, "los']))
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]
