"""The options of `hotstart record` and `hotstart replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..spec import REQUIRED, Part, option


@dataclass(kw_only=True)
class OnRobot:
    """How a robot is reached that moves without a policy."""

    robot: Part = option(REQUIRED, "the robot by its name, and its options as robot.KEY=VALUE")
    cameras: dict[str, str] = option(
        {}, "an arm's cameras by name, each KIND:PLACE, as cameras.front=opencv:0"
    )
    camera_size: tuple[int, ...] = option((240, 320), "height and width of pictures", "px")
    rate_hz: float = option(20.0, "control rate of an arm", "Hz")
    box: tuple[float, ...] = option(
        (), "where the tool may be, x0,x1,y0,y1,z0,z1 in the arm's frame; empty: anywhere", "m"
    )
    stage: str = option(
        "", "control port of a simulated arm, HOST:PORT: begins and judges episodes; empty: none"
    )


@dataclass
class Record(OnRobot):
    """Record demonstrations: an operator moves the robot, keys begin and end episodes.

    C begins an episode, S ends it (then Y: success, N: failure), Backspace drops it or takes the
    last one back, Q ends. What is finished outlives a kill and a power cut; the same command goes
    on. The robot is stopped first, however it ends.

      hotstart record data/lift.zarr robot=so101 robot.port=/dev/ttyACM0 \\
          teleop=leader teleop.port=/dev/ttyACM1
    """

    out: Path = option(REQUIRED, "the store to append to; it is made", positional=True)
    teleop: Part = option(
        Part("keyboard"),
        "who moves it: keyboard, spacemouse, leader or scripted; options as teleop.KEY=VALUE",
    )
    speed: float = option(
        1.0, "share of an arm's own limits of velocity and acceleration, above 0 to 1"
    )
    task: str = option("", "what is shown, in words")
    episodes: int = option(0, "end when the store has so many; 0: when Q is pressed")
    seconds: float = option(0.0, "longest episode; 0: until S is pressed", "s")
    ask: bool = option(
        True,
        "whether keys begin and end episodes; false: a stage does, and keeps those that succeed",
    )
    overlay: Path | None = option(
        None, "store whose first picture is laid over the live one, to put things back; none: none"
    )
    overlay_episode: int = option(0, "which of its episodes; -1: the last")
    overlay_camera: str = option("", "which camera of it; empty: the first")
    overlay_out: Path = option(
        Path("overlay.jpg"), "where both pictures are written, with a page beside that shows them"
    )
    seed: int = option(0, "of the first scene on a stage; each episode there takes the next one")
    memory_mb: float = option(256.0, "what pictures may take that wait for compression", "MB")


@dataclass
class Replay(OnRobot):
    """Let a robot repeat the actions of a recorded episode, and print how closely it follows.

    The robot goes to the episode's first action slowly. Its own limits and checks hold as in a
    deployment.

      hotstart replay data/lift.zarr robot=so101 robot.port=/dev/ttyACM0 episode=3 speed=0.5
    """

    data: Path = option(REQUIRED, "the store", positional=True)
    episode: int = option(0, "which episode; -1: the last")
    speed: float = option(0.5, "how fast, 1 is as recorded; an arm's own limits hold")
    approach_s: float = option(4.0, "time to go to the first action", "s")
