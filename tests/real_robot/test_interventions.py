"""An operator takes a robot over in the midst of a rollout, and what it shows is recorded."""

from dataclasses import replace

import numpy as np
from hotstart.control import LoopSettings, VirtualClock, run
from hotstart.datasets.store import Store
from hotstart.planners import ImmediatePlanner
from hotstart.real_robot.interventions import Alarmed, Stalled, TakeOver
from hotstart.real_robot.keys import KeyBox
from hotstart.real_robot.recorder import Recorder
from hotstart.real_robot.replaying import ReplayPolicy
from hotstart.real_robot.teleop import make
from hotstart.spec import Actor, Feedback

from .bench_arm import Arm, make_tick


def test_an_operator_takes_over_without_a_jump_and_gives_back(tmp_path):
    clock = VirtualClock()
    arm, box = Arm(clock), KeyBox()
    wrong = np.stack([0.02 * np.arange(60), np.zeros(60), np.ones(60)], 1)
    policy = ReplayPolicy(wrong, arm.action_spec)
    keyboard = make("keyboard", arm.action_spec, box, step=0.05)
    said: list[str] = []
    take_over = TakeOver(arm, keyboard, box, say=said.append, clock=clock)
    presses = {10: ["up", "space"], 12: ["down"], 13: ["down", "2", "+"], 20: ["space"]}

    def press(tick):
        box.press(*presses.get(tick.number, ()))

    with Recorder(tmp_path / "a.zarr", arm, planner=Actor.POLICY, clock=clock) as recorder:
        recorder.begin()
        settings = LoopSettings(30)
        listeners = [press, recorder]
        run(arm, policy, ImmediatePlanner(policy), clock, [0], settings, listeners, take_over)
        recorder.finish(success=True)
        recorder.wait()
    episode = Store.open(tmp_path / "a.zarr").episode(0)
    actors = episode["actor"].tolist()
    assert actors == [Actor.POLICY] * 11 + [Actor.INTERVENTION] * 10 + [Actor.POLICY] * 9
    shoulder = episode["action"][:, 0]
    np.testing.assert_allclose(shoulder[:11], 0.02 * np.arange(11), rtol=1e-6)
    np.testing.assert_allclose(shoulder[11:13], 0.2, rtol=1e-6)  # where it was: no jump
    np.testing.assert_allclose(shoulder[13:15], [0.15, 0.1], rtol=1e-6)
    np.testing.assert_allclose(episode["action"][20, 1], 0.05, rtol=1e-6)
    assert said == ["you have the robot; space gives it back", "the policy goes on"]
    assert take_over.count == 1


def test_a_key_pressed_twice_at_once_changes_nothing_and_a_lost_terminal_holds():
    clock = VirtualClock()
    arm, box = Arm(clock), KeyBox()
    policy = ReplayPolicy(np.full((9, 3), 0.5), arm.action_spec)
    take_over = TakeOver(arm, make("keyboard", arm.action_spec, box), box, clock=clock)
    box.press("space", "space")

    def press(tick):
        if tick.number == 4:
            box.press("space")
        box.closed = tick.number > 5

    run(arm, policy, ImmediatePlanner(policy), clock, [0], LoopSettings(9), [press], take_over)
    assert take_over.active
    np.testing.assert_allclose(arm.told, np.full((9, 3), 0.5))


def test_rules_hold_where_the_score_rests_or_an_alarm_came_and_take_over_once_an_episode():
    arm, box = Arm(VirtualClock()), KeyBox()
    alarms = [1]
    stalled, alarmed = Stalled(0.35), Alarmed(alarms)
    keyboard = make("keyboard", arm.action_spec, box)
    take_over = TakeOver(arm, keyboard, box, say=lambda line: None, rules=[stalled, alarmed])

    def live_through(scores):
        """Whether the operator had the arm in each turn."""
        for part in (stalled, alarmed, take_over):
            part.begin()
        active = []
        for number, score in enumerate(scores):
            tick = make_tick(arm, number)
            take_over(tick)
            active.append(take_over.active)
            stalled(replace(tick, feedback=replace(Feedback.silent(1), score=np.array([score]))))
        return active

    assert live_through([0, 0, 0.1, 0.13, 0.13, 0.13, 0.13]) == [False] * 6 + [True]
    assert live_through([0.1 * n for n in range(8)]) == [False] * 8
    alarms.append(2)
    take_over.begin()
    assert take_over(make_tick(arm, 0)) is not None
    box.press("space")
    assert take_over(make_tick(arm, 1)) is None
    assert take_over(make_tick(arm, 2)) is None, "it was given back"
