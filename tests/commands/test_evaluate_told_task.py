"""`evaluate` takes a checkpoint's word for its task only as far as that reaches no module and no
file.
"""

import sys

import pytest
from hotstart.cli import main
from hotstart.policy import checkpoint

MARKING = "from pathlib import Path\nPath(__file__).with_name('mark').touch()\n"


@pytest.fixture
def stranger(tmp_path, monkeypatch, tiny_model):
    """A checkpoint whose task names a module that leaves a mark when it is imported."""
    (tmp_path / "marking_module.py").write_text(MARKING)
    monkeypatch.syspath_prepend(tmp_path)
    options = {"id": "marking_module:Env-v0"}
    task = {
        "name": "reach",
        "env": "gymnasium",
        "options": options,
        "max_steps": 5,
        "obs_keys": ["state"],
    }
    checkpoint.save(tmp_path / "c", tiny_model(), {"rate_hz": 10.0, "task": task})
    yield tmp_path
    sys.modules.pop("marking_module", None)


def test_a_module_that_a_checkpoint_names_is_not_imported(stranger, capsys):
    words = [
        "evaluate",
        str(stranger / "c"),
        "episodes=1",
        "workers=0",
        f"out={stranger / 'r.json'}",
    ]
    assert main(words) == 2
    assert "'id': 'marking_module:Env-v0'" in capsys.readouterr().err
    assert not (stranger / "mark").exists()
    main([*words, "task=gymnasium", "task.options.id=marking_module:Env-v0"])  # the user's own word
    assert (stranger / "mark").exists()
