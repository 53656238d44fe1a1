"""Fetches published data sets.

A download that was cut off is resumed, and the contents are checked. Files that were fetched by
hand are accepted too.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..spec import ConfigError, DataError, cut
from .formats.files import DAMAGE, check_inflation
from .formats.replay_buffer import ReplayBuffer, find_prefix, read_replay_buffer
from .store import refuse_full_disk

ATTEMPTS = 5
TIMEOUT_S = 30.0
PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Source:
    """A published data set: a zip with a replay buffer in it."""

    address: str
    folder: str  # name of the Zarr folder in the zip
    episodes: int
    steps: int
    layout: str = "plain"
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Digests of the decoded arrays' bytes, so that packing does not matter."""


SOURCES: dict[str, Source] = {
    "pusht": Source(
        address="https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip",
        folder="pusht_cchi_v7_replay.zarr",
        episodes=206,
        steps=25_650,
        layout="pusht",
        sha256={
            "action": "6691b085749144b8db1aede97a80fb380afd08953fcd03660b441d0ffe9d6a8f",
            "state": "dcdc539bfdba9fc01cba8d2fe91cc580539ec046a88b0ffbe91be5511948d4dc",
            "keypoint": "2419980734c1d41050f8fbf7513031e6e784168bafbe42bcec81fdebe44c6611",
            "episode_ends": "82db02e667c59a83fedb211ab9b84182591b75009df1385210d5235197f93d72",
        },
    ),
}


def download(
    name: str,
    folder: str | Path,
    *,
    address: str | None = None,
    sources: Mapping[str, Source] = SOURCES,
) -> Path:
    """The path of a published replay buffer in `folder`.

    It is fetched, checked and unpacked unless it is there already.
    A zip that lies at folder/NAME.zip is taken as it is, so one fetched by hand serves as well.
    `address` names another place that has the same data. Raises ConfigError for an unknown name;
    DataError when it cannot be fetched or is not the published data.
    """
    if name not in sources:
        raise ConfigError(
            f"there is no published data set {name!r} here; there are {sorted(sources)}"
        )
    source, folder = sources[name], Path(folder)
    target, archive = folder / source.folder, folder / f"{name}.zip"
    if target.exists():
        check_contents(read_replay_buffer(target), source)
        return target
    with refuse_full_disk(f"{folder} cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    if not archive.exists():
        fetch(address or source.address, archive)
    try:
        check_contents(read_replay_buffer(archive), source)
    except DataError as error:
        with refuse_full_disk(f"{error}, and {archive} cannot be put aside"):
            refused = archive.replace(archive.with_suffix(".refused"))
        raise DataError(
            f"{error}. The file has been put aside as {refused}; call again to fetch it anew"
        ) from error
    _unpack(archive, target)
    return target


def check_contents(buffer: ReplayBuffer, source: Source) -> None:
    """Raise DataError unless the buffer holds the published numbers."""
    episodes, steps = len(buffer.episode_ends), int(buffer.episode_ends[-1])
    if (episodes, steps) != (source.episodes, source.steps):
        raise DataError(
            f"{buffer.path} has {episodes} episodes and {steps} steps; "
            f"the published data has {source.episodes} episodes and {source.steps} steps"
        )
    for key, wanted in source.sha256.items():
        if key == "episode_ends":
            array = buffer.episode_ends
        else:
            array = buffer.array(key)
        plain = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
        found = hashlib.sha256(plain.tobytes()).hexdigest()
        if found != wanted:
            raise DataError(
                f"{buffer.path}: {key!r} is not the published data "
                f"(sha256 {found[:12]}..., not {wanted[:12]}...)"
            )


def fetch(address: str, target: Path) -> None:
    """Load a file over HTTP into `target`.

    An earlier, partial one (`target`.part) is continued where the server allows it. Tries again
    after a cut as long as something arrives; otherwise raises DataError with what to do by hand.
    """
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"{address!r} is not an address; it must begin with https:// or http://")
    part = target.with_name(target.name + ".part")
    trouble = ""
    for _ in range(ATTEMPTS):
        before = _size(part)
        try:
            _fetch_rest(address, part)
        except urllib.error.HTTPError as error:
            trouble = f"the server answered {error.code} {error.reason}"
            break
        except (OSError, http.client.HTTPException, _Cut) as error:
            trouble = str(getattr(error, "reason", error)) or type(error).__name__
            if _size(part) <= before:
                break
        else:
            part.replace(target)
            _tag_file(part).unlink(missing_ok=True)
            return
    if _size(part):
        kept = f" {_size(part):,} bytes are kept, and the next call goes on from there."
    else:
        kept = ""
    raise DataError(
        f"{address} could not be fetched ({trouble}).{kept} Call again later, or fetch that file "
        f"on another machine and put it at {target.resolve()}; the next call takes it up. "
        "Another place that has it is given as address=..."
    )


