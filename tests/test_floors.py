"""Who may import whom: the floors of the house, read from the imports of every file."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import hotstart
import pytest

ROOT = Path(hotstart.__file__).parent
FLOORS = {
    "spec": 0,
    "rows": 0.5,
    "seeds": 0.5,
    "system": 0.5,
    "checks": 0.5,
    "control": 1,
    "planners": 2,
    "datasets": 3,
    "evaluation": 3,
    "policy": 4,
    "envs": 4,
    "real_robot": 4,
    "world_model": 5,
    "finetuning": 6,
    "configs": 7,
    "commands": 8,
    "benchmarks": 9,
    "cli": 9,
    "__main__": 10,
    "__init__": 10,
}
"""A file imports from its own folder and from lower floors; folders of one floor never import each other."""
ONLY = {
    "spec": {"spec", "numpy"},
    "checks": {"spec", "numpy"},
    "rows": {"spec", "numpy"},
    "seeds": {"spec", "numpy"},
    "system": {"system", "spec", "yaml"},
    "control": {"control", "spec", "checks", "system", "numpy"},
    "planners": {"spec", "checks", "rows", "seeds", "numpy"},
    "evaluation": {
        "spec",
        "checks",
        "seeds",
        "system",
        "control",
        "planners",
        "evaluation",
        "numpy",
        "scipy",
    },
    "configs": {"spec", "system", "policy", "configs", "hydra", "omegaconf", "numpy"},
    "__init__": {"system"},
    "__main__": {"cli"},
}
"""All that these may import besides the standard library."""
SIMULATORS = {
    "mujoco",
    "robosuite",
    "gymnasium",
    "pymunk",
    "shapely",
    "metaworld",
    "gymnasium_robotics",
}
CONFIGURATION = {"hydra", "omegaconf"}
NEVER_IN = {
    "datasets": SIMULATORS | CONFIGURATION,
    "policy": SIMULATORS | CONFIGURATION,
    "world_model": SIMULATORS | CONFIGURATION,
    "finetuning": SIMULATORS | CONFIGURATION,
    "envs": CONFIGURATION,
    "real_robot": CONFIGURATION,
    "benchmarks": CONFIGURATION,
}


class Import(NamedTuple):
    """One import: the file, the line, and the module as (ours or not, its parts)."""

    file: Path
    line: int
    ours: bool
    parts: tuple[str, ...]


def package_files(root: Path) -> list[Path]:
    """The package's Python files; tests, build products, environments and hidden folders are not of it."""
    aside = {"tests", "build", "dist", "runs", "data", "outputs", "multirun", "docs", "__pycache__"}
    found = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in aside and not name.startswith(".")]
        inner[:] = [name for name in inner if not (Path(folder) / name / "pyvenv.cfg").exists()]
        found += [(Path(folder) / name).relative_to(root) for name in files if name.endswith(".py")]
    return sorted(found)


