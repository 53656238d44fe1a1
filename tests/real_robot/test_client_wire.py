"""Messages as bytes: what arrives is what was sent, and what nobody may send is refused."""

import tracemalloc

import msgpack
import numpy as np
import pytest
from hotstart.real_robot.client.wire import WireError, pack, unpack

DTYPES = ("bool", "uint8", "int64", ">i4", "float16", "float32", ">f8")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_arrays_arrive_as_they_were_sent(dtype, shape):
    sent = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    got = unpack(pack({"a": {"b": [sent, 1]}, "c": "text"}))
    array = got["a"]["b"][0]
    np.testing.assert_array_equal(array, sent)
    assert array.dtype == sent.dtype.newbyteorder("=")
    assert array.shape == shape
    assert got["c"] == "text"


def test_arrays_are_written_as_openpis_client_writes_them():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    plain = msgpack.unpackb(pack({"a": array, "b": np.int64(7)}))
    assert plain == {
        "a": {
            b"__ndarray__": True,
            b"data": array.tobytes(),
            b"dtype": "<f4",
            b"shape": [2, 3],
        },
        "b": {b"__npgeneric__": True, b"data": 7, b"dtype": "<i8"},
    }
    assert unpack(msgpack.Packer().pack(plain))["b"] == 7


@pytest.mark.parametrize("value", [np.array([None]), np.array(["a"]), np.zeros(1, "c8"), object()])
def test_what_is_no_number_is_not_sent(value):
    with pytest.raises(WireError, match="cannot be sent"):
        pack({"a": value})


def make_array(**changes):
    fields = {"data": b"\0" * 8, "dtype": "<f4", "shape": [2], "__ndarray__": True, **changes}
    return {"a": {name.encode(): value for name, value in fields.items()}}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (make_array(dtype="|O"), "numbers of a fixed size"),
        (make_array(dtype="V8"), "numbers of a fixed size"),
        (make_array(dtype=["a", "<f4"]), "numbers of a fixed size"),
        (make_array(shape=[-1, -2]), "sizes are 0 or more"),
        (make_array(shape=[True, 2]), "sizes are 0 or more"),
        (make_array(shape=[2.0]), "sizes are 0 or more"),
        (make_array(shape=[1] * 9 + [2]), "at most 8"),
        (make_array(shape=[2**40, 2**40]), "takes 4835703278458516698824704 bytes"),
        (make_array(shape=[2**32, 2**32, 0, 2]), "takes 0 bytes"),
        (make_array(shape=[3]), "takes 12 bytes"),
        (make_array(data="text"), "takes 8 bytes"),
        ({"a": {b"__npgeneric__": True, b"data": "1", b"dtype": "<f4"}}, "given as str"),
        ({"a": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}, "300 is no uint8"),
        ({"a": msgpack.ExtType(1, b"x")}, "an extension"),
        ({b"a": 1}, "keys are texts"),
        ({"a": [0] * 5000}, "no msgpack"),
        ({"a": [[]] * 4000, "b": [[]] * 4000}, "more than 4096 lists"),
        ([1, 2], "a list; a map is wanted"),
    ],
)
def test_a_message_that_claims_too_much_or_the_wrong_thing_is_refused(message, words):
    with pytest.raises(WireError, match=words):
        unpack(msgpack.Packer().pack(message))


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_message_that_was_cut_off_is_refused(cut):
    whole = pack({"state": np.arange(9.0), "__request__": {"kind": "infer"}})
    assert len(whole) > 60
    with pytest.raises(WireError):
        unpack(whole[:cut])


def test_random_bytes_are_refused_or_read_and_never_take_much_memory():
    rng = np.random.default_rng(1)
    tracemalloc.start()
    for _ in range(300):
        data = bytearray(pack({"state": np.arange(9.0), "__request__": {"id": 1}}))
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(256)
        try:
            unpack(bytes(data))
        except WireError:
            continue
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_nested_lists_take_bounded_memory():
    tracemalloc.start()
    with pytest.raises(WireError):
        unpack(b"\xdc\x0f\xff" * 20_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20
