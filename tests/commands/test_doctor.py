"""What `hotstart doctor` finds on this machine, and on one that lacks things."""

import json
import socket

import pytest
from hotstart.cli import main
from hotstart.commands import doctor
from hotstart.configs.doctor import Examine


def test_it_prints_and_writes_every_finding(tmp_path, capsys):
    out = tmp_path / "doctor.json"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["doctor", f"ports={port}", f"out={out}"]) == 1
    said = capsys.readouterr().out
    assert f"BAD   ports        {port}: Address already in use" in said
    assert "mend it: end what listens there" in said
    found = json.loads(out.read_text())
    assert {"python", "packages", "pictures", "disk", "load", "real time", "serial", "cameras"} < {
        each["part"] for each in found
    }
    assert main(["doctor", f"out={out}"]) == 2, "it may not replace a file unasked"


def test_a_package_that_is_missing_or_too_old_is_bad_and_a_missing_extra_is_not(monkeypatch):
    wanted = ["numpy>=99", "no_such_package>=1", "no_such_tool>=2; extra == 'tools'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    findings = {each.says: each for each in doctor.check_packages()}
    states = [each.state for each in findings.values()]
    assert states == ["bad", "bad", "note"]
    assert findings["no_such_package is missing"].mend == 'pip install "no_such_package"'
    assert [each for each in findings if "numpy>=99 is wanted" in each]
    assert "the extra tools is not installed (no_such_tool)" in findings


@pytest.mark.parametrize(("library", "state"), [("egl", "good"), (None, "bad")])
def test_a_missing_opengl_library_is_named(monkeypatch, library, state):
    monkeypatch.setattr(doctor, "choose_gl", lambda: library)
    (finding,) = doctor.check_gl()
    assert finding.state == state
    if library is None:
        assert "libegl1 or libosmesa6" in finding.mend


def test_a_serial_port_without_permission_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    monkeypatch.setattr(doctor.Path, "glob", lambda self, pattern: [tmp_path / "ttyACM0"])
    found = list(doctor.check_serial())
    assert found[0].state == "bad"
    assert "dialout" in found[0].mend


def test_a_busy_machine_and_a_full_disk_are_said(monkeypatch):
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (99.0, 0, 0))
    assert [each.state for each in doctor.check_load()] == ["note"]
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    assert [each.state for each in doctor.check_disk()] == ["note"]
    assert Examine().ports == (8000,)
