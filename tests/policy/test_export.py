"""Exported policies give the checkpoint's plans, by a sampler's numbers and an engine's graphs."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from hotstart.policy.agent import Agent
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.solvers import DDIM, PLMS, DPMSolverPP
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.model import ModelConfig, PolicyModel
from hotstart.policy.runtime.certificate import compare_plans, draw_observations
from hotstart.policy.runtime.compiled import Compiled
from hotstart.policy.runtime.export import export_policy
from hotstart.policy.runtime.exported import load_policy
from hotstart.policy.runtime.exported_folder import MANIFEST, NUMBERS, write_folder
from hotstart.policy.runtime.onnx import Onnx
from hotstart.policy.runtime.openvino import OpenVino
from hotstart.policy.runtime.program import shift_plans
from hotstart.policy.runtime.recording import record_parts
from hotstart.policy.samplers.base import PlanRequest, PreviousPlan
from hotstart.policy.samplers.best_of import BestOf
from hotstart.policy.samplers.conditioning import condition
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.real_time_chunking import RealTimeChunking
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import (
    TEXT_KEY,
    ActionDim,
    ActionSpec,
    CheckpointError,
    ConfigError,
    Horizon,
    ObsKey,
    ObsSpec,
)

LENGTH = 12
MLP = {
    "_target_": "hotstart.policy.denoisers.mlp.DiffusionMLP",
    "steps": LENGTH,
    "hidden": 16,
    "layers": 1,
    "level_width": 8,
}
SAMPLERS = {
    "ddim": lambda: Fresh(3),
    "ddpm": lambda: Fresh(4, DDIM(1.0)),
    "dpm": lambda: Fresh(4, DPMSolverPP(), clip=None),
    "plms": lambda: Fresh(5, PLMS(), start_noise=0.5),
    "rti": lambda: WarmStart(2, cold=3, ramp=False),
    "rti with a ramp": lambda: WarmStart(2, cold=3, ramp=True, start_noise=0.7),
    "rti as in the paper": lambda: WarmStart(2, cold=2, renoise=False, ramp=False),
    "sdp": lambda: Streaming(2, cold=3),
    "sdp from zeros": lambda: Streaming(2, primer="zero"),
}
GRIPPER = ActionSpec((ActionDim("x", "m"), ActionDim("gripper", "", "discrete")))


def need(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed: pip install 'hotstart[{package}]'")


@pytest.fixture
def make(tiny_model):
    """make(kind): a tiny model whose weights matter."""

    def build(kind="mlp", **changes):
        if kind == "mlp":
            kind, changes = "unet", {"denoiser": MLP, **changes}
        model = tiny_model(kind, horizon=Horizon(2, LENGTH, 4), **changes)
        generator = torch.Generator().manual_seed(1)
        for weight in model.network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
        return model

    return build


@pytest.fixture
def write(tmp_path):
    """write(policy, runtime, rows): the folder of the exported policy."""

    def export(policy, runtime=None, rows=1):
        need("openvino")
        folder = tmp_path / f"exported{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        export_policy(policy, runtime or OpenVino(threads=1), folder, rows)
        return folder

    return export


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    """A small exported policy; copied by those who break it."""
    need("openvino")
    model = tiny_model("unet", horizon=Horizon(2, LENGTH, 4), denoiser=MLP)
    made = tmp_path_factory.mktemp("exported")
    export_policy(DiffusionPolicy(model, WarmStart(2, cold=2)), OpenVino(threads=1), made)
    return made


@pytest.fixture
def copy(folder, tmp_path):
    target = tmp_path / "copy"
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def plan_by_numbers(policy, part, levels, observed, noise, previous=None, executed=0):
    """Plans by a part of a program, with the network evaluated by PyTorch: no engine at all."""
    model = policy.model
    context = condition(model, observed, policy.horizon).context
    rows = len(noise.seeds)
    shape = (rows, policy.horizon.planned, model.actions.spec.width)
    drawn = np.zeros((part.draws, *shape), np.float32)
    for draw in range(part.draws):
        drawn[draw] = noise.normal(*shape[1:]).numpy()

    def estimate(x, row):
        level = torch.as_tensor(levels[row]).expand(rows, -1)
        return model.denoiser(torch.as_tensor(x), level, context).numpy()

    before = np.zeros(shape, np.float32)
    if previous is not None:
        before = shift_plans(previous, executed)
    return part.sample(part.choose_variant(executed), before, drawn, estimate)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_the_recorded_sums_are_the_samplers_plans(name, make, observation):
    policy = DiffusionPolicy(make(action_spec=GRIPPER), SAMPLERS[name]())
    first, later, levels = record_parts(policy.model, policy.sampler, policy.horizon)
    window = torch.as_tensor(observation(3)["state"]).unsqueeze(1).expand(-1, 2, -1)
    observed = {"state": window}
    conditioned = condition(policy.model, observed, policy.horizon)
    with torch.no_grad():
        wanted = policy.sampler(PlanRequest(conditioned, RowNoise([1, 2, 3], [0, 0, 0])))
        got = plan_by_numbers(policy, first, levels, observed, RowNoise([1, 2, 3], [0, 0, 0]))
        np.testing.assert_allclose(got, wanted.plan.numpy(), atol=2e-5)
        before = wanted.plan
        level = torch.as_tensor(first.level).expand(3, -1)
        for executed in (0, 4, LENGTH + 5):
            steps = torch.full((3,), executed)
            previous = PreviousPlan(before, level, steps, torch.zeros_like(steps))
            request = PlanRequest(conditioned, RowNoise([1, 2, 3], [1, 1, 1]), previous)
            wanted = policy.sampler(request)
            noise = RowNoise([1, 2, 3], [1, 1, 1])
            got = plan_by_numbers(policy, later, levels, observed, noise, before.numpy(), executed)
            np.testing.assert_allclose(got, wanted.plan.numpy(), atol=2e-5, err_msg=str(executed))
            assert wanted.nfe.tolist() == [later.nfe] * 3


@pytest.mark.parametrize(
    ("kind", "name"),
    [("unet", "rti"), ("transformer", "sdp"), ("mode", "ddim"), ("mlp", "rti"), ("mlp", "sdp")],
)
def test_an_exported_policy_plans_as_the_checkpoint(kind, name, make, write):
    policy = DiffusionPolicy(make(kind), SAMPLERS[name]())
    exported = load_policy(write(policy))
    data = draw_observations(policy, 6)
    found = compare_plans(policy, exported, data, 6)
    assert 0 < found.plan_max < 1e-5
    assert max(found.action_max) < 1e-3
    assert exported.horizon == policy.horizon and exported.obs_spec == policy.obs_spec


def test_rows_are_padded_and_cut_and_planned_each_by_its_own_kind(make, write, watched):
    """Seven rows by graphs of two: some with a plan and some without, executed to various steps."""
    policy = DiffusionPolicy(make(), WarmStart(2, cold=3, ramp=True))
    exported = load_policy(write(policy, rows=2))
    state = watched(policy)
    some = np.array([1, 2, 5, 6])
    state = policy.adopt(state, policy.plan(state, some, np.zeros(4, np.int64)))
    rows = np.array([6, 0, 1, 2, 3, 5])
    executed = np.array([4, 4, 2, 2, 0, 9])
    wanted = policy.plan(state, rows, executed)
    got = exported.plan(state, rows, executed)
    np.testing.assert_allclose(got.plan.x, wanted.plan.x, atol=1e-5)
    np.testing.assert_allclose(got.actions, wanted.actions, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(got.nfe, wanted.nfe)
    np.testing.assert_array_equal(got.plan.count, wanted.plan.count)
    assert got.nfe.tolist() == [2, 3, 2, 2, 3, 2]


def test_an_agent_acts_as_with_the_checkpoint(make, write, observation):
    policy = DiffusionPolicy(make("unet"), WarmStart(2, cold=2), delay=2)
    agents = [Agent(policy, 5), Agent(load_policy(write(policy)), 5)]
    for seed in (5, 6):
        acted = []
        for agent in agents:
            agent.reset(seed)
            acted.append(
                [agent.act({"state": observation(1, tick)["state"][0]}) for tick in range(12)]
            )
        np.testing.assert_allclose(acted[0], acted[1], rtol=1e-4, atol=1e-3)


POSE = ActionSpec(
    (
        *(ActionDim(name, "m") for name in "xyz"),
        *(ActionDim(f"r{name}", "rad", "rotation") for name in "xyz"),
        ActionDim("gripper", "", "discrete"),
    )
)
HAND = ObsSpec({"eef_pos": ObsKey((3,)), "eef_quat_site": ObsKey((4,))})
JOINTS = ActionSpec(
    (ActionDim("shoulder", "rad"), ActionDim("elbow", "rad"), ActionDim("lift", "m"))
)
FORMS = {
    "rotation_6d": (POSE, HAND, {"rotation": "rotation_6d", "discrete_size": 0.2}),
    "hand": (POSE, HAND, {"rotation": "rotation_6d", "frame": "hand"}),
    "joints": (JOINTS, ObsSpec({"joints": ObsKey((3,))}), {"frame": "joints"}),
}


@pytest.mark.parametrize("name", list(FORMS))
def test_actions_in_another_form_are_decoded_and_rebased_by_graphs(name, write):
    """A later plan continues one that was made at another pose of the hand, or of the joints."""
    action_spec, obs_spec, options = FORMS[name]
    torch.manual_seed(0)
    config = ModelConfig(
        encoder={"_target_": "hotstart.policy.encoders.state.StateEncoder"},
        denoiser=MLP,
        schedule={"_target_": "hotstart.policy.diffusion.schedule.VPCosine"},
        obs_spec=obs_spec,
        action_spec=action_spec,
        horizon=Horizon(2, LENGTH, 4),
        actions={"_target_": "hotstart.policy.actions.Representation", **options},
    )
    model = PolicyModel(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for weight in model.network.parameters():
        weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    for key, shape in model.normalizer.shapes.items():
        model.normalizer.set_range(key, np.full(shape, -0.8), np.full(shape, 1.1))
    policy = DiffusionPolicy(model, WarmStart(2, cold=3))
    exported = load_policy(write(policy, rows=2))
    data = draw_observations(policy, 20)
    found = compare_plans(policy, exported, data, 20)
    assert 0 < found.plan_max < 1e-4
    assert max(found.action_mean) < 1e-4
    assert exported.contents.reads == model.actions.reads


@pytest.mark.parametrize("backbone", ["resnet", "vit"])
def test_pictures_go_through_the_encoders_graph(backbone, make, write):
    keys = {"state": ObsKey((2,)), "front": ObsKey((32, 32, 3), "uint8", "image")}
    encoder = {
        "_target_": "hotstart.policy.encoders.image.ImageEncoder",
        "backbone": backbone,
        "channels": 8,
        "stages": 2,
        "keypoints": 4,
        "embed": 16,
        "layers": 1,
        "heads": 2,
    }
    policy = DiffusionPolicy(make(obs_spec=ObsSpec(keys), encoder=encoder), Fresh(2))
    exported = load_policy(write(policy))
    data = draw_observations(policy, 4)
    assert 0 < compare_plans(policy, exported, data, 4).plan_max < 1e-4


def test_a_constant_number_is_exactly_what_it_was(make, write, watched):
    model = make()
    model.normalizer.set_range("action", np.array([-1.0, 0.3]), np.array([1.0, 0.3]))
    policy = DiffusionPolicy(model, Fresh(2))
    exported = load_policy(write(policy))
    planned = exported.plan(watched(exported), np.arange(7), np.zeros(7, np.int64))
    assert (planned.actions[..., 1] == np.float32(0.3)).all()


@pytest.mark.parametrize("kind", ["unet", "mlp"])
def test_onnx_runtime_runs_it_too(kind, make, write):
    need("onnxruntime")
    need("onnx")
    policy = DiffusionPolicy(make(kind), WarmStart(2, cold=2))
    exported = load_policy(write(policy, Onnx(1)))
    assert compare_plans(policy, exported, draw_observations(policy, 3), 3).plan_max < 1e-5


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (lambda: WarmStart(2, fallback=0.5), "fallback"),
        (lambda: Streaming(2, primer="constant"), "primer=constant"),
        (lambda: RealTimeChunking(2), "RealTimeChunking"),
        (lambda: BestOf(), "BestOf"),
    ],
)
def test_a_sampler_that_is_no_sum_is_refused_with_what_would_work(sampler, words, make):
    model = make()
    with pytest.raises(ConfigError, match=f"{words}.*inference=rti"):
        record_parts(model, sampler(), model.config.horizon)


class Curved(Fresh):
    """No sum: it squares its plan."""

    def __call__(self, request):
        outcome = super().__call__(request)
        return type(outcome)(outcome.plan**2, outcome.nfe)


class Mixing(Fresh):
    """A sum over the plan's steps: not step by step."""

    def __call__(self, request):
        outcome = super().__call__(request)
        return type(outcome)(outcome.plan.flip(1), outcome.nfe)


