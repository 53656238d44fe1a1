"""Files of torch.save made to kill, to hang, to inflate or to show memory are refused at once."""

import pickle
import resource
import struct
import time
import tracemalloc
import zipfile

import pytest
import torch
from hotstart.policy.foreign import pickle_reader
from hotstart.policy.foreign.pickle_reader import Placeholder, read_tensors
from hotstart.spec import CheckpointError

GLOBAL = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
)


def whole(number: int) -> bytes:
    """A signed whole number of up to 8 bytes."""
    return b"\x8a\x08" + struct.pack("<q", number)


def tensor(offset=0, size=(4,), stride=(1,)) -> bytes:
    """Opcodes that rebuild a tensor over the storage "0"."""
    shape = b"(" + b"".join(map(whole, size)) + b"t(" + b"".join(map(whole, stride)) + b"t"
    return GLOBAL + b"(" + STORAGE + whole(offset) + shape + b"\x89Nt" + b"R"


@pytest.fixture
def written(tmp_path):
    """written(opcodes): a file of torch.save with that pickle and a storage "0" of four numbers."""

    def write(
        opcodes: bytes,
        packed: int = zipfile.ZIP_STORED,
        numbers: bytes = torch.arange(4.0).numpy().tobytes(),
    ):
        path = tmp_path / "a.ckpt"
        with zipfile.ZipFile(path, "w", packed) as archive:
            archive.writestr("a/data.pkl", b"\x80\x02" + opcodes + b".")
            archive.writestr("a/data/0", numbers)
        return path

    return write


def test_opcodes_by_hand_build_a_tensor(written):
    assert read_tensors(written(tensor())).tolist() == [0, 1, 2, 3]
    assert read_tensors(written(tensor(1, (2,), (2,)))).tolist() == [1, 3]


SHARED = b"(tq\x00" + b"".join(b"(" + b"h%c" % i * 30 + b"tq%c" % (i + 1) for i in range(50))
HOSTILE = {
    "a key nested 200,000 deep": b"}" + b")" + b"\x85" * 200_000 + b"K\x01s",
    "a tuple nested 200,000 deep": b")" + b"\x85" * 200_000,
    "lists nested 200,000 deep": b"]" * 200_000 + b"a" * 199_999,
    "a key of shared tuples": b"}" + SHARED + b"K\x01s",
    "a set of shared tuples": b"\x8f(" + SHARED + b"\x90",
    "a call with shared tuples": b"cos\nsystem\n" + SHARED + b"R",
    "a tensor of shared tuples": GLOBAL + SHARED + b"R",
    "a place in the memo far away": b"Nr\xff\xff\xff\xff",
    "a state for a tensor": tensor() + b"(" + whole(0) + b"tb",
    "a state for a storage": STORAGE + b"}b",
    "a state for a list": b"]}b",
    "a tensor beyond its storage": tensor(2),
    "a tensor with a negative offset": tensor(-1),
    "a tensor with negative strides": tensor(3, (4,), (-1,)),
    "a tensor larger than its storage": tensor(0, (1 << 40,), (0,)),
    "a tensor of huge size": tensor(0, ((1 << 62), (1 << 62)), (0, 0)),
    "strides beyond 64 bits": tensor(0, (1, 4), ((1 << 62), 1)),
    "a tensor of sixty dimensions": tensor(0, (1,) * 60, (1,) * 60),
    "marks without end": b"(" * 100_000,
    "nothing": b"",
    "two values": b"NN",
    "more taken than given": b"0",
    "a value below a mark": b"N(0t",
    "a place in the memo that is empty": b"h\x05",
    "an opcode by extension": b"\x82\x01",
    "an object by protocol 0": b"ios\nsystem\n",
    "a call without a function": b")R",
    "a storage of somebody else's": b"X\x01\x00\x00\x000Q",
    "a storage that is not there": STORAGE.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x007"),
    "a storage of another folder": STORAGE.replace(
        b"X\x01\x00\x00\x000", b"X\x0b\x00\x00\x00../data.pkl"
    ),
    "one storage as two kinds": STORAGE
    + STORAGE.replace(b"FloatStorage", b"LongStorage")
    + b"\x86",
    "text that is none": b"X\x02\x00\x00\x00\xff\xfe",
    "text longer than the file": b"X\xff\xff\xff\x7f",
    "bytes longer than memory": b"\x8e" + b"\xff" * 7 + b"\x7f",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_ends_at_once_and_small(name, written):
    path = written(HOSTILE[name])
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = read_tensors(path)
    except CheckpointError as error:
        assert len(str(error)) < 600 + len(str(path))
        assert str(path) in str(error)
    else:  # harmless: nothing of it was built
        assert found is None or isinstance(found, dict | list | tuple | Placeholder | torch.Tensor)
    assert time.monotonic() - started < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a state for a tensor", "sets the state"),
        ("a tensor beyond its storage", "beyond its storage"),
        ("a tensor with a negative offset", "has the shape"),
        ("a tensor larger than its storage", "larger than its storage"),
        ("a tensor of sixty dimensions", "has the shape"),
        ("marks without end", "nested more than"),
        ("an opcode by extension", "opcode EXT1"),
        ("a storage of another folder", "cannot be read"),
        ("one storage as two kinds", "two kinds of numbers"),
        ("a value below a mark", "more values than it has"),
    ],
)
def test_what_is_wrong_with_a_pickle_is_named(name, words, written):
    with pytest.raises(CheckpointError, match=words):
        read_tensors(written(HOSTILE[name]))


