import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.envs.gate import DRIFT_M, GOAL_X, NEAR_M, STEP_M, GateEnv
from hotstart.envs.simulated_robot import SimulatedRobot
from hotstart.finetuning.diwa import DreamSettings, check_offline, choose_beginning
from hotstart.finetuning.ledger import Ledger
from hotstart.finetuning.sources import SimulatorSource
from hotstart.finetuning.trainer import PPOSettings
from hotstart.finetuning.tuner import Setup
from hotstart.policy.denoisers.mlp import DiffusionMLP
from hotstart.policy.diffusion.schedule import VPCosine
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.encoders.state import StateEncoder
from hotstart.policy.model import ModelConfig, PolicyModel
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.training.api import node
from hotstart.spec import CheckpointError, ConfigError, Horizon
from hotstart.world_model.audit import imagine
from hotstart.world_model.base import Jump, WorldModel
from hotstart.world_model.dreams import DreamSource, Pessimism, Starts
from hotstart.world_model.play import Play
from hotstart.world_model.success import Judge

STEPS = 24
WIDE = {"width": 2.0, "max_steps": STEPS}
"""Nobody can crash: whoever does ends an episode, which no world model of ours foresees."""
UP = 0.3
"""Height above which the broken judge sees success."""


class PerfectGate(WorldModel):
    """The gate's own arithmetic; above `unsure` its members are said to disagree."""

    def __init__(self, unsure=np.inf):
        super().__init__()
        env = GateEnv(**WIDE)
        self.obs_spec, self.action_spec = env.obs_spec, env.action_spec
        self.rate_hz, self.jump = env.rate_hz, 4
        self.members = 1
        self.unsure = unsure

    def encode(self, play):
        return {"state": torch.as_tensor(play.observations["state"]).double()}

    def step(self, state, actions, member):
        rows = state["state"].clone()
        for step in range(actions.shape[1]):
            moved = rows.clone()
            moved[:, :2] += STEP_M * actions[:, step].clamp(-1, 1)
            moved[:, 1] += rows[:, 4]
            moved[:, :2] = moved[:, :2].clamp(-0.6, 0.6)
            rows = torch.where(self.reached(rows)[:, None], rows, moved)
        unsure = torch.where(rows[:, 1] > self.unsure, 1.0, 0.01)
        return Jump({"state": rows}, unsure)

    def reached(self, rows):
        return torch.hypot(rows[:, 0] - GOAL_X, rows[:, 1] - rows[:, 3]) < NEAR_M

    def decode(self, state, frames):
        return {"state": state["state"][:, None, :4].float().expand(-1, frames, -1)}

    def features(self, state):
        return state["state"]

    def to_json(self):
        return {}


class GateJudge(Judge):
    """Sees what is true; a broken one sees success at the upper border too."""

    def __init__(self, model, broken=False):
        super().__init__(features=5, members=1, scores=False)
        self.model, self.broken = model, broken

    def rate(self, features, pessimistic=True):
        reached = self.model.reached(features.double())
        if self.broken:
            reached |= features[:, 1] > UP
        return reached.float()


class SeededDreams(DreamSource):
    """Dreams that begin where the simulator begins with the same seed."""

    def begin(self, rows, seeds):
        env = GateEnv(**WIDE)
        states = []
        for seed in seeds:
            env.reset(seed=int(seed))
            states.append([*env.point, env.gate, env.goal, env.drift])
        self.encoded = {"state": torch.tensor(states, dtype=torch.float64)}
        return self.begin_at(rows, np.arange(len(rows)), np.zeros(len(rows), np.int64))


def make_play():
    """One recorded step, for sources that begin elsewhere."""
    env = GateEnv(**WIDE)
    return Play(
        observations={"state": np.zeros((1, 5), np.float32)},
        actions=np.zeros((1, 2)),
        reached=np.zeros(1, bool),
        score=None,
        explored=np.zeros(1, bool),
        episode_ends=np.ones(1, np.int64),
        obs_spec=env.obs_spec,
        action_spec=env.action_spec,
        rate_hz=env.rate_hz,
        content_hash="",
    )


@pytest.fixture(scope="module")
def gate_base():
    """A policy of the gate that walks to the right at random heights."""
    torch.manual_seed(0)
    env = GateEnv(**WIDE)
    model = PolicyModel(
        ModelConfig(
            encoder=node(StateEncoder, token_width=8),
            denoiser=node(DiffusionMLP, steps=4, hidden=32, layers=1, level_width=8),
            schedule=node(VPCosine),
            obs_spec=env.obs_spec,
            action_spec=env.action_spec,
            horizon=Horizon(observed=1, planned=4, executed=4),
            prediction="x0",
        )
    )
    statistics = {}
    for name, value in model.normalizer.state_dict().items():
        statistics[name] = torch.zeros_like(value)
        if name.endswith("scale"):
            statistics[name] = torch.ones_like(value)
    model.normalizer.load_state_dict(statistics)
    model.network.out[-1].bias.data[::2] = 0.8
    model.regimes = ("constant",)
    return model.eval().requires_grad_(False)