@pytest.mark.parametrize("sampler", [Curved, Mixing])
def test_what_the_sums_do_not_say_is_noticed(sampler, make):
    model = make()
    with pytest.raises(ConfigError, match="no sums"):
        record_parts(model, sampler(2), model.config.horizon)


def test_models_that_no_folder_holds_are_refused(make, tmp_path):
    model = make()
    model.add_residual({"first": 1, "steps": 4})
    with pytest.raises(ConfigError, match=r"a residual.*hotstart serve"):
        export_policy(DiffusionPolicy(model, Fresh(2)), OpenVino(), tmp_path)
    told = ObsSpec({**make().config.obs_spec.keys, "instruction": TEXT_KEY})
    encoder = {"_target_": "hotstart.policy.encoders.language.InstructionEncoder"}
    policy = DiffusionPolicy(make(obs_spec=told, encoder=encoder), Fresh(2))
    with pytest.raises(ConfigError, match="an instruction"):
        export_policy(policy, OpenVino(), tmp_path)
    with pytest.raises(ConfigError, match="writes no graphs: take runtime=openvino"):
        export_policy(DiffusionPolicy(make(), Fresh(2)), Compiled(), tmp_path)


@pytest.mark.parametrize("name", [NUMBERS, "encode.xml", "encode.bin", "denoise0.bin"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "linked"])
def test_a_damaged_file_is_named(name, damage, copy, tmp_path):
    file = copy / name
    raw = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(raw[:-1])
    elif damage == "changed":
        file.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    elif damage == "linked":
        (tmp_path / "elsewhere").write_bytes(raw)
        file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=name):
        load_policy(copy)


