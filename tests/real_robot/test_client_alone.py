"""The client needs numpy, websockets and msgpack, and nothing else."""

import subprocess
import sys
import tomllib
from pathlib import Path

import hotstart
import numpy as np
from hotstart.real_robot.server.server import serving

CLIENT = Path(hotstart.__file__).parent / "real_robot" / "client"
ALONE = """
import sys

sys.path.insert(0, sys.argv[1])
allowed = {"numpy", "websockets", "msgpack", "hotstart_client", *sys.stdlib_module_names}


class Gate:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed:
            raise ImportError(f"{name} is not allowed here")


sys.meta_path.insert(0, Gate())
import hotstart_client
import numpy as np

with hotstart_client.Client(port=int(sys.argv[2])) as client:
    client.reset(seed=1)
    print(client.infer({"tick": np.full(1, 5.0)})[:, 0].tolist())
found = {name.split(".")[0] for name in sys.modules}
print("hotstart" in found, "torch" in found)
"""


def test_the_client_runs_where_nothing_but_its_three_packages_can_be_imported(tmp_path, scripted):
    (tmp_path / "hotstart_client").symlink_to(CLIENT)
    with serving(scripted.Policy()) as server:
        command = [sys.executable, "-c", ALONE, str(tmp_path), str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    actions, others = done.stdout.splitlines()
    assert actions == str((5.0 + np.arange(4)).tolist())
    assert others == "False False"


def test_its_distribution_declares_what_it_needs():
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())
    names = [text.partition(">")[0] for text in project["project"]["dependencies"]]
    assert names == ["numpy", "websockets", "msgpack"]
