"""HDF5 that somebody else may have written: only what lies in the file is read, within limits."""

import h5py
import numpy as np
import pytest
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.hdf5_files import FilePool, Hdf5File
from hotstart.datasets.formats.registry import open_foreign
from hotstart.spec import DataError, HotstartError

KEYS = ReadOptions(keys={"action": "action", "state": "state"}, fps=10)
STATES = np.arange(8.0).reshape(4, 2)


def write(path, **changes):
    """A good file, its state changed."""
    with h5py.File(path, "w") as file:
        file["action"] = np.zeros((4, 2))
        file["kept"] = STATES
        for name, change in changes.items():
            change(file, name)
    return path


def link_outside(file, name):
    file[name] = h5py.ExternalLink("other.hdf5", "/state")


def link_behind(file, name):
    file["inner"] = h5py.ExternalLink("other.hdf5", "/")
    file[name] = h5py.SoftLink("/inner/state")


def link_round(file, name):
    file[name] = h5py.SoftLink("/loop")
    file["loop"] = h5py.SoftLink(f"/{name}")


def store_outside(file, name):
    file.create_dataset(name, (4, 2), "f8", external=[("/etc/passwd", 0, 64)])


def map_outside(file, name):
    layout = h5py.VirtualLayout((4, 2), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "state", (4, 2))
    file.create_virtual_dataset(name, layout)


def hold_references(file, name):
    file.create_dataset(name, (4,), h5py.ref_dtype)


def hold_records(file, name):
    file[name] = np.zeros(4, [("a", "f4"), ("b", "O8")][:1])


def pack_unknown(file, name):
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((4, 2))
    settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple((4, 2))
    made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_DOUBLE, space, settings)
    h5py.Dataset(made)[:] = STATES


def never_write(file, name):
    file.create_dataset(name, (4, 2), "f8")


def lose_chunks(file, name):
    file.create_dataset(name, (4, 2), "f8", chunks=(1, 2))[:2] = 1


def inflate(file, name):
    made = file.create_dataset(name, (1 << 36, 2), "f8", chunks=(1 << 10, 2), compression=9)
    made[:1024] = 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (link_outside, "leads out of the file"),
        (link_behind, "leads out of the file"),
        (link_round, "round and round"),
        (store_outside, "lies in other files"),
        (map_outside, "lies in other files"),
        (hold_references, "no plain numbers"),
        (hold_records, "no plain numbers"),
        (pack_unknown, r"Zstandard \(filter 32015\).*h5repack"),
        (never_write, "never written"),
        (lose_chunks, "2 of its 4 chunks"),
        (inflate, "more than 1000 times"),
    ],
)
def test_what_leads_out_inflates_or_runs_is_refused(tmp_path, change, said):
    write(tmp_path / "other.hdf5", state=lambda file, name: file.update({name: STATES}))
    path = write(tmp_path / "a.hdf5", state=change)
    with pytest.raises(DataError, match=said):
        open_foreign(path, KEYS, "hdf5")


def test_links_inside_the_file_and_every_kind_of_number_are_read(tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, state=lambda file, name: file.update({name: h5py.SoftLink("kept")}))
    np.testing.assert_array_equal(open_foreign(path, KEYS, "hdf5").array("state"), STATES)
    path = tmp_path / "b.hdf5"
    with h5py.File(path, "w") as file:
        for dtype in ("<f2", ">f4", ">i8", "|u1", "<i2", "|b1"):
            file[dtype] = STATES.astype(dtype)
            file.create_dataset(f"packed{dtype}", data=STATES.astype(dtype), compression="lzf")
    root = Hdf5File(path, FilePool()).root()
    for name in root.names():
        array = root.array(name)
        assert (array.offset is None) == ("packed" in name)
        np.testing.assert_array_equal(array.rows(1, 9), STATES.astype(name[-3:])[1:])


def test_a_file_that_changes_behind_its_reader_is_refused(tmp_path):
    path = write(tmp_path / "a.hdf5", state=lambda file, name: file.update({name: STATES}))
    data = open_foreign(path, KEYS, "hdf5")
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match="has changed since"):
        data.array("state")


def test_damaged_files_are_read_or_refused(tmp_path):
    def fill(file, name):
        file.create_dataset(name, data=STATES, chunks=(2, 2), compression=4)

    good = write(tmp_path / "a.hdf5", state=fill).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(16):
        raw = bytearray(good)
        if number % 2:
            del raw[int(rng.integers(len(raw))) :]
        else:
            places = rng.integers(0, len(raw), 8)
            for place in places:
                raw[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"{number}.hdf5"
        path.write_bytes(raw)
        try:
            assert open_foreign(path, KEYS, "hdf5").array("state").shape == (4, 2)
        except HotstartError as error:
            refused += 1
            assert len(str(error)) < 1000
    assert refused >= 8