def imports_of(root: Path, file: Path) -> Iterator[Import]:
    """Every import of a file, those inside functions too; relative ones resolved to the package's root."""
    for node in ast.walk(ast.parse((root / file).read_text(), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, False, tuple(alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield Import(file, node.lineno, False, tuple((node.module or "").split(".")))
        elif isinstance(node, ast.ImportFrom):
            above = len(file.parent.parts) - node.level + 1
            assert above >= 0, f"{file}:{node.lineno} imports from above the package"
            module = (*file.parent.parts[:above], *filter(None, (node.module or "").split(".")))
            for parts in (
                [module] if module else [(alias.name,) for alias in node.names]
            ):  # `from .. import x` names x itself
                yield Import(file, node.lineno, True, parts)


def home(file: Path) -> str:
    """The folder or the root file that a file belongs to."""
    return file.parts[0] if len(file.parts) > 1 else file.stem


def offence(entry: Import) -> str | None:
    """What an import does wrong; None where it may stand."""
    mine, top = home(entry.file), entry.parts[0]
    if mine not in FLOORS:
        return f"{mine} has no floor: add it to FLOORS here and to the design"
    if not entry.ours and top == "hotstart":
        return f"imports {'.'.join(entry.parts)}: imports between our folders are relative"
    if entry.ours and top not in FLOORS:
        return f"imports {top}, which has no floor"
    if entry.ours and top != mine and FLOORS[top] >= FLOORS[mine]:
        return f"{mine} (floor {FLOORS[mine]}) imports {top} (floor {FLOORS[top]})"
    foreign = not entry.ours and top not in sys.stdlib_module_names
    if mine in ONLY and (entry.ours or foreign) and top not in ONLY[mine]:
        return f"{mine} imports {top}; it may import only {sorted(ONLY[mine])} and the standard library"
    if foreign and top in NEVER_IN.get(mine, set()):
        return f"{mine} imports {top}"
    return None


def offences(root: Path) -> list[str]:
    entries = [entry for file in package_files(root) for entry in imports_of(root, file)]
    return [f"{e.file}:{e.line} {wrong}" for e in entries if (wrong := offence(e))]


def test_every_import_keeps_the_floors():
    files = package_files(ROOT)
    assert {
        "spec/robot.py",
        "control/loop.py",
        "policy/training/trainer.py",
        "commands/evaluate.py",
    } <= {str(file) for file in files}
    assert (
        sum(entry.ours for file in files for entry in imports_of(ROOT, file)) > 100
    )  # it does read them
    assert offences(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        (
            "policy/diffusion/a.py",
            "from ...envs.base import TaskEnv",
            "policy (floor 4) imports envs (floor 4)",
        ),
        (
            "envs/a.py",
            "def f():\n    from ..policy import model",
            "envs (floor 4) imports policy (floor 4)",
        ),
        (
            "real_robot/a.py",
            "from ..world_model import x",
            "real_robot (floor 4) imports world_model (floor 5)",
        ),
        (
            "datasets/formats/a.py",
            "from ...policy.normalizer import ACTION",
            "datasets (floor 3) imports policy (floor 4)",
        ),
        (
            "finetuning/a.py",
            "from ..commands import words",
            "finetuning (floor 6) imports commands (floor 8)",
        ),
        ("commands/a.py", "from .. import cli", "commands (floor 8) imports cli (floor 9)"),
        (
            "commands/a.py",
            "from ..benchmarks import call_time",
            "commands (floor 8) imports benchmarks (floor 9)",
        ),
        (
            "control.py",
            "from .datasets.store import Store",
            "control (floor 1) imports datasets (floor 3)",
        ),
        (
            "control.py",
            "import torch",
            "control imports torch; it may import only ['checks', 'control', 'numpy', 'spec', 'system']",
        ),
        (
            "control.py",
            "from .planners import Latency",
            "control (floor 1) imports planners (floor 2)",
        ),
        (
            "spec.py",
            "import scipy.stats",
            "spec imports scipy; it may import only ['numpy', 'spec']",
        ),
        ("configs/a.py", "from ..envs import registry", "configs imports envs; it may import only"),
        (
            "policy/a.py",
            "from hotstart.spec import Horizon",
            "imports hotstart.spec: imports between our folders are relative",
        ),
        (
            "policy/a.py",
            "import hotstart",
            "imports hotstart: imports between our folders are relative",
        ),
        ("policy/a.py", "from hydra.utils import instantiate", "policy imports hydra"),
        ("policy/a.py", "if True:\n    import mujoco.viewer", "policy imports mujoco"),
        ("datasets/a.py", "import gymnasium", "datasets imports gymnasium"),
        ("surprise/a.py", "import os", "surprise has no floor"),
    ],
)
def test_an_import_that_breaks_the_floors_is_found(file, text, wrong, tmp_path):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text + "\n")
    (found,) = offences(tmp_path)
    assert found.startswith(f"{file}:")
    assert wrong in found


def test_imports_that_may_stand_are_let_be(tmp_path):
    allowed = {
        "control.py": "import time\nimport numpy as np\nfrom .spec import Clock",
        "policy/a.py": "import torch\nfrom ..datasets.store import Store\nfrom . import b\nfrom .diffusion import plans",
        "commands/a.py": "import hydra\nfrom ..finetuning import ppo\nfrom .. import control",
        "benchmarks/a.py": "from ..commands import processes",
        "tests/a.py": "from hotstart.envs import x",
    }
    for file, text in allowed.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text + "\n")
    assert offences(tmp_path) == []


def test_hugging_faces_datasets_still_wins():
    """With a `datasets/__init__.py` the folder would hide the library of that name from code run in the checkout."""
    assert not (ROOT / "datasets" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_every_folder_with_code_is_in_the_distribution():
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    folders = {".".join(("hotstart", *file.parent.parts)) for file in package_files(ROOT)}
    assert folders == listed


POLICY_ALONE = """
import importlib, pkgutil, sys
import hotstart.policy, hotstart.control

names = [m.name for m in pkgutil.walk_packages(hotstart.policy.__path__, "hotstart.policy.")]
for name in names:
    importlib.import_module(name)
print(len(names), *sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[1:])))
"""


def test_importing_the_policy_loads_no_simulator_and_no_hydra():
    command = [sys.executable, "-c", POLICY_ALONE, *SIMULATORS, *CONFIGURATION]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    count, *loaded = done.stdout.split()
    assert int(count) > 15
    assert loaded == []


def test_the_control_loop_and_the_types_load_no_torch():
    command = [
        sys.executable,
        "-c",
        "import sys, hotstart.control; print('torch' in sys.modules, 'numpy' in sys.modules)",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
