"""A disk that takes no more: a message, and nothing finished is lost.

A limit on the size of files stands for the disk.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from hotstart.datasets.store import Store

START = """
    import resource, signal, sys
    from pathlib import Path
    import numpy as np
    sys.path.insert(0, sys.argv[2])
    from conftest import make_episode
    from hotstart.datasets.formats.conversion import convert
    from hotstart.datasets.formats.foreign_data import ReadOptions
    from hotstart.datasets.frames import open_frames
    from hotstart.datasets.store import Store
    from hotstart.spec import DataError
    path, most = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def limited(size, act):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
        try:
            act()
        except DataError as error:
            return str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
"""


def run(program, path):
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(START) + textwrap.dedent(program),
        str(path),
        str(Path(__file__).parent),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_episode_that_does_not_fit_is_refused_and_can_be_appended_later(
    tmp_path, specs, episode_maker
):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    store.append(episode_maker(0))
    store.release()
    said = run(
        """
        store = Store.open(path)
        print(limited(5000, lambda: store.append(make_episode(1, 2000))))
        assert len(store.lengths) == len(Store.open(path).lengths) == 1
        store.append(make_episode(2))
        """,
        store.path,
    )
    assert "the new episodes cannot be written; the 1 finished ones are kept" in said
    opened = Store.open(store.path)
    for number, wanted in ((0, episode_maker(0)), (1, episode_maker(2))):
        for key, values in wanted.items():
            np.testing.assert_array_equal(opened.episode(number)[key], values)
    assert not list(store.path.rglob("*.partial"))


def test_a_store_and_a_conversion_that_cannot_be_made_leave_nothing_in_the_target(tmp_path):
    np.savez(
        tmp_path / "a.npz", action=np.ones((3, 2)), obs=np.ones((3, 4)), episode_ends=np.array([3])
    )
    said = run(
        """
        target = path / "data"
        print(limited(10, lambda: convert(path / "a.npz", target, ReadOptions(fps=10))))
        assert not target.exists()
        assert len(convert(path / "a.npz", target, ReadOptions(fps=10))) == 3
        """,
        tmp_path,
    )
    assert "cannot be made" in said


def test_decoded_pictures_that_do_not_fit_are_a_message(tmp_path, specs, episode_maker):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    store.append(episode_maker(0, 40))
    store.release()
    said = run(
        """
        print(limited(1000, lambda: open_frames(Store.open(path), ["image"], "disk", 1)))
        assert not list(path.parent.rglob("*.writing"))
        """,
        store.path,
    )
    assert "choose training.cache=none" in said
