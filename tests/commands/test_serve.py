"""`hotstart serve`: from a checkpoint to answers, and a signal ends it."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hotstart.cli import main
from hotstart.policy import checkpoint
from hotstart.real_robot.client import Client, ServerError

TOKEN = "a token of some length"


def test_a_checkpoint_is_served_until_a_signal_comes(tiny_model, tmp_path):
    checkpoint.save(tmp_path / "arm", tiny_model(), {"rate_hz": 10.0})
    (tmp_path / "token").write_text(TOKEN + "\n")
    words = ["inference=rti", "inference.steps=1", "port=0", f"token_file={tmp_path / 'token'}"]
    command = [sys.executable, "-m", "hotstart", "serve", str(tmp_path / "arm"), *words]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "(rti-1)" in line
        port = int(line.split("127.0.0.1:")[1].split(",")[0])
        with pytest.raises(ServerError, match="token"):
            Client(port=port)
        with Client(port=port, token=TOKEN) as client:
            assert client.metadata["checkpoint"] == "arm"
            assert client.metadata["rate_hz"] == 10.0
            for nfe in (10, 1):
                assert client.infer({"state": np.zeros(2)}).shape == (4, 2)
                assert client.answer["nfe"] == nfe
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    assert "2 plans handed out, 1 requests refused" in said


def test_other_machines_are_not_served_without_a_token(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HOTSTART_TOKEN", raising=False)
    checkpoint.save(tmp_path / "arm", tiny_model(), {"rate_hz": 10.0})
    assert main(["serve", str(tmp_path / "arm"), "host=0.0.0.0"]) == 2
    assert "a token is wanted" in capsys.readouterr().err
