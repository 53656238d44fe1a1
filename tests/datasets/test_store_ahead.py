"""Episodes whose pictures are written while they go on, power cuts, and episodes taken back."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hotstart.datasets import durable
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.store import Store
from hotstart.spec import DataError


@pytest.fixture
def store(tmp_path, specs):
    Store.create(tmp_path / "data", fps=10, **specs)
    return Store.open(tmp_path / "data", durable=True)


def append_in_parts(store, episode, size):
    """Write the pictures ahead, `size` at a time, then the rest."""
    rest = dict(episode)
    pictures = rest.pop("image")
    for start in range(0, len(pictures), size):
        store.write_ahead("image", pictures[start : start + size])
    store.append(rest)


def check(path, wanted):
    found = Store.open(path)
    assert len(found.lengths) == len(wanted)
    for number, episode in enumerate(wanted):
        read = found.episode(number)
        for key, values in episode.items():
            np.testing.assert_array_equal(read[key], values)


@pytest.mark.parametrize("size", [3, 8])
def test_pictures_written_ahead_are_those_of_an_episode_written_at_once(store, episodes, size):
    for episode in episodes:
        append_in_parts(store, episode, size)
    check(store.path, episodes)
    assert store.content_hash() == Store.open(store.path).content_hash()


def test_an_episode_given_up_is_written_over(store, episodes):
    append_in_parts(store, episodes[0], 8)
    store.write_ahead("image", episodes[1]["image"])
    check(store.path, episodes[:1])
    store.drop_ahead()
    append_in_parts(store, episodes[2], 5)
    store.append(episodes[3])
    check(store.path, [episodes[0], *episodes[2:]])


def test_what_was_written_ahead_must_fit_the_rest(store, episodes):
    with pytest.raises(DataError, match="it must end in"):
        store.write_ahead("image", np.zeros((2, 5, 5, 3), np.uint8))
    with pytest.raises(DataError, match="no key 'pixels'"):
        store.write_ahead("pixels", episodes[0]["image"])
    rest = dict(episodes[0])
    store.write_ahead("image", rest.pop("image")[:-1])
    with pytest.raises(DataError, match="steps of 'image' were written ahead, but the episode has"):
        store.append(rest)
    store.drop_ahead()
    store.append(episodes[0])
    check(store.path, episodes[:1])


def test_the_newest_episode_can_be_taken_back(store, episodes):
    with pytest.raises(DataError, match="has no episode to drop"):
        store.drop_last()
    store.append({**episodes[0], "reward": np.ones(len(episodes[0]["action"]))})
    store.drop_last()
    check(store.path, [])
    for episode in episodes[:3]:
        store.append(episode)  # without the extra of the one that was taken back
    store.drop_last()
    check(store.path, episodes[:2])
    store.append(episodes[3])
    check(store.path, [*episodes[:2], episodes[3]])


def test_times_of_each_observation_and_actors_are_kept(store, episodes, specs):
    steps = len(episodes[0]["action"])
    extras = {
        "actor": np.full(steps, 4, np.uint8),
        "target_s": np.arange(steps) / 10,
        "made_s.image": np.arange(steps) / 10 - 0.05,
        "made_s.state": np.arange(steps) / 10 - 0.001,
    }
    store.append({**episodes[0], **extras})
    read = Store.open(store.path).episode(0)
    for name, values in extras.items():
        np.testing.assert_array_equal(read[name], values)
    assert read["actor"].dtype == np.uint8
    held = Arrays([{**episodes[0], **extras}], 10, **specs)
    assert set(held.keys) == set(store.keys)
    assert (
        Arrays([{**episodes[0], **extras}], 10).obs_spec.keys.keys()
        == specs["obs_spec"].keys.keys()
    )
    with pytest.raises(DataError, match=r"unknown keys \['made_s.wrist'\]"):
        store.append({**episodes[1], "made_s.wrist": np.zeros(len(episodes[1]["action"]))})


class Disk:
    """What a disk holds if power is cut: contents and names that were written out, no others."""

    def __init__(self, root: Path, cut: Path) -> None:
        self.root, self.cut = root, cut
        shutil.copytree(root, cut)
        self.contents: dict[int, bytes] = {}

    def fsync(self, number: int) -> None:
        path = Path(f"/proc/self/fd/{number}").readlink()
        if path.is_file():
            self.contents[path.stat().st_ino] = path.read_bytes()
            return
        there = self.cut / path.relative_to(self.root)
        for entry in path.iterdir():
            if entry.is_dir():
                (there / entry.name).mkdir(exist_ok=True)
            else:
                known = self.contents.get(entry.stat().st_ino)
                if known is not None:
                    (there / entry.name).write_bytes(known)


def test_a_power_cut_costs_only_the_unfinished_episode(store, episodes, monkeypatch, tmp_path):
    disk = Disk(store.path, tmp_path / "cut")
    finished = []
    cuts = []

    def fsync(number):
        disk.fsync(number)
        cuts.append(number)
        if len(cuts) % 5 == 0:  # at every fifth moment
            found = Store.open(disk.cut)
            assert len(found.lengths) in (len(finished), len(finished) + 1)
            check(disk.cut, episodes[: len(found.lengths)])

    monkeypatch.setattr(durable.os, "fsync", fsync)
    for episode in episodes:
        append_in_parts(store, episode, 8)
        finished.append(episode)
        check(disk.cut, finished)
    assert len(cuts) > 50
    assert os.fsync is fsync
