"""Faults of simulated devices: when they hold, how often, and what is refused."""

import math

import pytest
from hotstart.real_robot.sim.faults import Faults, Link
from hotstart.spec import ConfigError


class Hand:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Hand()


def test_a_fault_holds_from_its_beginning_to_its_end(clock):
    faults = Faults(clock=clock)
    faults.schedule("bus_silence", after_s=1.0, for_s=2.0)
    lost = []
    for clock.now in (100.9, 101.0, 102.9, 103.0):
        lost.append(faults.drops())
    assert lost == [False, True, True, False]


def test_chance_comes_from_the_seed_and_loses_the_share_that_was_asked_for(clock):
    streams = []
    for seed in (1, 1, 2):
        faults = Faults(seed=seed, clock=clock)
        faults.schedule("packet_loss", amount=0.2)
        streams.append([faults.drops() for _ in range(1000)])
    assert streams[0] == streams[1]
    assert streams[0] != streams[2]
    assert sum(streams[0]) == pytest.approx(200, abs=45)


def test_what_a_device_latches_is_handed_out_once(clock):
    faults = Faults(clock=clock)
    faults.schedule("protective_stop", after_s=1.0)
    assert faults.take("protective_stop") is None
    clock.now += 1.5
    assert faults.take("protective_stop") is not None
    faults.clear("stale")
    assert faults.take("protective_stop") is None
    assert faults.active("protective_stop") is not None
    faults.clear("protective_stop")
    assert faults.active("protective_stop") is None


def test_a_link_delays_within_its_jitter(clock):
    faults = Faults(Link(delay_s=0.002, jitter_s=0.003), clock=clock)
    delays = [faults.delay_s() for _ in range(200)]
    assert min(delays) >= 0.002
    assert 0.004 < max(delays) < 0.005


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "packet_los"}, "packet_loss"),
        ({"kind": "stale", "after_s": -1.0}, "0 or more"),
        ({"kind": "stale", "after_s": math.nan}, "0 or more"),
        ({"kind": "stale", "for_s": 0.0}, "above 0"),
        ({"kind": "packet_loss", "amount": 2.0}, "share"),
    ],
)
def test_what_cannot_be_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        Faults().schedule(**words)
