"""Exported policies run where numpy and OpenVINO are all that can be imported, and start soon."""

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import hotstart
import numpy as np
import pytest
from hotstart.policy.agent import Agent
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.runtime.export import export_policy
from hotstart.policy.runtime.openvino import OpenVino
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import Horizon

HOME = Path(hotstart.__file__).parent / "policy" / "runtime"
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
UNET = {
    "_target_": "hotstart.policy.denoisers.unet.ConditionalUnet",
    "channels": [64, 128, 256],
}
"""4 M weights: the size of most policies from states."""
START_S = 2.5
"""Most processor time from the interpreter's start to the first action: 1.0 s were measured."""
MEMORY_MB = 200
ALONE = """
import json, sys, time

sys.path.insert(0, sys.argv[1])
allowed = {"numpy", "openvino", "hotstart_runtime", "_distutils_hack", *sys.stdlib_module_names}


class Gate:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed:
            raise ImportError(f"{name} is not allowed here")


sys.meta_path.insert(0, Gate())
import numpy as np
import hotstart_runtime

agent = hotstart_runtime.load(sys.argv[2], seed=3)
actions = [agent.act({"state": np.array([0.1, 0.2], np.float32)}).tolist()]
seconds = time.process_time()
actions += [agent.act({"state": np.full(2, t, np.float32)}).tolist() for t in range(10)]
memory = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
found = {name.split(".")[0] for name in sys.modules}
print(json.dumps({
    "actions": actions,
    "seconds": seconds,
    "megabytes": int(memory[0].split()[1]) / 1024,
    "loaded": sorted(found & {"torch", "hotstart", "yaml", "scipy"}),
    "names": dir(hotstart_runtime),
}))
"""


def lay_out(target: Path) -> None:
    """The distribution's files, as its project file says where they lie."""
    files = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for source, place in files.items():
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        (target / place).symlink_to((HOME / source).resolve())


def test_it_acts_as_the_checkpoint_with_two_packages_little_memory_and_a_short_start(
    tiny_model, tmp_path
):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the package openvino is not installed: pip install 'hotstart[openvino]'")
    model = tiny_model("unet", horizon=Horizon(2, 16, 8), denoiser=UNET)
    policy = DiffusionPolicy(model, WarmStart(2))
    (tmp_path / "policy").mkdir()
    export_policy(policy, OpenVino(threads=1), tmp_path / "policy")
    lay_out(tmp_path / "site")
    command = [sys.executable, "-c", ALONE, str(tmp_path / "site"), str(tmp_path / "policy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    agent = Agent(policy, 3)
    states = [np.array([0.1, 0.2], np.float32), *[np.full(2, t, np.float32) for t in range(10)]]
    wanted = [agent.act({"state": state}) for state in states]
    np.testing.assert_allclose(found["actions"], wanted, rtol=1e-4, atol=1e-3)
    assert found["loaded"] == []
    assert found["seconds"] < START_S
    assert found["megabytes"] < MEMORY_MB
    assert found["names"] == ["Agent", "ExportedPolicy", "__version__", "load", "load_policy"]


def test_its_distribution_declares_what_it_needs_and_names_files_that_exist():
    names = [text.partition(">")[0] for text in PROJECT["project"]["dependencies"]]
    assert names == ["numpy", "openvino"]
    files = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert [source for source in files if not (HOME / source).exists()] == []
    assert files["distribution_root.py"] == "hotstart_runtime/__init__.py"