class _Cut(Exception):
    """The connection ended before the file did."""


def _fetch_rest(address: str, part: Path) -> None:
    """One request for what is still missing; raises _Cut when less arrives than was announced."""
    request = urllib.request.Request(address, headers=_range_headers(part))
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{_size(part)}"):
            return  # the earlier part was whole
        part.unlink()
        answer = urllib.request.urlopen(address, timeout=TIMEOUT_S)
    with answer:
        if _continues(answer.status, answer.headers, _size(part)):
            start = _size(part)
        else:
            start = 0
        tag = answer.headers.get("ETag", "W/")
        # Weak tags cannot be asked for again (RFC 9110, section 13.1.5).
        if not tag.startswith("W/"):
            _tag_file(part).write_text(tag)
        length = answer.headers.get("Content-Length")
        if length is None:
            total = None
        else:
            total = start + int(length)
        _pour(answer, part, start, total)


def _range_headers(part: Path) -> dict[str, str]:
    """Ask for the rest of a part, provided that the file has not changed since (If-Range)."""
    if not _size(part):
        return {}
    headers = {"Range": f"bytes={_size(part)}-"}
    if _tag_file(part).exists():
        headers["If-Range"] = _tag_file(part).read_text()
    return headers


def _continues(status: int, headers: Message, size: int) -> bool:
    """Whether the server sends what follows `size` bytes; otherwise it sends the whole file."""
    if status != http.HTTPStatus.PARTIAL_CONTENT:
        return False
    if headers.get("Content-Range", "").startswith(f"bytes {size}-"):
        return True
    raise _Cut(f"the server sent another part than asked for: {headers.get('Content-Range')}")


def _pour(answer: http.client.HTTPResponse, part: Path, start: int, total: int | None) -> None:
    """Write the answer's body behind the first `start` bytes of the part."""
    if start:
        mode = "ab"
    else:
        mode = "wb"
    bar = tqdm(
        total=total,
        initial=start,
        desc=f"fetching {part.name.removesuffix('.part')}",
        unit="B",
        unit_scale=True,
        disable=None,
    )
    with part.open(mode) as file, bar:
        while piece := answer.read(PIECE_BYTES):
            file.write(piece)
            bar.update(len(piece))
    if total is not None and _size(part) < total:
        raise _Cut(f"the connection was cut after {_size(part):,} of {total:,} bytes")


def _size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    if path.exists():
        return path.stat().st_size
    return 0


def _tag_file(part: Path) -> Path:
    """Where the server's tag for the file's version is kept between calls."""
    return part.with_name(part.name + ".etag")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the Zarr folder of a checked zip as `target`; it appears there only when whole.

    Entries outside that folder are left out; zipfile itself drops absolute paths and "..".
    """
    making = target.with_name(target.name + ".unpacking")
    shutil.rmtree(making, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            prefix = find_prefix(packed.namelist())
            wanted: list[zipfile.ZipInfo] = []
            unpacked = 0
            for info in packed.infolist():
                if info.filename.startswith(prefix) and "__MACOSX" not in info.filename:
                    wanted.append(info)
                    unpacked += info.file_size
            check_inflation(str(archive), unpacked, archive.stat().st_size)
            for info in tqdm(wanted, desc=f"unpacking {archive.name}", unit="file", disable=None):
                packed.extract(info, making)
        (making / prefix).replace(target)
    except DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{archive} could not be unpacked to {target} ({cut(str(error))})"
        ) from error
    shutil.rmtree(making, ignore_errors=True)
