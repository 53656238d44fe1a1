"""The whole circle on a simulated SO-101: record, train, deploy, take over, train again, deploy."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.store import Store
from ..evaluation import results
from ..evaluation.pairing import compare_successes
from ..spec import Actor, ConfigError, HotstartError, option
from ..system import outputs
from ..system.versions import versions

PRIORITY = 20
"""Of SCHED_FIFO for the simulated arm, where that is permitted: below the controller's."""
PATIENCE = "robot.patience_s=0.4"
"""A simulated arm shares the machine with all else, and answers late at times."""
FIRST, SECOND = "first", "second"
BEFORE, AFTER = "before", "after"


@dataclass
class Options:
    """Let a scripted operator show and correct a lift, and print what the corrections bring.

    A simulated SO-101 is reached through the real Feetech client. The trials before and after have
    the same scenes; demonstrations and corrections have others. Calling it again goes on where it
    was ended.
    """

    folder: Path = option(Path("circle"), "where everything is written")
    demonstrations: int = option(30, "recorded by the scripted operator")
    corrections: int = option(40, "rollouts that it may take over")
    trials: int = option(50, "of each policy, with the same scenes")
    seconds: float = option(8.0, "longest episode [s]")
    takeover_after_s: float = option(4.0, "it takes over where the score rests for so long [s]")
    correction_weight: float = option(2.0, "of a step in which it took over; the policy's have 0")
    steps: int = option(9000, "of each training")
    hidden: int = option(512, "width of the MLP")
    tries: int = option(3, "of a stage, where a busy machine lets the arm fall silent")
    seed: int = option(400000, "of the first trial's scene")


class Circle:
    """The stages, each done once: what is done has a file in `done/`."""

    def __init__(self, options: Options, call: Callable[..., None]) -> None:
        """`call` runs a command of hotstart by its words, and raises where it fails."""
        self.options, self.folder = options, options.folder
        self._call = call
        self.demonstrations = options.folder / "demonstrations.zarr"
        self.rollouts = options.folder / "rollouts.zarr"
        self.arm: list[str] = []
        """The words that reach the arm and its stage."""

    def run(self) -> None:
        """Every stage that is not done; raises HotstartError for one that fails."""
        with simulate_arm(self.folder / "so101") as self.arm:
            self.do("record", self.record)
            self.do("verify", self.verify)
            self.do("train", lambda: self.train(FIRST, self.demonstrations))
            self.do("deploy", lambda: self.deploy(FIRST, BEFORE))
            self.do("take_over", self.take_over)
            self.do("train_again", lambda: self.train(SECOND, self.rollouts))
            self.do("deploy_again", lambda: self.deploy(SECOND, AFTER))

    def do(self, name: str, stage: Callable[[], None]) -> None:
        """One stage, unless it is done."""
        marker = self.folder / "done" / f"{name}.json"
        if marker.exists():
            print(f"== {name}: done before", flush=True)
            return
        print(f"== {name}", flush=True)
        began_s = time.monotonic()
        for left in reversed(range(self.options.tries)):
            try:
                stage()
                break
            except HotstartError as error:
                if not left:
                    raise
                print(f"{error}; it is tried again", flush=True)
        taken = {"seconds": time.monotonic() - began_s, "load": os.getloadavg()[0]}
        outputs.write_text(marker, json.dumps(taken))
        print(f"== {name}: {taken['seconds']:.0f} s", flush=True)

    def record(self) -> None:
        """Demonstrations; those of before a kill are kept."""
        count = self.options.demonstrations
        words = ["teleop=scripted", "ask=false", f"episodes={count}", "seconds=15", "seed=1000"]
        self._call("record", str(self.demonstrations), *self.arm, *words)

    def verify(self) -> None:
        """What `data verify` says of them."""
        self._call("data", "verify", str(self.demonstrations))

    def train(self, name: str, store: Path) -> None:
        """A small MLP that reads joints and object; corrections count more, the policy nothing."""
        options = self.options
        words = [f"runs={self.folder}", f"name={name}", "task=so101_lift", "denoiser=mlp"]
        words += ["task.obs_keys=[joints,object]", f"denoiser.hidden={options.hidden}"]
        words += ["denoiser.layers=3", f"training.steps={options.steps}", "training.batch=256"]
        words += ["training.learning_rate=0.001", "horizon.observed=1", "horizon.planned=24"]
        words += ["horizon.executed=12"]
        if name == SECOND:
            words.append("training.policy_weight=0")
            words.append(f"training.correction_weight={options.correction_weight}")
        self._forget(name)
        self._call("train", str(store), *words)

    def deploy(self, run: str, name: str, *words: str) -> None:
        """Trials of a policy; `words` replace those of the trials."""
        options = self.options
        trials = (f"episodes={options.trials}", f"seed={options.seed}")
        trials = (*trials, f"seconds={options.seconds}")
        self._forget(name)
        self._call(
            *("deploy", str(self.folder / run), *self.arm, f"runs={self.folder}", f"name={name}"),
            *("inference=ddim", "inference.steps=10", "soft_start_s=0.2"),
            *(words or trials),
        )

    def take_over(self) -> None:
        """Rollouts in other scenes, appended to a copy of the demonstrations."""
        options = self.options
        shutil.rmtree(self.rollouts, ignore_errors=True)
        shutil.copytree(self.demonstrations, self.rollouts)
        self.deploy(
            FIRST,
            "corrections",
            f"record={self.rollouts}",
            "takeover=scripted",
            f"takeover_after_s={options.takeover_after_s}",
            f"seconds={2 * options.seconds}",
            f"episodes={options.corrections}",
            f"seed={options.seed + 100000}",
        )

    def _forget(self, name: str) -> None:
        """Remove what a stage has left that was ended before its end."""
        shutil.rmtree(self.folder / name, ignore_errors=True)


