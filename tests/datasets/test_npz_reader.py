import io
import zipfile

import numpy as np
import pytest
from hotstart.datasets.formats.npz_reader import read_npz
from hotstart.spec import DataError

ARRAYS = {
    "a": np.arange(12.0).reshape(3, 4),
    "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "none": np.zeros((0, 4)),
}


def npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def write(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_wrote(tmp_path, save):
    save(tmp_path / "x.npz", **ARRAYS)
    arrays, unread = read_npz(tmp_path / "x.npz")
    assert not unread
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].dtype == values.dtype


@pytest.mark.parametrize(
    "values",
    [np.array([{}], dtype=object), np.array(["word"]), np.zeros(2, "M8[s]"), np.zeros(2, "f4,f4")],
)
def test_what_is_no_number_is_named_and_not_read(tmp_path, values):
    np.savez(tmp_path / "x.npz", a=ARRAYS["a"], odd=values)
    arrays, unread = read_npz(tmp_path / "x.npz")
    assert list(arrays) == ["a"]
    assert "real numbers are stored" in str(unread["odd"])


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': " + b"(" * 300 + b", }\n",
        b"{'descr': " + b"-" * 9000 + b"1, 'fortran_order': False, 'shape': (1,), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1," * 60 + b"), }\n",
        b"{'descr': '<f4\n",
        b"\xff\xfe",
        b"",
    ],
)
def test_headers_that_numpy_does_not_write_are_refused_in_a_short_message(tmp_path, header):
    with pytest.raises(DataError) as caught:
        read_npz(write(tmp_path / "x.npz", a=npy(header, bytes(4))))
    assert len(str(caught.value)) < 1000


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no array of numpy"):
        read_npz(write(tmp_path / "x.npz", a=b"words"))


def test_an_archive_that_inflates_too_far_is_refused_before_it_is_unpacked(tmp_path):
    zeros = io.BytesIO()
    with (
        zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("a.npy", "w") as member,
    ):
        member.write(bytes(1 << 20))
    raw = bytearray(zeros.getvalue())
    declared = (1 << 20).to_bytes(4, "little")
    place = raw.rindex(declared)  # in the table of contents
    raw[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(raw)
    with pytest.raises(DataError, match="more than 1000 times as much"):
        read_npz(tmp_path / "x.npz")


def test_a_member_of_another_length_than_declared_is_refused(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4096,), }\n"
    packed = write(tmp_path / "x.npz", a=npy(header, bytes(4096)))
    with zipfile.ZipFile(packed) as archive:
        size = archive.getinfo("a.npy").file_size
    raw = packed.read_bytes()
    packed.write_bytes(raw.replace(size.to_bytes(4, "little"), (size - 100).to_bytes(4, "little")))
    with pytest.raises(DataError):
        read_npz(packed)
