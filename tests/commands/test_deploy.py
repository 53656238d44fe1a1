"""`hotstart deploy`: the same actions as in simulation, a rehearsal at the wire, and refusals."""

import json
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import hotstart
import numpy as np
import pytest
from hotstart.cli import main
from hotstart.commands import deploy
from hotstart.commands.deploy_robot import make_cameras
from hotstart.commands.evaluate import evaluate, find_weights_hash
from hotstart.configs.compose import compose_config
from hotstart.configs.deploy import Deploy
from hotstart.control import LoopSettings, VirtualClock, run
from hotstart.datasets.store import Store
from hotstart.envs.simulated_robot import SimulatedRobot
from hotstart.evaluation.conformal import Threshold
from hotstart.planners import ImmediatePlanner
from hotstart.policy import checkpoint
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.failure import Detector
from hotstart.real_robot.cameras import CameraProcess
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.sim.rehearsal import Rehearsal, RehearsalOptions
from hotstart.real_robot.watchdogs import Thresholds
from hotstart.spec import Actor, ConfigError, ObsKey, ObsSpec

ADDRESS = "127.0.0.41"
KEYS = ("joints", "tool", "object", "goal")


@pytest.fixture(scope="module")
def arm():
    """A UR5e in its scene, as an environment."""
    with SimulatedRobot("ur5e_push", {"max_steps": 12}, 1, 0) as robot:
        yield robot


@pytest.fixture(scope="module")
def trained(arm, tmp_path_factory):
    """A policy that has seen the arm stand still for a moment: it hardly moves."""
    folder = tmp_path_factory.mktemp("deploy") / "push"
    episodes = []
    for seed in range(3):
        arm.reset([seed])
        steps = {name: [] for name in (*KEYS, "action")}
        for _ in range(20):
            for name, value in arm.observe().items():
                steps[name].append(value[0])
            held = arm.hold_position()
            steps["action"].append(held[0])
            arm.act(held)
        episodes.append({name: np.array(values) for name, values in steps.items()})
    data = hotstart.Arrays(episodes, fps=10, action_spec=arm.action_spec, obs_spec=arm.obs_spec)
    horizon = hotstart.Horizon(observed=2, planned=16, executed=4)
    settings = hotstart.TrainingSettings(steps=30, batch=16)
    denoiser = hotstart.DiffusionMLP
    hotstart.train(data, folder, settings, denoiser=denoiser, horizon=horizon, progress=False)
    return folder


def compose(trained, tmp_path, *words):
    return compose_config(
        "deploy",
        [
            str(trained),
            "robot=ur5e",
            f"robot.host={ADDRESS}",
            f"runs={tmp_path}",
            "name=run",
            *words,
        ],
    )


def test_actions_are_those_of_the_simulation_for_the_same_seed(arm, trained, tmp_path, monkeypatch):
    @contextmanager
    def open_arm(config, model, rate_hz):
        arm.report = dict
        yield arm

    monkeypatch.setattr(deploy, "open_robot", open_arm)
    config = compose(trained, tmp_path, "planner=sync", "seconds=1.2", "ask=false", "seed=7")
    deployed = deploy.deploy(config)
    policy = DiffusionPolicy.load(trained, hotstart.WarmStart())
    planner = ImmediatePlanner(policy)
    (log,) = run(arm, policy, planner, VirtualClock(), [7], LoopSettings(12))
    assert len(deployed.times.actions) == len(log.commands) == 12
    np.testing.assert_array_equal(deployed.times.actions, log.commands)
    arguments = [
        str(trained),
        "task=ur5e_push",
        "episodes=1",
        "seed=7",
        "inference=rti",
        "workers=0",
    ]
    evaluated = compose_config("evaluate", [*arguments, "task.max_steps=12", "out="])
    result, _ = evaluate(evaluated)
    assert deployed.result["smoothness"] == pytest.approx(result["smoothness"])


def test_what_is_finished_is_written_where_a_later_episode_fails(
    arm, trained, tmp_path, monkeypatch, capsys
):
    class Failing:
        """The arm, which fails in its second episode."""

        def __init__(self):
            self.episodes = 0

        def __getattr__(self, name):
            return getattr(arm, name)

        def report(self):
            return {}

        def reset(self, seeds):
            self.episodes += 1
            return arm.reset(seeds)

        def act(self, actions, substeps=None, timed=None):
            if self.episodes == 2:
                raise DriverError("the arm: protective stop")
            return arm.act(actions, substeps, timed)

    @contextmanager
    def open_arm(config, model, rate_hz):
        yield Failing()

    monkeypatch.setattr(deploy, "open_robot", open_arm)
    words = ["planner=sync", "seconds=0.5", "ask=false", "episodes=3"]
    with pytest.raises(DriverError, match="protective stop"):
        deploy.run(compose(trained, tmp_path, *words))
    assert "success 0.000" in capsys.readouterr().out
    timing = json.loads((tmp_path / "run/timing.json").read_text())
    assert timing["ended_by"] == "the arm: protective stop"
    assert len(timing["episodes"]) == 1


