"""The dashboard of a simulated controller: one line asks, one line answers.

Source: Universal Robots, "Dashboard Server e-Series, port 29999".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .ur_controller import Controller, RobotMode, SafetyMode

GREETING = "Connected: Universal Robots Dashboard Server"
VERSION = (5, 12, 0, 1101319)
SERIAL = "20225500000"
MODES_ALWAYS_HEARD = (
    "is in remote control",
    "polyscopeversion",
    "get serial number",
    "get robot model",
    "robotmode",
    "safetystatus",
    "safetymode",
    "running",
    "programstate",
)
"""What is answered in local control too; everything else is refused there."""


def answer(line: str, controller: Controller) -> str:
    """What the dashboard says to one line."""
    asked = line.strip().lower()
    if not controller.remote and asked not in MODES_ALWAYS_HEARD:
        return f"Command is not allowed due to safety reasons: {asked}"
    if asked.startswith(("popup ", "addtolog ")):
        controller.log(line.strip())
        return "showing popup"
    action = ANSWERS.get(asked)
    if action is None:
        return f'could not understand: "{asked}"'
    return action(controller)


def _power_on(controller: Controller) -> str:
    controller.power_on()
    return "Powering on"


def _power_off(controller: Controller) -> str:
    controller.power_off()
    return "Powering off"


def _release_brakes(controller: Controller) -> str:
    controller.release_brakes()
    return "Brake releasing"


def _stop(controller: Controller) -> str:
    controller.end_program("stopped from the dashboard")
    return "Stopped"


def _play(controller: Controller) -> str:
    return "Failed to execute: play"


def _close_popup(controller: Controller) -> str:
    return "closing popup"


def _close_safety_popup(controller: Controller) -> str:
    return "closing safety popup"


def _unlock(controller: Controller) -> str:
    return controller.unlock()


def _tell_mode(controller: Controller) -> str:
    return f"Robotmode: {RobotMode(controller.robot_mode).name}"


def _tell_safety_mode(controller: Controller) -> str:
    return f"Safetymode: {SafetyMode(controller.safety_mode).name}"


def _tell_safety_status(controller: Controller) -> str:
    return f"Safetystatus: {SafetyMode(controller.safety_mode).name}"


def _tell_remote(controller: Controller) -> str:
    return str(controller.remote).lower()


def _tell_running(controller: Controller) -> str:
    return f"Program running: {str(controller.script is not None).lower()}"


def _tell_program(controller: Controller) -> str:
    if controller.script is None:
        return "STOPPED rtde_control.urp"
    return "PLAYING rtde_control.urp"


def _tell_version(controller: Controller) -> str:
    return f"URSoftware {'.'.join(map(str, VERSION))} (Mar 22 2022)"


def _tell_serial(controller: Controller) -> str:
    return SERIAL


def _tell_model(controller: Controller) -> str:
    return "UR5"


ANSWERS: Mapping[str, Callable[[Controller], str]] = {
    "power on": _power_on,
    "power off": _power_off,
    "brake release": _release_brakes,
    "stop": _stop,
    "play": _play,
    "close popup": _close_popup,
    "close safety popup": _close_safety_popup,
    "unlock protective stop": _unlock,
    "robotmode": _tell_mode,
    "safetymode": _tell_safety_mode,
    "safetystatus": _tell_safety_status,
    "is in remote control": _tell_remote,
    "running": _tell_running,
    "programstate": _tell_program,
    "polyscopeversion": _tell_version,
    "get serial number": _tell_serial,
    "get robot model": _tell_model,
}
