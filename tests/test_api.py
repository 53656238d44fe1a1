"""What the README promises in Python: train on one's own arrays, act in one's own environment,
add one's own encoder.
"""

import inspect
import json
import subprocess
import sys
from functools import partial

import hotstart
import numpy as np
import pytest
import torch
from hotstart.cli import main
from hotstart.configs.naming import name_sampler
from hotstart.configs.schema import VERBS
from hotstart.evaluation.result_types import CallTimes, Episode
from hotstart.policy import registry
from hotstart.policy.diffusion_policy import build_sampler
from hotstart.policy.registry import TARGETS, build, describe_part
from hotstart.spec import ConfigError, DataError
from hotstart.system.options import read_options

TINY_UNET = {"channels": (8, 16), "groups": 4, "level_width": 8}
UNET = partial(hotstart.ConditionalUnet, **TINY_UNET)
ENCODER = '''
from torch import nn

class LastOnly(nn.Module):
    """Only the newest observation, as one token."""

    def __init__(self, obs_spec, observed, width: int = 6):
        super().__init__()
        self.tokens, self.token_width = 1, width
        self.layer = nn.Linear(sum(key.shape[0] for key in obs_spec.keys.values()), width)
        self.names = list(obs_spec.keys)

    def forward(self, observation):
        import torch
        return self.layer(torch.cat([observation[n][:, -1:] for n in self.names], -1))
'''


def recordings(count=12, steps=30):
    """Episodes of a rule: the action is three times the state's first number, and minus its
    second.
    """
    rng = np.random.default_rng(0)
    states = [rng.uniform(-1, 1, (steps, 2)).astype(np.float32) for _ in range(count)]
    return [{"state": s, "action": np.stack((3 * s[:, 0], -s[:, 1]), 1)} for s in states]


def train(folder, **parts):
    data = hotstart.Arrays(recordings(), fps=20)
    settings = hotstart.TrainingSettings(steps=4, batch=8, warmup=1)
    parts = {"denoiser": UNET, **parts}
    return hotstart.train(data, folder, settings, progress=False, **parts)


def test_every_public_name_is_there_with_a_description_and_others_are_not():
    for name in hotstart.__all__:
        assert inspect.getdoc(getattr(hotstart, name)), f"{name} says nothing of itself"
    with pytest.raises(AttributeError, match=r"hotstart has no 'lod'"):
        hotstart.lod  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, hotstart; print({'torch', 'mujoco', 'zarr', 'hydra'} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


def test_train_then_act(tmp_path):
    model = train(tmp_path / "run")
    assert isinstance(model, torch.nn.Module)
    count = sum(p.numel() for p in model.parameters())
    assert model.parameter_count == count > 1000
    assert repr(model).startswith(
        f"PolicyModel({count / 1e6:.2f} M parameters: StateEncoder, ConditionalUnet, VPCosine; "
    )
    agent = hotstart.load(tmp_path / "run", hotstart.Fresh(steps=2))
    observations = [{"state": np.full(2, 0.1 * t)} for t in range(10)]
    agent.reset(seed=3)
    first = [agent.act(o) for o in observations]
    agent.reset(seed=3)
    again = [agent.act(o) for o in observations]
    agent.reset(seed=4)
    other = [agent.act(o) for o in observations]
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.array(first) - other).max() > 1e-3
    assert first[0].shape == (2,)


def test_the_agent_plans_only_when_its_chunk_is_used_up(tmp_path):
    train(tmp_path / "run")
    agent = hotstart.load(tmp_path / "run", hotstart.Fresh(steps=1))
    calls = []
    plan = agent.policy.plan
    agent.policy.plan = lambda *words: calls.append(1) or plan(*words)
    for tick in range(17):
        agent.act({"state": np.zeros(2)})
        assert len(calls) == tick // 8 + 1


@pytest.fixture
def encoder_plugin(plugin_package):
    """An installed package that names an encoder in the entry-point group."""
    plugin_package("last_only", ENCODER, {"hotstart.encoders": ["last_only = last_only:LastOnly"]})


@pytest.mark.usefixtures("encoder_plugin")
def test_an_encoder_of_another_package_is_trained_and_loaded(tmp_path):
    train(tmp_path / "run", encoder={"_target_": "last_only.LastOnly", "width": 5})
    agent = hotstart.load(tmp_path / "run", hotstart.Fresh(steps=1))
    assert type(agent.policy.model.encoder).__name__ == "LastOnly"
    assert np.isfinite(agent.act({"state": np.zeros(2)})).all()


@pytest.mark.usefixtures("encoder_plugin")
def test_an_encoder_of_another_package_is_a_choice_of_the_command_line():
    from hotstart.configs import compose

    assert "last_only" in compose.list_choices("encoder")
    config = compose.compose_config("train", ["encoder=last_only", "encoder.width=7"])
    assert config["encoder"] == {"_target_": "last_only.LastOnly", "width": 7}