def test_keys_that_are_neither_text_nor_small_numbers_are_left_out(written):
    assert read_tensors(
        written(b"}(X\x01\x00\x00\x00aK\x01K\x07K\x02)K\x03" + whole(1 << 40) + b"K\x04u")
    ) == {"a": 1, 7: 2}


def test_compressed_members_are_refused_before_they_are_unpacked(written):
    path = written(tensor(), zipfile.ZIP_DEFLATED, bytes(100 << 20))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="its members are compressed"):
        read_tensors(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_members_that_overlap_are_refused(written):
    path = written(tensor(), numbers=bytes(4000))
    raw = path.read_bytes()
    entry = raw[
        raw.rindex(b"PK\x01\x02") : raw.index(b"PK\x05\x06")
    ]  # the storage's, said a thousand times
    end = raw.index(b"PK\x05\x06")
    closing = bytearray(raw[end:])
    struct.pack_into(
        "<HHI", closing, 8, 1002, 1002, end + 1000 * len(entry) - raw.index(b"PK\x01\x02")
    )
    path.write_bytes(raw[:end] + entry * 1000 + bytes(closing))
    assert len(zipfile.ZipFile(path).infolist()) == 1002
    with pytest.raises(CheckpointError, match="its members are longer than the file"):
        read_tensors(path)


def test_views_of_one_storage_do_not_multiply_memory(written, monkeypatch):
    monkeypatch.setattr(pickle_reader, "OPCODES", 5000)
    numbers = torch.zeros(10_000).numpy().tobytes()
    many = b"](" + tensor(0, (10_000,), (1,)) * 5 + b"e"
    with pytest.raises(CheckpointError, match="same numbers many times over"):
        read_tensors(written(many, numbers=numbers))
    few = b"](" + tensor(0, (10_000,), (1,)) * 2 + b"e"
    first, second = read_tensors(written(few, numbers=numbers))
    assert first.data_ptr() == second.data_ptr()


def test_there_is_a_limit_to_opcodes_and_to_the_pickle(written, monkeypatch):
    monkeypatch.setattr(pickle_reader, "OPCODES", 100)
    with pytest.raises(CheckpointError, match="more than 100 opcodes"):
        read_tensors(written(b"N0" * 60 + b"N"))
    monkeypatch.setattr(pickle_reader, "PICKLE_BYTES", 100)
    with pytest.raises(CheckpointError, match="at most 100 are read"):
        read_tensors(written(b"N0" * 60 + b"N"))


def test_every_protocol_of_torch_save_is_read(tmp_path):
    content = {
        "a": torch.arange(3.0),
        "b": torch.nn.Parameter(torch.ones(2)),
        "c": [1, (2.5, None, True)],
        "d": b"x",
    }
    for protocol in (2, 3, 4, 5):
        torch.save(content, tmp_path / "a.pt", pickle_protocol=protocol)
        found = read_tensors(tmp_path / "a.pt")
        assert found["a"].tolist() == [0, 1, 2]
        assert found["b"].tolist() == [1, 1]
        assert found["c"] == [1, (2.5, None, True)]


def test_no_bit_flip_gets_past_as_anything_but_ours(tmp_path):
    torch.save(
        {"state_dicts": {"model": {"x": torch.arange(8.0)}}, "cfg": OSError("x")},
        tmp_path / "a.ckpt",
    )
    raw = (tmp_path / "a.ckpt").read_bytes()
    refused = 0
    for bit in range(0, 8 * len(raw), 61):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a.ckpt").write_bytes(flipped)
        try:
            read_tensors(tmp_path / "a.ckpt")
        except CheckpointError:
            refused += 1
    assert refused > 20


def test_the_pickles_by_hand_are_what_python_would_read():
    """The hostile texts above are real pickles: Python's own reader takes the harmless ones."""
    assert pickle.loads(b"\x80\x02}(X\x01\x00\x00\x00aK\x01u.") == {"a": 1}
    assert pickle.loads(b"\x80\x02" + whole(1 << 40) + b".") == 1 << 40
