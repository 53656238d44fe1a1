"""Runtimes: every network by an engine gives the plans that PyTorch gives."""

import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.cli import main
from hotstart.commands.certify import check_certificate
from hotstart.commands.evaluate import find_weights_hash
from hotstart.commands.rollouts import label
from hotstart.configs.compose import compose_config
from hotstart.policy import checkpoint
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.runtime.base import choose_rows, find_engine, use_runtime
from hotstart.policy.runtime.certificate import Certificate, compare_plans, find_path
from hotstart.policy.runtime.compiled import Compiled
from hotstart.policy.runtime.eager import Eager
from hotstart.policy.runtime.onnx import Onnx
from hotstart.policy.runtime.openvino import OpenVino, has_bf16
from hotstart.policy.runtime.warm_up import warm_up
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.real_time_chunking import RealTimeChunking
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import ConfigError, Horizon

LENGTH = 12
MLP = {
    "_target_": "hotstart.policy.denoisers.mlp.DiffusionMLP",
    "steps": LENGTH,
    "hidden": 16,
    "layers": 1,
    "level_width": 8,
}
SAMPLERS = {
    "ddim": lambda: Fresh(2),
    "rti": lambda: WarmStart(2, cold=2, ramp=True),
    "sdp": lambda: Streaming(2, cold=2),
    "rtc": lambda: RealTimeChunking(2, mode="identity"),
}


def get_engine(model):
    """The engine that a model runs on."""
    engine = find_engine(model)
    assert engine is not None
    return engine


