"""The benchmark of warm starts whose guess has the gripper wrong prints a row per guess."""

import numpy as np
from hotstart.cli import main
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.store import Store
from hotstart.policy import checkpoint
from hotstart.spec import ActionDim, ActionSpec

GRIPS = np.repeat([-1.0, 1.0], 7)[:, None]  # it changes once, and stays for a chunk


def test_the_benchmark_prints_a_row_for_every_guess(tiny_model, tmp_path, capsys):
    rng = np.random.default_rng(0)
    spec = ActionSpec((ActionDim("x"), ActionDim("grip", "", "discrete")))
    episodes = []
    for _ in range(3):
        state = rng.uniform(-3, 3, (14, 2)).astype(np.float32)
        action = np.concatenate((state[:, :1], GRIPS), 1).astype(np.float32)
        episodes.append({"state": state, "action": action})
    data = Arrays(episodes, fps=10.0, action_spec=spec)
    checkpoint.save(tmp_path / "last", tiny_model(dataset=data), {})
    store = Store.create(
        tmp_path / "d.zarr", fps=10, action_spec=data.action_spec, obs_spec=data.obs_spec
    )
    for episode in episodes:
        store.append(episode)
    words = ["bench", "gripper_flips", str(tmp_path / "last"), f"data={tmp_path / 'd.zarr'}"]
    assert main([*words, "starts=0.1,0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 moments, 2 evaluations")
    assert [line[:24].strip() for line in lines[2:7]] == [
        "neutral guess",
        "neutral, flat",
        "wrong guess",
        "wrong guess, as it is",
        "neutral, as it is",
    ]
    for line in lines[2:7]:
        assert all(0 <= float(share) <= 1 for share in line[24:].split())
    assert lines[7].startswith("two fresh plans agree in ")
