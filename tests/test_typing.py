"""What a type checker sees of the public names."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import hotstart
import pytest

ROOT = Path(hotstart.__file__).parent
RIGHT = """
from functools import partial

import hotstart
import numpy as np

episode = {
    "state": np.zeros((30, 2)),
    "image": np.zeros((30, 16, 16, 3), np.uint8),
    "instruction": "push the block",
    "action": np.zeros((30, 2)),
}
data = hotstart.Arrays([episode], fps=20)
settings = hotstart.TrainingSettings(steps=100, batch=16)
network = partial(hotstart.ConditionalUnet, channels=(32, 64))
camera = partial(hotstart.ImageEncoder, channels=16)
encoder = partial(hotstart.InstructionEncoder, base=camera)
hotstart.train(data, "runs/mine", settings, denoiser=network, encoder=encoder)
agent = hotstart.load("runs/mine", hotstart.WarmStart(steps=2, start=0.3))
action = agent.act({"state": np.zeros(2), "instruction": "push the block"})
chunking = hotstart.RealTimeChunking(mode="trained")
store = hotstart.collect("data/lift.zarr", "lift", episodes=10, keep="success")
result = hotstart.evaluate("runs/mine", chunking, task="lift", episodes=10)
found = hotstart.compare("ddim.json", "rti.json", measure="score")
print(found.differences["rti-2"].score.mean, store.lengths.max(), result["success"])
loaded = hotstart.read_result("rti.json")
print(loaded["success"]["rate"])
robot = hotstart.SimulatedRobot("pusht", rows=2)
loop = hotstart.LoopSettings(max_ticks=300, replan_at=4)
with hotstart.ThreadedPlanner(agent.policy) as planner:
    logs = hotstart.run(robot, agent.policy, planner, hotstart.RealClock(), [0, 1], loop)
"""
MISTAKES = {
    "fps=20": "rate=20",
    "steps=100, batch=16": "steps=100, batch_size=16",
    "channels=(32, 64)": "chanels=(32, 64)",
    "denoiser=network, encoder=encoder": "denoiser=camera, encoder=encoder",
    'load("runs/mine", hotstart.WarmStart(steps=2, start=0.3))': 'load("runs/mine", "rti")',
    'mode="trained"': 'mode="training"',
    'episodes=10, keep="success"': 'episodes="10", keep="success"',
    '"runs/mine", chunking, task': '"runs/mine", sampler=chunking, task',
    '"ddim.json", "rti.json"': '["ddim.json", "rti.json"]',
    'loaded["success"]["rate"]': 'loaded["succes"]["rate"]',
    "RealClock(), [0, 1], loop": 'RealClock(), "01", loop',
}
"""What a user meant -> what was typed instead; each is on a line of its own."""


def list_typed_names() -> dict[str, str]:
    """Public name -> module, from the imports that only a type checker reads."""
    found = {}
    for node in ast.parse((ROOT / "__init__.py").read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                (alias,) = statement.names
                assert alias.asname == alias.name  # without `as` it is not public
                found[alias.name] = statement.module
    return found


def test_the_typed_names_are_the_public_ones():
    typed = list_typed_names()
    assert typed == hotstart._PUBLIC
    assert list(typed) == hotstart.__all__
    assert (ROOT / "py.typed").exists()


def run_pyright(folder: Path) -> dict[str, set[int]]:
    """Lines with errors of every script in a folder, by file name.

    The package is found as `make lint` finds it. Skips where pyright is not installed.
    """
    (folder / "import").mkdir()
    (folder / "import" / "hotstart").symlink_to(ROOT)
    config = {"include": ["*.py"], "extraPaths": ["import"], "reportMissingModuleSource": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "--project", str(folder)], capture_output=True, text=True, check=False
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not run here: {done.stderr.strip()[-200:]}")
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] >= 2
    found: dict[str, set[int]] = {}
    for entry in report["generalDiagnostics"]:
        lines = found.setdefault(Path(entry["file"]).name, set())
        lines.add(entry["range"]["start"]["line"])
    return found


def test_pyright_finds_planted_mistakes_and_nothing_in_the_right_script(tmp_path):
    wrong = RIGHT
    planted: dict[int, str] = {}
    for meant, typed in MISTAKES.items():
        assert RIGHT.count(meant) == 1
        planted[RIGHT[: RIGHT.index(meant)].count("\n")] = typed
        wrong = wrong.replace(meant, typed)
    assert len(planted) == 11
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(wrong)
    found = run_pyright(tmp_path)
    assert found.get("right.py", set()) == set()
    missed = [typed for line, typed in planted.items() if line not in found["wrong.py"]]
    assert missed == []
