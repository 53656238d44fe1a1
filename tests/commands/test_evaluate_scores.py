"""What an environment says of its episodes reaches the result: scores below zero, success that is
not reported.
"""

import json

import gymnasium
import numpy as np
import pytest
from hotstart.cli import main
from hotstart.datasets.arrays import Arrays
from hotstart.policy import checkpoint


@pytest.fixture
def swinging(tmp_path, tiny_model):
    """An untrained policy for Pendulum."""
    rng = np.random.default_rng(0)
    episodes = [
        {
            "state": rng.uniform(-1, 1, (20, 3)).astype(np.float32),
            "action": rng.uniform(-2, 2, (20, 1)).astype(np.float32),
        }
        for _ in range(2)
    ]
    checkpoint.save(
        tmp_path / "run",
        tiny_model(dataset=Arrays(episodes, fps=20.0)),
        {"rate_hz": 20.0, "step": 0},
    )
    return tmp_path


def test_pendulums_return_is_reported_as_it_is_and_its_success_not_at_all(swinging, capsys):
    out = swinging / "result.json"
    words = [
        str(swinging / "run"),
        "task=gymnasium",
        "task.options.id=Pendulum-v1",
        "task.max_steps=30",
        "workers=0",
    ]
    assert main(["evaluate", *words, "episodes=2", "inference.steps=1", f"out={out}"]) == 0
    result = json.loads(out.read_text())
    scores = [episode["score"] for episode in result["per_episode"]]
    worst = 30 * (np.pi**2 + 0.1 * 8**2 + 0.001 * 2**2)  # of Pendulum's own reward
    assert all(-worst < score < -1 for score in scores)
    assert result["score"]["mean"] == pytest.approx(np.mean(scores))
    assert result["success"] == {"rate": None, "low": None, "high": None}
    assert [episode["success"] for episode in result["per_episode"]] == [None, None]
    assert result["rate_hz"] == pytest.approx(1 / gymnasium.make("Pendulum-v1").unwrapped.dt)
    printed = capsys.readouterr()
    assert f"success not reported, score {result['score']['mean']:.3f} [" in printed.out