def test_a_rehearsal_at_the_wire_is_run_timed_and_written(trained, tmp_path, capsys, read_page):
    with Rehearsal(RehearsalOptions("ur5e", ADDRESS, cameras=False)) as rehearsal:
        words = [*rehearsal.device_words.split(), f"stage={rehearsal.stage_address}"]
        words += [
            "robot.watchdog_s=1",
            "robot.silence_s=3",
        ]  # a busy machine that runs tests is no real-time one
        detector = tmp_path / "failure.json"
        weights = find_weights_hash(checkpoint.read_meta(checkpoint.find(trained))) or ""
        low = Threshold(1e-9, np.zeros(1), np.ones(1), 0.1, 9)
        Detector.make("disagreement", low, weights, "rti-1").save(detector)
        words += [f"failure={detector}", f"record={tmp_path / 'taken.zarr'}"]
        options = ["seconds=0.8", "episodes=2", "inference.steps=1", f"runs={tmp_path}", "name=run"]
        assert main(["deploy", str(trained), *words, *options]) == 0
        assert main(["deploy", str(trained), *words, *options]) == 2, "nothing is replaced unasked"
    said = capsys.readouterr().out
    assert "episode 2, seed 100001: failure" in said
    timing = json.loads((tmp_path / "run/timing.json").read_text())
    assert timing["loop"]["turns"] >= 12
    assert timing["robot"]["faults"] == []
    assert timing["replan_at"] >= 1
    assert timing["alarms"], "every plan lies above so low a threshold"
    taken = Store.open(tmp_path / "taken.zarr")
    assert len(taken.episode_ends) == 2
    assert set(KEYS) <= set(taken.keys)
    assert hotstart.evaluation.results.load(tmp_path / "run/result.json")["episodes"] == 2
    page = read_page(tmp_path / "run/page.html")
    assert page is not None


def test_an_operator_takes_over_where_there_is_no_progress(arm, trained, tmp_path, monkeypatch):
    @contextmanager
    def open_arm(config, model, rate_hz):
        arm.report = dict
        yield arm

    monkeypatch.setattr(deploy, "open_robot", open_arm)
    words = ["planner=sync", "seconds=1", "stage=127.0.0.1:9", "episodes=2", "inference.steps=1"]
    words += ["takeover=scripted", "takeover_options.pace=1", "takeover_after_s=0.25"]
    deployed = deploy.deploy(compose(trained, tmp_path, *words, f"record={tmp_path / 'a.zarr'}"))
    assert deployed.result["taken_over"] == [100000, 100001]
    assert deployed.result["success"]["rate"] == 0
    store = Store.open(tmp_path / "a.zarr")
    for number in range(2):
        actors = store.episode(number)["actor"].tolist()
        first = actors.index(Actor.INTERVENTION)
        assert 2 <= first <= 5
        assert set(actors[:first]) == {Actor.POLICY}
        assert set(actors[first:]) == {Actor.INTERVENTION}
    moved = np.abs(np.diff(store.array("action")[:10], axis=0)).max(1)
    assert moved[6:].min() > 1e-3, "the demonstrator moves the arm at once"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["takeover_after_s=1"], "takeover_after_s needs who takes over"),
        (["takeover=scripted", "takeover_after_s=1"], "give stage="),
        (["takeover=scripted", "on_failure=takeover"], "failure="),
        (["takeover=scripted", "on_failure=ask"], "both read the terminal"),
        (["speed=2"], "speed is 2"),
        (["box=[0,1]"], "six numbers are wanted"),
        (["stage=example.org:80"], "127.0.0.1:PORT is wanted"),
        (["cameras.front=opencv:0"], "the policy has no camera 'front'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_connected(trained, tmp_path, words, expected):
    with pytest.raises(ConfigError, match=expected):
        deploy.deploy(compose(trained, tmp_path, *words))


def test_a_picture_is_refused_when_the_arms_watch_refuses_it_and_no_earlier():
    wanted = ObsSpec({"front": ObsKey((24, 32, 3), "uint8", "image")})
    camera = make_cameras({"cameras": {"front": "opencv:0"}}, wanted)["front"]
    assert isinstance(camera, CameraProcess)
    assert (camera.shape, camera.stale_s) == ((24, 32, 3), Thresholds().camera_s)


def test_every_option_is_read():
    folder = Path(deploy.__file__).parent
    readers = [*folder.glob("deploy*.py"), folder / "runtimes.py"]
    text = "".join(path.read_text() for path in readers)
    unread = [field.name for field in fields(Deploy) if f'"{field.name}"' not in text]
    assert unread == []


def test_an_arm_must_be_given(trained, tmp_path):
    with pytest.raises(ConfigError, match=r"valid: .*so101, ur5e"):
        deploy.deploy(compose_config("deploy", [str(trained)]))