def need(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed: pip install 'hotstart[{package}]'")


@pytest.fixture
def make(tiny_model):
    """make(kind): a tiny model whose weights matter."""

    def build(kind="mlp"):
        changes = {}
        if kind == "mlp":
            kind, changes = "unet", {"denoiser": MLP}
        model = tiny_model(kind, horizon=Horizon(2, LENGTH, 4), **changes)
        generator = torch.Generator().manual_seed(1)
        for weight in model.network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
        return model

    return build


def plan_twice(model, sampler, watched, rows=1):
    """Plans of a first and of a later call, (2, R, T, A)."""
    policy = DiffusionPolicy(model, sampler)
    state = watched(policy, range(rows))
    plans = []
    for _ in range(2):
        planned = policy.plan(state, np.arange(rows), np.full(rows, policy.horizon.executed))
        plans.append(planned.plan.x)
        state = policy.adopt(state, planned)
    return np.stack(plans)


@pytest.mark.parametrize("kind", ["unet", "transformer", "mlp", "mode"])
def test_openvino_gives_the_plans_of_pytorch(kind, make, watched):
    need("openvino")
    model = make(kind)
    wanted = {name: plan_twice(model, sampler(), watched) for name, sampler in SAMPLERS.items()}
    use_runtime(model, OpenVino(threads=1))
    for name, sampler in SAMPLERS.items():
        got = plan_twice(model, sampler(), watched)
        np.testing.assert_allclose(got, wanted[name], atol=1e-4, err_msg=name)
    assert get_engine(model).eager_calls == 0


def test_openvino_compiles_an_mlp_of_usual_size(tiny_model, watched):
    need("openvino")
    wide = {**MLP, "hidden": 192, "layers": 2}
    model = tiny_model("unet", horizon=Horizon(2, LENGTH, 4), denoiser=wide)
    wanted = plan_twice(model, Fresh(2), watched)
    got = plan_twice(use_runtime(model, OpenVino(threads=1)), Fresh(2), watched)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_bf16_stays_near_where_the_processor_has_it(make, watched):
    need("openvino")
    model = make("unet")
    if not has_bf16():
        with pytest.raises(ConfigError, match=r"take runtime\.precision=fp32"):
            use_runtime(model, OpenVino("bf16", 1))
        return
    wanted = plan_twice(model, Fresh(2), watched)
    got = plan_twice(use_runtime(model, OpenVino("bf16", 1)), Fresh(2), watched)
    difference = np.abs(got - wanted).max()
    assert 1e-5 < difference < 0.1


def test_a_signal_is_handled_after_two_graphs_have_gone():
    need("openvino")
    subprocess.run([sys.executable, "-c", ENGINE_THEN_SIGNAL], check=True)


ENGINE_THEN_SIGNAL = """
import gc, signal
import torch
from hotstart.policy.runtime.openvino import OpenVino

graphs = []
for _ in range(2):
    module = torch.nn.Linear(2, 2).eval()
    graphs.append(OpenVino(threads=1).compile(module, (torch.zeros(1, 2),)))
while graphs:
    del graphs[0]  # the oldest first
    gc.collect()
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
signal.raise_signal(signal.SIGTERM)
assert heard == [signal.SIGTERM]
"""


def test_onnx_gives_the_plans_of_pytorch(make, watched):
    need("onnxruntime")
    need("onnx")
    model = make("unet")
    wanted = plan_twice(model, WarmStart(2, cold=2), watched)
    got = plan_twice(use_runtime(model, Onnx(1)), WarmStart(2, cold=2), watched)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


class Counting(Compiled):
    """Counts what it compiles; torch.compile captures the graph, and PyTorch runs it."""

    def __init__(self):
        super().__init__(backend="eager")
        self.shapes = []

    def compile(self, module, inputs):
        self.shapes.append(tuple(inputs[0].shape))
        return lambda leaves: module(*leaves)


@pytest.mark.parametrize("kind", ["unet", "transformer", "mlp", "mode"])
def test_a_warm_policy_compiles_nothing_and_plans_the_same(kind, make, watched, recwarn):
    """Rows that no graph has are padded or cut into several calls."""
    model = make(kind)
    wanted = plan_twice(model, WarmStart(2, cold=2), watched, rows=5)
    runtime = Counting()
    policy = DiffusionPolicy(use_runtime(model, runtime), WarmStart(2, cold=2))
    warm_up(policy, [2])
    made = list(runtime.shapes)
    assert {shape[0] for shape in made} == {2}
    got = plan_twice(model, WarmStart(2, cold=2), watched, rows=5)
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert runtime.shapes == made
    assert get_engine(model).eager_calls == 0
    assert not [each for each in recwarn if "warmed up" in str(each.message)]


def test_torch_compile_takes_the_graph(make, watched):
    model = make("mlp")
    wanted = plan_twice(model, Fresh(2), watched)
    got = plan_twice(use_runtime(model, Compiled(backend="eager")), Fresh(2), watched)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_an_evaluation_without_a_graph_is_counted_and_warned_of(make, watched):
    model = use_runtime(make(), Counting())
    get_engine(model).seal()
    with pytest.warns(UserWarning, match="not warmed up"):
        plan_twice(model, Fresh(2), watched)
    assert get_engine(model).eager_calls == 4


def test_changed_weights_are_noticed(make, watched):
    model = use_runtime(make(), Counting())
    plan_twice(model, Fresh(2), watched)
    next(model.network.parameters()).add_(1)
    with pytest.raises(ConfigError, match="weights have changed"):
        plan_twice(model, Fresh(2), watched)
    get_engine(model).forget()
    changed = plan_twice(model, Fresh(2), watched)
    np.testing.assert_array_equal(
        changed, plan_twice(use_runtime(model, Eager()), Fresh(2), watched)
    )


def test_guidance_by_gradients_is_refused_by_an_engine_without(make, watched):
    runtime = Counting()
    runtime.gradients = False
    model = use_runtime(make(), runtime)
    with pytest.raises(ConfigError, match=r"no gradients.*mode=identity"):
        plan_twice(model, RealTimeChunking(2, mode="full"), watched)


@pytest.mark.parametrize(
    ("rows", "made", "sealed", "wanted"),
    [
        (5, [], False, 5),
        (5, [8], False, 8),
        (4, [8], False, 4),
        (4, [8], True, 8),
        (9, [2, 8], True, 8),
        (3, [], True, None),
    ],
)
def test_the_rows_of_a_graph(rows, made, sealed, wanted):
    assert choose_rows(rows, made, sealed) == wanted


def test_an_engine_wants_a_finished_network_in_full_precision(make):
    model = make()
    with pytest.raises(ConfigError, match="eval"):
        use_runtime(model.train(), Counting())
    with pytest.raises(ConfigError, match="runs on a GPU"):
        use_runtime(make(), Compiled(cuda_graph=True))


def test_a_certificate_says_how_far_plans_lie_apart(make, tiny_dataset, tmp_path):
    model, other = make(), make()
    next(other.network.parameters()).add_(1e-4)
    policies = DiffusionPolicy(model, Fresh(2)), DiffusionPolicy(other, Fresh(2))
    same = compare_plans(policies[0], policies[0], tiny_dataset, 4)
    found = compare_plans(*policies, tiny_dataset, 4)
    assert same.plan_max == 0 and 0 < found.plan_mean < found.plan_max < 0.1
    assert found.plans == 4 and len(found.action_max) == 2
    made = Certificate(
        "abc", "openvino-fp32", "ddim-2", {}, found.plan_max, found, "d", {}, {}, "2026-01-01"
    )
    assert Certificate.load(made.save(tmp_path)) == replace(
        made,
        differences=replace(
            found, action_max=list(found.action_max), action_mean=list(found.action_mean)
        ),
    )
    assert made.passed and not replace(made, tolerance=found.plan_max / 2).passed
    find_path(tmp_path, "openvino-fp32", "ddim-2").write_text("{}")
    with pytest.raises(ConfigError, match="no certificate"):
        Certificate.load(find_path(tmp_path, "openvino-fp32", "ddim-2"))


def test_deploy_wants_a_certificate_of_this_checkpoint(make, tiny_dataset, tmp_path):
    model = make()
    checkpoint.save(tmp_path / "last", model, {"step": 1, "task": "toy"})
    config = compose_config("deploy", [str(tmp_path / "last"), "runtime=compiled"])
    with pytest.raises(ConfigError, match=r"hotstart certify .*data=DATA runtime=compiled"):
        check_certificate(config)
    policy = DiffusionPolicy(model, Fresh(2))
    differences = compare_plans(policy, policy, tiny_dataset, 1)
    folder = checkpoint.find(tmp_path / "last")
    weights = find_weights_hash(checkpoint.read_meta(folder))
    assert weights is not None
    right = Certificate(
        weights,
        "compiled-fp32",
        label(config),
        config["inference"],
        1e-3,
        differences,
        "d",
        {},
        {},
        "2026-01-01",
    )
    right.save(folder)
    check_certificate(config)
    for wrong, words in (
        ({"checkpoint": "0"}, "other weights"),
        ({"sampler": {}}, "other sampler settings"),
        ({"tolerance": -1.0}, "beyond the tolerance"),
    ):
        replace(right, **wrong).save(folder)
        with pytest.raises(ConfigError, match=words):
            check_certificate(config)


def test_certify_compares_a_checkpoint_by_the_command_line(make, store_tiny, tmp_path, capsys):
    need("openvino")
    checkpoint.save(tmp_path / "last", make(), {"step": 1, "task": "toy", "rate_hz": 10})
    store_tiny(tmp_path / "data.zarr", 2)
    words = [str(tmp_path / "last"), f"data={tmp_path / 'data.zarr'}", "plans=3"]
    words += ["runtime=openvino", "inference=ddim", "inference.steps=2"]
    assert main(["certify", *words]) == 0
    assert "openvino-fp32, ddim-2: plans differ from PyTorch's by" in capsys.readouterr().out
    found = Certificate.load(
        find_path(checkpoint.find(tmp_path / "last"), "openvino-fp32", "ddim-2")
    )
    assert found.passed and found.differences.plans == 3