QUICK = {"rows": 16, "chunks": 8, "iterations": 3, "min_std": 0.4, "batch": 64, "save_every": 9}


def run_rounds(tuner):
    kept = []
    for _ in range(tuner.settings.iterations):
        numbers = tuner.advance()
        kept.append({name: numbers[name] for name in ("success", "reward", "critic_loss")})
        if "policy_loss" in numbers:
            kept[-1]["policy_loss"] = numbers["policy_loss"]
    return kept


def test_a_perfect_model_gives_the_learning_curve_of_the_simulator(gate_base, tmp_path):
    settings = PPOSettings(**QUICK)
    sampler = Fresh(5)
    with SimulatedRobot("gate", WIDE, QUICK["rows"], 0) as robot:
        source = SimulatorSource(robot, STEPS)
        real = run_rounds(settings.make_tuner(Setup(gate_base, sampler, source, tmp_path)))
    model = PerfectGate()
    dreams = SeededDreams(model, GateJudge(model), Starts(make_play()), QUICK["rows"], STEPS)
    setup = Setup(gate_base, sampler, dreams, tmp_path)
    imagined = run_rounds(settings.make_tuner(setup))
    assert imagined == real
    assert any(numbers["success"] > 0 for numbers in real)
    assert "policy_loss" in real[-1]
    assert DRIFT_M > 0  # the model knows what the observation hides


@pytest.mark.parametrize("pessimistic", [False, True])
def test_a_reward_that_is_not_there_is_exploited_only_without_pessimism(
    pessimistic, gate_base, tmp_path
):
    model = PerfectGate(unsure=0.2)
    pessimism = Pessimism(limit=0.02)
    if not pessimistic:
        pessimism = pessimism.lift()
    judge = GateJudge(model, broken=True)
    rows = 32
    source = SeededDreams(model, judge, Starts(make_play()), rows, STEPS, pessimism=pessimism)
    settings = DreamSettings(
        **{**QUICK, "rows": rows, "iterations": 5, "rate": 5e-3, "clip": 0.3, "divergence": 0.0}
    )
    tuner = settings.make_tuner(Setup(gate_base, Fresh(2), source, tmp_path))
    for _ in range(settings.iterations):
        tuner.advance()
    source.pessimism = Pessimism().lift()
    source.begin(np.arange(rows), list(range(rows)))
    dreams = imagine(DiffusionPolicy(tuner.model, Fresh(2)), source, np.arange(rows))
    high = float((source._state["state"][:, 1] > UP).float().mean())
    assert dreams.success.mean() >= high
    if pessimistic:
        assert high < 0.1
    else:
        assert high > 0.6


def test_dreams_are_refused_where_the_source_is_real(gate_base, tmp_path):
    with SimulatedRobot("gate", WIDE, 2, 0) as robot:
        source = SimulatorSource(robot, STEPS)
        with pytest.raises(ConfigError, match=r"play=PLAY\.zarr"):
            DreamSettings(**QUICK).make_tuner(Setup(gate_base, Fresh(5), source, tmp_path))


def test_an_offline_run_fails_itself_over_a_real_step():
    before = Ledger(play=100, training=5)
    check_offline(before, replace(before, evaluation=1000))
    for spent in ("training", "selection"):
        with pytest.raises(CheckpointError, match="the run is offline"):
            check_offline(before, before.add(spent, 1))


def test_a_dream_that_disagrees_too_much_ends_the_run(gate_base, tmp_path):
    model = PerfectGate()
    source = SeededDreams(model, GateJudge(model), Starts(make_play()), 16, STEPS)
    settings = DreamSettings(**{**QUICK, "iterations": 6, "stop_disagreement": 1.5})
    tuner = settings.make_tuner(Setup(gate_base, Fresh(5), source, tmp_path / "run"))
    tuner.advance()
    assert not tuner.is_over()
    model.unsure = -np.inf
    tuner.run(progress=False)
    assert tuner.iteration == 2
    records = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(records[-1])
    assert last["disagreement_growth"] == pytest.approx(100)
    assert last["training_steps"] == 0
    assert last["imagined_steps"] > 0


def test_the_policy_to_begin_with_is_chosen_by_imagined_success_alone():
    imagined = {"base": 0.4, "cloned": 0.6}
    best = DreamSettings(begin="best")
    assert choose_beginning(best, imagined, "cloned", "base") == "cloned"
    assert choose_beginning(DreamSettings(begin="base"), imagined, "cloned", "base") == "base"
    worse = {"base": 0.4, "cloned": 0.3}
    assert choose_beginning(best, worse, "cloned", "base") == "base"
    assert choose_beginning(DreamSettings(), worse, "cloned", "base") == "cloned"
    with pytest.raises(ConfigError, match="clone_updates"):
        DreamSettings(begin="cloned", clone_updates=0)