def run(options: Options) -> None:
    """Run the circle, and print success before and after."""
    print(describe(go_round(options, call)))


def go_round(options: Options, call: Callable[..., None]) -> dict[str, Any]:
    """Do the stages that are not done; returns what they have brought."""
    counts = (options.demonstrations, options.corrections, options.trials, options.tries)
    if min(counts) < 1:
        raise ConfigError("demonstrations, corrections, trials and tries must be at least 1")
    options.folder.mkdir(parents=True, exist_ok=True)
    Circle(options, call).run()
    found = summarise(options.folder)
    outputs.write_text(options.folder / "circle.json", json.dumps(found, indent=1))
    return found


def call(*words: str) -> None:
    """A command of hotstart in a process of its own; HotstartError where it fails."""
    print(f"hotstart {' '.join(words)}", flush=True)
    program = [sys.executable, "-m", __name__.partition(".")[0], *words]
    status = subprocess.run(program, env=make_environment(), check=False).returncode
    if status:
        raise HotstartError(f"hotstart {words[0]} ended with status {status}; call it again")


def make_environment() -> dict[str, str]:
    """This process's, for one that finds the same packages."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@contextmanager
def simulate_arm(link: Path) -> Iterator[list[str]]:
    """A simulated SO-101 in a process of its own; gives the words that reach it."""
    code = f"from {__package__}.circle import serve_arm; serve_arm()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(link)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=make_environment(),
    )
    try:
        assert process.stdout is not None, "it has a pipe"
        line = process.stdout.readline()
        if not line:
            raise HotstartError("the simulated arm has not started; its words are above")
        words = json.loads(line)
        yield words
    finally:
        process.terminate()
        process.wait()


def serve_arm() -> None:
    """Entry of the simulated arm's process: it ends with standard input."""
    from ..real_robot.sim.rehearsal import Rehearsal, RehearsalOptions

    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    link = Path(sys.argv[1]).absolute()
    with Rehearsal(RehearsalOptions("so101", link_path=link, cameras=False)) as arm:
        words = [*arm.device_words.split(), f"stage={arm.stage_address}", PATIENCE]
        print(json.dumps(words), flush=True)
        sys.stdin.read()


def summarise(folder: Path) -> dict[str, Any]:
    """What the circle has brought, as plain values."""
    before = results.load(folder / BEFORE / "result.json")
    after = results.load(folder / AFTER / "result.json")
    corrections = json.loads((folder / "corrections" / "result.json").read_text())
    paired = compare_successes(after, before)
    actors = Store.open(folder / "rollouts.zarr").array("actor")[:]
    seconds = {}
    for marker in sorted((folder / "done").glob("*.json")):
        seconds[marker.stem] = json.loads(marker.read_text())["seconds"]
    return {
        "trials": after["episodes"],
        "before": before["success"],
        "after": after["success"],
        "difference": paired.difference._asdict(),
        "p": paired.p,
        "only_after": paired.only_a,
        "only_before": paired.only_b,
        "taken_over": len(corrections["taken_over"]),
        "rollouts": corrections["episodes"],
        "shown_steps": int((actors == int(Actor.OPERATOR)).sum()),
        "corrected_steps": int((actors == int(Actor.INTERVENTION)).sum()),
        "seconds": seconds,
        "versions": versions(),
    }


def describe(found: dict[str, Any]) -> str:
    """The outcome in a few lines."""
    difference = found["difference"]
    lines = [
        f"taken over in {found['taken_over']} of {found['rollouts']} rollouts: "
        f"{found['corrected_steps']} steps of correction beside {found['shown_steps']} shown",
        f"{found['trials']} trials of each policy",
        f"success before {results.success_words(found['before'])}",
        f"success after  {results.success_words(found['after'])}",
        f"difference, paired by scene: {difference['mean']:+.3f} "
        f"[{difference['low']:+.3f}, {difference['high']:+.3f}], p {found['p']:.3g}; "
        f"{found['only_after']} scenes only after, {found['only_before']} only before",
        f"{sum(found['seconds'].values()) / 60:.1f} minutes",
    ]
    return "\n".join(lines)