def test_foreign_targets_are_refused_before_anything_is_imported():
    with pytest.raises(ConfigError, match=r"'os.system', which is not one of hotstart's"):
        build("encoder", {"_target_": "os.system", "command": "true"})
    with pytest.raises(ConfigError, match=r"denoiser.chanels is unknown; ConditionalUnet takes"):
        build("denoiser", hotstart.node(hotstart.ConditionalUnet, chanels=(8,)))


def make_own_encoder():
    """A class as a script has it: no package names it."""

    class Newest(torch.nn.Module):
        def __init__(self, obs_spec, observed, width=6):
            super().__init__()
            self.tokens, self.token_width = 1, width
            self.layer = torch.nn.Linear(2, width)

        def forward(self, observation):
            return self.layer(observation["state"][:, -1:])

    return Newest


def test_an_encoder_of_a_script_is_trained_and_loaded_once_it_is_registered(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_OWN", {})
    own = make_own_encoder()
    encoder = partial(own, width=5)
    with pytest.raises(ConfigError, match=r"hotstart.register\('encoder'\)"):
        train(tmp_path / "run", encoder=encoder)
    hotstart.register("encoder")(own)
    train(tmp_path / "run", encoder=encoder)
    agent = hotstart.load(tmp_path / "run", hotstart.Fresh(steps=1))
    assert agent.policy.model.encoder.layer.out_features == 5
    with pytest.raises(ConfigError, match="unknown axis 'encoders'"):
        hotstart.register("encoders")  # pyright: ignore[reportArgumentType]


def test_pictures_and_instructions_are_trained_on_and_acted_by(tmp_path):
    rng = np.random.default_rng(0)
    episodes = []
    for text in ("push the block", "open the drawer"):
        episode = {
            "state": rng.normal(size=(12, 2)),
            "image": rng.integers(0, 255, (12, 16, 16, 3), dtype=np.uint8),
            "instruction": text,
            "action": rng.normal(size=(12, 2)),
        }
        episodes.append(episode)
    data = hotstart.Arrays(episodes, fps=10)
    kinds = [key.kind for key in data.obs_spec.keys.values()]
    assert kinds == ["state", "image", "language"]
    camera = partial(hotstart.ImageEncoder, channels=8, stages=1, keypoints=4, token_width=8)
    hotstart.train(
        data,
        tmp_path / "run",
        hotstart.TrainingSettings(steps=2, batch=4),
        encoder=partial(hotstart.InstructionEncoder, base=camera, buckets=16),
        denoiser=UNET,
        horizon=hotstart.Horizon(2, 12, 4),
        progress=False,
    )
    agent = hotstart.load(tmp_path / "run", hotstart.Fresh(steps=1))
    seen = {"state": np.zeros(2), "image": np.zeros((16, 16, 3), np.uint8)}
    actions = []
    for text in ("push the block", "push the block", "open the drawer"):
        agent.reset(seed=0)
        actions.append(agent.act({**seen, "instruction": text}))
    np.testing.assert_array_equal(actions[0], actions[1])
    assert np.abs(actions[0] - actions[2]).max() > 1e-4


def test_what_would_spoil_a_training_is_said_before_it(tmp_path):
    episodes = recordings()
    for episode in episodes:
        episode["action"][:, 1] = 0.5
    settings = hotstart.TrainingSettings(steps=1, batch=2)
    data = hotstart.Arrays(episodes, fps=20)
    with pytest.warns(UserWarning, match=r"is always 0.5; a policy will command exactly this"):
        hotstart.train(data, tmp_path / "run", settings, denoiser=UNET, progress=False)
    short = hotstart.Arrays([{"state": np.zeros((1, 2)), "action": np.zeros((1, 2))}], fps=20)
    with pytest.raises(DataError, match=r"cannot be trained on: no episode has 2 steps"):
        hotstart.train(short, tmp_path / "other", settings, progress=False)
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A store of random pushing with one episode twice, and a folder for runs."""
    pytest.importorskip("pymunk")
    folder = tmp_path_factory.mktemp("pushed")
    store = hotstart.collect(
        folder / "pusht.zarr",
        "pusht",
        demonstrator="random",
        keep="all",
        episodes=2,
        max_steps=20,
        workers=0,
    )
    store.append(store.episode(0))
    return store, folder


@pytest.fixture(scope="module")
def mine(pushed):
    """A run on it that was trained in Python."""
    store, folder = pushed
    settings = hotstart.TrainingSettings(steps=2, batch=4)
    hotstart.train(store.path, folder / "mine", settings, denoiser=UNET, progress=False)
    return folder / "mine"


TINY_CLI = [
    "denoiser.channels=[8,16]",
    "denoiser.groups=4",
    "denoiser.level_width=8",
    "training.steps=2",
    "training.batch=4",
]
EPISODES = {"task": "pusht", "episodes": 2, "num_envs": 2, "workers": 0, "max_steps": 10}


def test_a_run_trained_in_python_is_evaluated_by_the_command_line_with_the_same_result(
    mine, tmp_path
):
    out = tmp_path / "rti.json"
    words = ["episodes=2", "num_envs=2", "workers=0", "task=pusht", "task.max_steps=10"]
    words += ["inference=rti", "inference.steps=1", "inference.cold=2"]
    assert main(["evaluate", str(mine), f"out={out}", *words]) == 0
    commanded = hotstart.read_result(out)
    sampler = hotstart.WarmStart(steps=1, cold=2)
    found = hotstart.evaluate(mine, sampler, out=tmp_path / "python.json", **EPISODES)
    assert json.dumps(found) == json.dumps(hotstart.read_result(tmp_path / "python.json"))
    for key in ("inference", "sampler_settings", "task_options", "per_episode", "weights_hash"):
        assert found[key] == commanded[key]
    typed = hotstart.EvaluationResult
    assert typed.__required_keys__ <= set(found) <= set(typed.__annotations__)
    assert set(found["inference_ms"]) == set(CallTimes.__annotations__)
    assert Episode.__required_keys__ <= set(found["per_episode"][0]) <= set(Episode.__annotations__)
    compared = hotstart.compare(out, tmp_path / "python.json")
    assert [paired.score.mean for paired in compared.differences.values()] == [0]
    assert "Difference from rti-1" in str(compared)
    assert hotstart.compare(commanded, found).base.name == "rti-1 result1"
    with pytest.raises(ConfigError, match="does not say which task it was trained for"):
        hotstart.evaluate(mine)


def test_a_run_of_the_command_line_is_evaluated_in_python_and_its_data_looked_through(
    pushed, capsys
):
    store, folder = pushed
    words = [str(store.path), "task=pusht", "task.max_steps=10", f"runs={folder}", "name=cli"]
    assert main(["train", *words, *TINY_CLI]) == 0
    assert "Warning: episode 2 is the same as episode 0" in capsys.readouterr().out
    sampler = hotstart.Fresh(steps=1)
    found = hotstart.evaluate(folder / "cli", sampler, episodes=2, num_envs=2, workers=0)
    assert (found["task"], found["inference"], found["episodes"]) == ("pusht", "ddim-1", 2)


class Still(hotstart.Sampler):
    """A sampler as a script has it: plans of zeros."""

    def __init__(self, steps: int = 3) -> None:
        self.steps = steps

    def __call__(self, request):
        plan = torch.zeros_like(request.draw())
        return hotstart.PlanOutcome(plan, torch.zeros(len(plan), dtype=torch.int64))


def test_a_sampler_of_a_script_is_evaluated(mine):
    found = hotstart.evaluate(mine, Still(), **EPISODES)
    assert found["inference"] == "Still-3"
    assert found["nfe"]["cold"] == 0


NAMES = {
    "Fresh": "ddim",
    "WarmStart": "rti",
    "Streaming": "sdp",
    "RealTimeChunking": "rtc",
    "BidirectionalDecoding": "bid",
    "BestOf": "best_of",
    "StepwiseSearch": "search",
    "Anchored": "anchored",
    "ClassifierFreeGuidance": "cfg",
}


@pytest.mark.parametrize("target", TARGETS["inference"])
def test_every_sampler_says_how_it_was_made_and_what_the_command_line_calls_it(target):
    name = target.rpartition(".")[2]
    made = getattr(hotstart, name)(solver=hotstart.DPMSolverPP(order=1), steps=3)
    node = describe_part(made)
    assert node["solver"]["order"] == 1
    again = build_sampler(node)
    assert describe_part(again) == node
    default = describe_part(getattr(hotstart, name)())
    assert name_sampler(default) == NAMES[name]


def test_samplers_of_one_class_are_called_by_their_solver():
    named = {}
    for solver in (hotstart.DDIM(1.0), hotstart.DPMSolverPP(), hotstart.PLMS()):
        named[type(solver).__name__] = name_sampler(describe_part(hotstart.Fresh(solver=solver)))
    assert named == {"DDIM": "ddpm", "DPMSolverPP": "dpmpp", "PLMS": "plms"}


@pytest.mark.parametrize("verb", ["evaluate", "collect"])
def test_functions_have_the_options_and_defaults_of_the_command_line(verb):
    schema = VERBS[verb].options
    assert schema is not None
    options = read_options(schema)
    parameters = dict(inspect.signature(getattr(hotstart, verb)).parameters)
    for name in ("task", "task_options", "max_steps"):
        del parameters[name]
    assert set(parameters) == set(options) - {"task"}
    for name, parameter in parameters.items():
        if name not in ("checkpoint", "inference", "runtime", "out", "video"):
            assert parameter.default == options[name].default