def change(folder, function):
    """Change the manifest, and nothing else."""
    plain = json.loads((folder / MANIFEST).read_text())
    function(plain)
    (folder / MANIFEST).write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda plain: plain.update(format=2), "reads format 1"),
        (lambda plain: plain.pop("format"), "reads format 1"),
        (lambda plain: plain.pop("horizon"), "damaged"),
        (lambda plain: plain.update(horizon={"observed": 2}), "damaged"),
        (lambda plain: plain["horizon"].update(planned=10**9), "damaged"),
        (lambda plain: plain["horizon"].update(planned=24), "numbers do not fit"),
        (lambda plain: plain.update(obs_spec=3), "damaged"),
        (lambda plain: plain.update(precision="fp8"), "precision"),
        (lambda plain: plain.update(rows=-1), "rows"),
        (lambda plain: plain.update(threads=10**9), "threads"),
        (lambda plain: plain.update(width=3), "damaged"),
        (lambda plain: plain.update(engine="own"), "engine"),
        (lambda plain: plain.update(files={}), "does not list the files"),
        (lambda plain: plain["files"].update({"../x": {"bytes": 1}}), "no file of it"),
        (lambda plain: plain["graphs"].update(encode="/etc/passwd"), "lists no file"),
        (lambda plain: plain["graphs"].update(denoise=[]), "damaged"),
        (lambda plain: plain["numbers"].popitem(), "longer than"),
        (lambda plain: plain["numbers"]["first/level"].update(shape=[10**12]), "ends before"),
        (lambda plain: plain["numbers"]["first/level"].update(shape=[-1, -12]), "first/level"),
        (lambda plain: plain["numbers"]["first/level"].update(dtype="O"), "first/level"),
        (lambda plain: plain["first"].update(clip="x"), "damaged"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(function, words, copy):
    change(copy, function)
    with pytest.raises(CheckpointError, match=words):
        load_policy(copy)


def test_a_graph_that_is_none_is_refused_although_its_hash_is_right(copy):
    plain = json.loads((copy / MANIFEST).read_text())
    numbers = {}
    (copy / "encode.xml").write_text("<net/>")
    raw = (copy / NUMBERS).read_bytes()
    place = 0
    for name, entry in plain.pop("numbers").items():
        count = int(np.prod(entry["shape"]))
        dtype = np.dtype(entry["dtype"])
        numbers[name] = np.frombuffer(raw, dtype, count, place).reshape(entry["shape"])
        place += count * dtype.itemsize
    for key in ("format", "files"):
        plain.pop(key)
    (copy / MANIFEST).unlink()
    write_folder(copy, plain, numbers)
    with pytest.raises(CheckpointError, match=r"encode.xml cannot be opened"):
        load_policy(copy)


def test_another_folder_is_no_exported_policy(tmp_path):
    with pytest.raises(CheckpointError, match="no exported policy"):
        load_policy(tmp_path)
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(CheckpointError, match="no manifest"):
        load_policy(tmp_path)


def test_a_row_without_an_observation_and_a_plan_that_is_not_finite_are_refused(folder):
    policy = load_policy(folder)
    state = policy.initial_state([0])
    nothing = np.zeros(1, np.int64)
    with pytest.raises(ConfigError, match="observed nothing"):
        policy.plan(state, nothing, nothing)
    state = policy.observe(state, {"state": np.full((1, 2), np.nan, np.float32)})
    with pytest.raises(ConfigError, match="not finite"):
        policy.plan(state, nothing, nothing)
    with pytest.raises(ConfigError, match="one seed per row"):
        policy.reset_rows(state, nothing, [1, 2])
    fresh = policy.reset_rows(state, nothing, [4])
    assert fresh.seen.tolist() == [0] and fresh.seeds.tolist() == [4]
