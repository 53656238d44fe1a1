"""The axis of arms, entries by name, and choices that do not exist."""

import pytest
from hotstart.configs.compose import compose_config, list_choices
from hotstart.real_robot.drivers import registry as drivers
from hotstart.real_robot.registry import DRIVERS
from hotstart.spec import ConfigError

UR = ("runs/push", "robot=ur5e", "robot.host=127.0.0.1")


def test_an_arm_is_a_choice_with_the_options_of_its_driver():
    config = compose_config("deploy", [*UR, "robot.velocity=0.5"])
    assert config["choices"]["robot"] == "ur5e"
    assert config["robot"]["velocity"] == 0.5
    options = dict(config["robot"])
    assert options.pop("_target_") in DRIVERS["robot"]
    driver = drivers.make("ur5e", **options)
    assert driver.name == "ur5e"
    assert driver.limits.velocity.max() == pytest.approx(0.5)


def test_cameras_are_named_one_by_one():
    words = ["cameras.front=opencv:0", "cameras.wrist=http://127.0.0.1:8080/wrist?fps=30"]
    config = compose_config("deploy", [*UR, *words])
    assert config["cameras"] == {
        "front": "opencv:0",
        "wrist": "http://127.0.0.1:8080/wrist?fps=30",
    }


@pytest.mark.parametrize(
    ("verb", "words", "expected"),
    [
        ("deploy", ["runs/x", "robot=ur5"], r"robot=ur5 is unknown \(did you mean 'ur5e'\?\)"),
        ("deploy", ["runs/x", "robot=ur5e"], "robot.host must be given"),
        ("deploy", [*UR, "robot.gane=300"], "there is no 'robot.gane' here"),
        ("evaluate", ["runs/x", "task=lifft"], "task=lifft is unknown"),
    ],
)
def test_mistakes_are_refused_with_the_valid_choices(verb, words, expected):
    with pytest.raises(ConfigError, match=expected):
        compose_config(verb, words)


def test_every_driver_with_plain_options_is_a_choice():
    assert {"ur5e", "so101"} <= set(list_choices("robot")) <= set(drivers.names())
