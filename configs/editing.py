"""Options of the actions of `hotstart data` that make new data sets of others, or show them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..spec import REQUIRED, option


@dataclass
class Merge:
    """Join data sets into a new one: hotstart data merge A.zarr B.zarr OUT.zarr.

    Rate, actions and observations must be the same; the message names what differs. Where the
    sources have different tasks, each becomes the instruction of its episodes. Extras that not all
    sources have (reward, success, actor, weight, ...) are left out, or fill= gives their number.
    """

    paths: tuple[Path, ...] = option(
        REQUIRED, "the data sets, in any format, and last the new one's folder", positional=True
    )
    task: str = option("", "one task for all; empty: what the sources say")
    fill: dict[str, float] | None = option(
        None, "numbers of extras that a source lacks, as in weight:1,actor:4"
    )
    common: bool = option(False, "whether to leave out observations that not all sources have")


@dataclass
class Split:
    """Divide a data set into two: hotstart data split DATA.zarr TRAIN.zarr TEST.zarr share=0.1.

    The second one gets a share of the episodes, those that are named, or those without success; the
    first one gets the rest. With a share and the seed of a training, these are the episodes that
    this training validates on.
    """

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    first: Path = option(REQUIRED, "folder of the first new data set", positional=True)
    second: Path = option(REQUIRED, "folder of the second", positional=True)
    share: float | None = option(None, "share of the episodes, drawn by chance, as 0.1")
    seed: int = option(0, "what the chance comes from; training.seed gives a training's episodes")
    episodes: str = option("", "numbers of the episodes of the second, as 0-9,17")
    success: bool = option(False, "whether the second gets the episodes without success")


@dataclass
class Filter:
    """Keep episodes that fulfil all conditions: hotstart data filter A.zarr B.zarr success=true.

    A condition that is not given asks nothing.
    """

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    target: Path = option(REQUIRED, "the new data set's folder", positional=True)
    success: bool | None = option(None, "whether the episode was successful in one of its steps")
    min_steps: int | None = option(None, "least number of steps")
    max_steps: int | None = option(None, "greatest number of steps")
    min_score: float | None = option(None, "least score of the last step")
    actor: str | None = option(
        None, "who acted in one of the steps: policy, hold, intervention, operator or nobody"
    )
    task: str | None = option(None, "its instruction, or the data set's task where it has none")
    episodes: str = option("", "numbers of the episodes, as 0-9,17")


@dataclass
class Trim:
    """Cut the ends of episodes: hotstart data trim A.zarr B.zarr still=0.001 keep_s=0.5.

    A step stands still where no number changes by more than `still` times the range that it has in
    the whole data set. Episodes of which less than two steps are left go.
    """

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    target: Path = option(REQUIRED, "the new data set's folder", positional=True)
    still: float | None = option(
        None, "change from step to step that still counts as standing; none: standing is kept"
    )
    keys: tuple[str, ...] = option((), "whose numbers are looked at; empty: all states")
    keep_s: float = option(0.0, "so much standing still is kept at both ends", "s")
    start_s: float = option(0.0, "so much is cut from the beginning", "s")
    end_s: float = option(0.0, "so much is cut from the end", "s")


@dataclass
class Drop:
    """Leave out episodes, keys or cameras: hotstart data drop A.zarr B.zarr episodes=3,7."""

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    target: Path = option(REQUIRED, "the new data set's folder", positional=True)
    episodes: str = option("", "numbers of the episodes, as 0-9,17")
    keys: tuple[str, ...] = option((), "observations and extras")
    cameras: bool = option(False, "whether to leave out all pictures")


@dataclass
class Relabel:
    """Change what a data set says of itself: task, instructions, outcomes, names, units, rate.

    No state, action or picture changes. A new fps makes the timestamps anew where they were
    frame / fps; recorded ones stay.

      hotstart data relabel A.zarr B.zarr task="lift the cube" success=false episodes=3,17
      hotstart data relabel A.zarr B.zarr names=action_0:shoulder units=shoulder:rad fps=30
    """

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    target: Path = option(REQUIRED, "the new data set's folder", positional=True)
    task: str | None = option(None, "what is demonstrated")
    instruction: str | None = option(None, "instruction of the episodes")
    success: bool | None = option(
        None,
        "whether the episodes were successful; others get the opposite where none is known",
    )
    episodes: str = option("", "those whose instruction and success change, as 0-9,17; empty: all")
    rename: dict[str, str] | None = option(None, "observations to rename, old:new")
    names: dict[str, str] | None = option(None, "numbers of the action to rename, old:new")
    units: dict[str, str] | None = option(None, "their units, name:unit")
    fps: float | None = option(None, "steps per second", "Hz")


@dataclass
class Diff:
    """Compare two data sets: specifications, episodes, every number; exit status 1 if unlike.

    Episodes are the same where their actions and states are, wherever they stand. For each key: in
    how many steps it differs, the largest difference and where, and the statistics of both.
    """

    first: Path = option(REQUIRED, "a data set, in any format", positional=True)
    second: Path = option(REQUIRED, "another one", positional=True)
    json: bool = option(False, "whether to print JSON")


@dataclass
class View:
    """Show a data set as a page: hotstart data view A.zarr out=view.html.

    The page loads nothing: what the data set holds, what verify finds, films, camera strips and
    curves of some episodes, and statistics. Shown are the first, the last, the longest, the
    shortest and a failed episode, unless episodes= names others.
    """

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    out: Path = option(Path("view.html"), "the page to write")
    episodes: str = option("", "those to show, as 0-9,17; empty: a few unlike ones")
    video: bool = option(True, "whether to make films of the cameras")
    rerun: Path | None = option(
        None, "a recording (.rrd) of these episodes to write too; needs the extra `view`"
    )
    fps: float | None = option(None, "rate of the steps; needed where the format has none", "Hz")
    mapping: Path | None = option(None, "a file that says which topics become which keys (YAML)")
    overwrite: bool = option(False, "whether files of these names may be replaced")


@dataclass
class Recompute:
    """Compute observations for a raw collection of robosuite (demo.hdf5 with states and actions).

    Every recorded state is put into the installed robosuite, which says what the task observes
    there. Of the recorded scene only names, positions and sizes are taken; no file that it names is
    opened. The actions are also replayed, from the first state on, and the outcome is printed.
    Known are Lift, Stack, Door, NutAssembly and PickPlace.
    """

    source: Path = option(REQUIRED, "demo.hdf5, or the folder that holds it", positional=True)
    target: Path = option(REQUIRED, "the new data set's folder", positional=True)
    replay: bool = option(True, "whether to replay the actions too")
