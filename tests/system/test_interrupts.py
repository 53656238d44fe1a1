"""Signals that ask to stop: what they raise, when, and what stays as it was. Real signals, to
this process or another.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hotstart import cli
from hotstart.system.interrupts import (
    Interrupted,
    exit_status,
    explain,
    interrupt_verb,
    signals_raise,
    stop_flag,
)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_interrupts_once_and_the_handlers_come_back(number, status):
    before, saved = signal.getsignal(number), []
    with (
        pytest.raises(Interrupted, match=f"stopped by {number.name}") as raised,
        signals_raise(interrupt_verb),
    ):
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)  # while things are being saved
            saved.append(number)
    assert saved == [number]
    assert exit_status(raised.value) == status
    assert exit_status(explain(raised.value, "all is saved")) == status
    assert signal.getsignal(number) is before
    assert exit_status(KeyboardInterrupt()) == 130


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals_raise(interrupt_verb), stop_flag() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert asked() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_flag_waits_for_a_good_place_but_a_second_ctrl_c_does_not():
    with pytest.raises(Interrupted), stop_flag() as asked:
        assert asked() == 0
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert asked() == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_leaves_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with signals_raise(interrupt_verb), stop_flag() as asked:
            seen.extend([asked(), signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0, before]


def test_a_closed_terminal_is_no_crash(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)

    def stopped(verb, arguments):
        raise Interrupted("stopped", signal.SIGHUP)

    with os.fdopen(writing, "w", buffering=1) as gone:
        monkeypatch.setattr(cli, "run_verb", stopped)
        monkeypatch.setattr(sys, "stderr", gone)
        assert cli.main(["compare"]) == 129
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())


VERB = """
import sys, time
from hotstart import cli
cli.run_verb = lambda verb, arguments: (print("ready", flush=True), time.sleep(60))
sys.exit(cli.main(["compare", "a"]))
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_every_verb_ends_with_a_message_and_the_shell_s_status(number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", VERB], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == status
    assert error.startswith("\nhotstart compare: ")
    assert "Traceback" not in error
