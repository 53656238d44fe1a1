"""Who may import whom: the floors of the house, read from the imports of every file."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import hotstart
import pytest
from hotstart.benchmarks._imports import Import, list_imports
from hotstart.benchmarks._source import read_tree

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
    "arms": 3,
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
    "examples": 11,
}
"""A file imports from its own folder and from lower floors.

Folders of one floor never import each other.
"""
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
    "configs": {
        "spec",
        "system",
        "policy",
        "finetuning",
        "real_robot",
        "datasets",
        "configs",
        "hydra",
        "omegaconf",
        "numpy",
    },
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


def find_home(file: Path) -> str:
    """The folder or the root file that a file belongs to."""
    if len(file.parts) > 1:
        return file.parts[0]
    return file.stem


def find_offence(entry: Import) -> str | None:
    """What an import does wrong; None where it may stand."""
    mine, top = find_home(entry.file), entry.target[0]
    if mine not in FLOORS:
        return f"{mine} has no floor: add it to FLOORS here and to the design"
    if mine == "examples":
        return find_private_name(entry)
    if not entry.relative and top == "hotstart":
        return f"imports {'.'.join(entry.module)}: imports between our folders are relative"
    if entry.relative and top not in FLOORS:
        return f"imports {top}, which has no floor"
    if entry.relative and top != mine and FLOORS[top] >= FLOORS[mine]:
        return f"{mine} (floor {FLOORS[mine]}) imports {top} (floor {FLOORS[top]})"
    foreign = not entry.relative and top not in sys.stdlib_module_names
    if mine in ONLY and (entry.relative or foreign) and top not in ONLY[mine]:
        allowed = sorted(ONLY[mine])
        return f"{mine} imports {top}; it may import only {allowed} and the standard library"
    if foreign and top in NEVER_IN.get(mine, set()):
        return f"{mine} imports {top}"
    return None


def find_private_name(entry: Import) -> str | None:
    """What an example does wrong: it imports hotstart as users do, and its public names alone."""
    if entry.relative:
        return "examples import nothing relatively: users have the package installed"
    if entry.target[0] == "hotstart" and set(entry.target[1:]) - set(dir(hotstart)):
        return f"imports {'.'.join(entry.target)}: examples use public names of hotstart only"
    return None


def find_offences(root: Path) -> list[str]:
    found = []
    for source in read_tree(root):
        for entry in list_imports(source):
            wrong = find_offence(entry)
            if wrong is not None:
                found.append(f"{entry.file}:{entry.line} {wrong}")
    return found


def test_every_import_keeps_the_floors():
    sources = read_tree(ROOT)
    files = {str(source.file) for source in sources}
    assert {"spec/robot.py", "control/loop.py", "commands/evaluate.py"} <= files
    imports = sum(len(list(list_imports(source))) for source in sources)
    assert imports > 100  # it does read them
    assert find_offences(ROOT) == []


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
            "control imports torch; it may import only "
            "['checks', 'control', 'numpy', 'spec', 'system']",
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
        ("examples/a.py", "from ..spec import Horizon", "examples import nothing relatively"),
        ("examples/a.py", "from hotstart.spec import Horizon", "imports hotstart.spec"),
        ("examples/a.py", "from hotstart import spec", "imports hotstart.spec"),
        ("policy/a.py", "from ...above import x", "imports .., which has no floor"),
    ],
)
def test_an_import_that_breaks_the_floors_is_found(file, text, wrong, tmp_path):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text + "\n")
    (found,) = find_offences(tmp_path)
    assert found.startswith(f"{file}:")
    assert wrong in found


def test_imports_that_may_stand_are_let_be(tmp_path):
    allowed = {
        "control.py": "import time\nimport numpy as np\nfrom .spec import Clock",
        "policy/a.py": "import torch\nfrom ..datasets.store import Store\nfrom . import b\n"
        "from .diffusion import schedule",
        "commands/a.py": "import hydra\nfrom ..finetuning import ppo\nfrom .. import control",
        "benchmarks/a.py": "from ..commands.processes import ordered",
        "tests/a.py": "from hotstart.envs import x",
        "examples/a.py": "import hotstart\nimport torch\nfrom hotstart import Fresh",
    }
    for file, text in allowed.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text + "\n")
    assert find_offences(tmp_path) == []


def test_hugging_faces_datasets_still_wins():
    """A `datasets/__init__.py` would hide the library of that name from code in the checkout."""
    assert not (ROOT / "datasets" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_every_folder_with_code_is_in_the_distribution():
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    folders = {".".join(("hotstart", *source.file.parent.parts)) for source in read_tree(ROOT)}
    assert folders - {"hotstart.examples"} == listed  # scripts to copy, not to import


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
