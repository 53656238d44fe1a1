"""Readers of untrusted files and the words for untrusted values: bounded, and only our errors."""

import os
import time

import numpy as np
import pytest
from hotstart.spec import CheckpointError, DataError, unknown
from hotstart.system.untrusted import (
    NESTED,
    parse_json,
    parse_yaml,
    read_json,
    read_text,
    read_yaml,
    shorten,
)

GOOD = {"a": [1, -2.5, "x", True, None, {"b": []}], "ä": {}}


def written(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_plain_values_come_back(tmp_path):
    text = '{"a": [1, -2.5, "x", true, null, {"b": []}], "ä": {}}'
    assert read_json(written(tmp_path, text), DataError) == GOOD
    assert read_yaml(written(tmp_path, text), DataError) == GOOD
    assert parse_yaml("a: &one [1]\nb: *one\n", "it", DataError) == {
        "a": [1],
        "b": [1],
    }  # PyYAML writes such


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", "no UTF-8"),
        ("{", "cannot be read"),
        ("[" * 100_000, "nested more than"),
        ("[" * (NESTED + 2) + "]" * (NESTED + 2), "nested more than"),
        ('{"a":' * 100_000, "nested more than"),
        ("9" * 5000, "cannot be read"),
        ("9" * 30, "more than 64 bits"),
        ('"\\ud800"', "cannot be printed"),
        ('"\\u0000"', "cannot be printed"),
        ('{"\\u001b[2J": 1}', "cannot be printed"),
        ("[0" + ",0" * 1000 + "]", "longer than 1,000 bytes"),
    ],
)
def test_what_is_wrong_with_json_is_our_error(content, words, tmp_path):
    with pytest.raises(CheckpointError, match=words):
        read_json(
            written(tmp_path, content), CheckpointError, 1000 if "1,000" in words else 1 << 20
        )


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 36))
MERGED = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "more than 100,000 values"),
        (MERGED, "merge keys"),
        ("&a [*a]", "nested more than"),
        ("[" * 10_000, "nested more than"),
        ("? [1]\n: 2", "cannot be read"),
        ("1: 2", "keys are text"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
        ("!!binary aGFsbG8=", "holds a bytes"),
        ("2024-01-01", "holds a date"),
        ("!!set {a}", "holds a set"),
        ("a: *b", "cannot be read"),
        ("a: 0x" + "f" * 1000, "more than 64 bits"),
        ("!!int x", "cannot be read"),
        ("!!timestamp x", "cannot be read"),
        ("!!bool x", "cannot be read"),
        ('"\\0"', "cannot be printed"),
    ],
)
def test_what_is_wrong_with_yaml_is_our_error_at_once(text, words):
    begun = time.monotonic()
    with pytest.raises(CheckpointError, match=words):
        parse_yaml(text, "it", CheckpointError)
    assert time.monotonic() - begun < 5


def test_only_ordinary_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "no ordinary file"),
        (tmp_path / "pipe", "no ordinary file"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "a\0b", "cannot be read"),
    ):
        with pytest.raises(DataError, match=words):
            read_text(path, DataError, 100)


def test_small_values_stand_in_a_message_as_they_are():
    for value in (
        "ddim",
        3,
        -2.5,
        None,
        True,
        (1,),
        (480, 640),
        ["a"],
        {"a": {"b": [1]}},
        b"x",
        np.float32,
        frozenset(),
    ):
        assert shorten(value) == ("{}" if value == frozenset() else repr(value))
    assert shorten(np.zeros(2)) == "array([0., 0.])"
    assert shorten(KeyError("a")) == "KeyError('a',)"


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**7,
        b"x" * 10**7,
        10**100_000,
        list(range(10**6)),
        dict.fromkeys(range(10**5), "y" * 1000),
        {("a" * 1000,) * 1000},
        KeyError("z" * 10**6),
        np.zeros((1000, 1000)),
        np.full(2, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_makes_a_message_long_or_slow(value):
    begun = time.monotonic()
    assert len(shorten(value)) <= 120
    assert len(shorten([value] * 9)) <= 120
    assert time.monotonic() - begun < 0.5


def test_shared_and_endless_values_are_described_at_once():
    shared = []
    for _ in range(200):
        shared = [shared] * 10
    endless = []
    endless.append(endless)
    begun = time.monotonic()
    assert len(shorten(shared)) <= 120
    assert shorten(endless) == "[[[[...]]]]"
    assert time.monotonic() - begun < 0.5


def test_an_unknown_word_of_any_length_makes_a_short_message_at_once():
    begun = time.monotonic()
    assert len(unknown("key", "a" * 10**6, ["ab", "b"])) < 200
    assert time.monotonic() - begun < 0.5


def test_json_at_hand_is_read_as_a_files(tmp_path):
    assert parse_json(b'{"a": 1}', "it", DataError) == {"a": 1}
