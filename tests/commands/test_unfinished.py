"""The file of an evaluation that goes on: what is kept, what a kill leaves of it, and for which
evaluation it counts.
"""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hotstart.commands.unfinished import Measured, Unfinished
from hotstart.control import RowLog
from hotstart.spec import ConfigError, DataError, Feedback
from hotstart.system.outputs import unfinished_path

EVALUATION = {"checkpoint": "runs/x", "seed": 3, "inference": {"steps": 2, "start": 0.1}}


def log(seed):
    commands = [np.random.default_rng(seed).standard_normal(2) for _ in range(3)]
    return RowLog(
        seed=seed,
        success=bool(np.bool_(True)),
        score=float(np.float64(1) / 3),
        steps=3,
        commands=commands,
        durations=[1.0, float(np.float64(0.1)), 1.0],
        nfe=[10, int(np.int64(2))],
        starved_ticks=0.3,
        reactions=[(0.1, 0.30000000000000004, 2)],
    )


def feedback(done, success):
    return Feedback(
        terminated=np.array(done),
        truncated=np.zeros(len(done), bool),
        reward=np.zeros(len(done)),
        success=np.array(success),
        score=np.full(len(done), 0.5),
    )


def equal(one, other):
    left, right = asdict(one), asdict(other)
    commands = left.pop("commands"), right.pop("commands")
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(*commands, strict=True))
    return left == right


def test_what_was_kept_comes_back_to_the_bit(tmp_path):
    path = unfinished_path(tmp_path / "r.json")
    begun = Unfinished(path, EVALUATION)
    assert not path.exists()  # nothing is written before something is finished
    begun.note_ended([3, 4], feedback([False, False], [True, False]))
    assert not path.exists()
    begun.note_ended([3, 4], feedback([True, True], [False, False]))
    begun.note_batch(
        Measured([log(3), log(4)], [(2, 0.25)], 7.5, [tmp_path / "a.mp4"], ["push it", "pull it"])
    )
    begun.note_ended([5], feedback([True], [False]))
    with path.open("a") as file:
        file.write('{"batch": {"logs": [{"se')  # a kill in the middle of a line
    again = Unfinished(path, EVALUATION)
    (batch,) = again.batches
    assert all(equal(*pair) for pair in zip(batch.logs, [log(3), log(4)], strict=True))
    assert (batch.calls, batch.seconds, batch.tasks) == ([(2, 0.25)], 7.5, ["push it", "pull it"])
    assert batch.videos == [tmp_path / "a.mp4"]
    assert (
        again.explain(9)
        == f"{path} keeps 2 of 9 episodes; the same command goes on after the first 2"
    )
    again.note_batch(Measured([log(5)], [], 1.0))
    assert [len(batch.logs) for batch in Unfinished(path, EVALUATION).batches] == [2, 1]


def test_another_evaluation_is_refused_and_named(tmp_path):
    path = tmp_path / "r.json.unfinished"
    Unfinished(path, EVALUATION).note_batch(Measured([log(3)], [], 1.0))
    with pytest.raises(
        ConfigError,
        match=r"another evaluation \(its seed is 3, here it is 4\): delete it, .* overwrite=true",
    ):
        Unfinished(path, {**EVALUATION, "seed": 4})
    assert path.exists()
    assert not Unfinished(path, {**EVALUATION, "seed": 4}, overwrite=True).batches
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    ['{"batch": 3}\n[]\n', "not json\n", '{"checkpoint": "runs/x"}\n{"batch": {"logs": 3}}\n'],
)
def test_a_damaged_file_is_refused(text, tmp_path):
    path = tmp_path / "r.json.unfinished"
    path.write_text(text)
    with pytest.raises((ConfigError, DataError), match="delete it"):
        Unfinished(path, EVALUATION)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "r.json.unfinished"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="delete it"):
        Unfinished(path, EVALUATION)


def test_without_a_result_file_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = Unfinished(None, EVALUATION)
    begun.note_ended([3], feedback([True], [True]))
    assert begun.explain(9) == "1 of 9 episodes were finished; a result file, out=, keeps them"
    assert not list(tmp_path.iterdir())


def test_every_episode_is_a_line_of_its_own(tmp_path):
    path = tmp_path / "r.json.unfinished"
    begun = Unfinished(path, EVALUATION)
    begun.note_ended(
        [3, 4], feedback([False, False], [True, False])
    )  # what was fulfilled once counts
    for _ in range(2):
        begun.note_ended([3, 4], feedback([True, True], [False, False]))
    header, *episodes = [json.loads(line) for line in path.read_text().splitlines()]
    assert header["seed"] == 3
    assert episodes == [
        {"episode": {"seed": 3, "success": True, "score": 0.5}},
        {"episode": {"seed": 4, "success": False, "score": 0.5}},
    ]
