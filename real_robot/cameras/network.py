"""A camera over HTTP that sends JPEGs one after the other (multipart/x-mixed-replace, "MJPEG")."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from urllib.error import URLError
from urllib.request import urlopen

from .base import CameraError, Picture
from .pictures import decode_jpeg

TIMESTAMP = "x-timestamp"
"""Header of a part: when its picture was made [s]."""
SAME_CLOCK_S = 5.0
"""A stamp this near to one of our clocks is taken as a time of that clock."""
LINE_BYTES = 1024
HEADERS = 64
PART_BYTES = 64 << 20


class NetworkSource:
    """Pictures of a network camera or of `hotstart robot sim`.

    A part's X-Timestamp is taken for its time where it is one of `time.monotonic` or of the wall
    clock of this machine; else the picture counts as made when it arrived.
    """

    def __init__(self, place: str, answer_s: float = 2.0) -> None:
        """Read an address.

        place: the address, as http://192.168.1.7:8080/stream
        answer_s: how long the camera may send nothing before the connection is made anew [s]
        """
        self.place, self.answer_s = place, answer_s
        self._answer: HTTPResponse | None = None
        self._boundary = b""

    def open(self, height: int, width: int, fps: float) -> None:
        """Connect; the camera's size and pace are its own."""
        try:
            answer = urlopen(self.place, timeout=self.answer_s)
        except (URLError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise CameraError(f"{self.place} does not answer: {reason}") from error
        self._answer = answer
        if answer.headers.get_content_maintype() != "multipart":
            raise CameraError(
                f"{self.place} sends {answer.headers.get_content_type()}; "
                "multipart/x-mixed-replace is wanted: give the address of the stream"
            )
        boundary = answer.headers.get_param("boundary") or ""
        self._boundary = b"--" + str(boundary).removeprefix("--").encode()

    def grab(self) -> tuple[Picture, float]:
        """The next part; its time is read off its header."""
        try:
            headers = self._read_headers()
            data = self._read_part(headers)
        except (HTTPException, ValueError) as error:
            raise CameraError(f"{self.place} sends what is no picture: {error}") from error
        arrived_s = time.monotonic()
        return decode_jpeg(data), read_stamp(headers.get(TIMESTAMP, ""), arrived_s, time.time())

    def close(self) -> None:
        """Let go of the connection."""
        if self._answer is not None:
            self._answer.close()
        self._answer = None

    def _read_line(self) -> bytes:
        assert self._answer is not None, "open comes first"
        line = self._answer.readline(LINE_BYTES)
        if not line:
            raise CameraError(f"{self.place} has ended the connection")
        return line

    def _read_headers(self) -> Mapping[str, str]:
        """The headers of the next part, names in lower case."""
        while not self._read_line().strip().startswith(self._boundary):
            pass
        headers: dict[str, str] = {}
        for _ in range(HEADERS):
            line = self._read_line().strip()
            if not line:
                return headers
            text = line.decode("latin-1")
            name = text.partition(":")[0].strip().lower()
            headers[name] = text.partition(":")[2].strip()
        raise CameraError(f"{self.place} sends more than {HEADERS} headers with a picture")

    def _read_part(self, headers: Mapping[str, str]) -> bytes:
        """The bytes of a part: as many as it says, or up to the next boundary."""
        assert self._answer is not None, "open comes first"
        if "content-length" not in headers:
            return self._read_to_boundary()
        length = int(headers["content-length"])
        if not 0 < length <= PART_BYTES:
            raise CameraError(f"{self.place} sends a picture of {length} bytes")
        data = self._answer.read(length)
        if len(data) < length:
            raise CameraError(f"{self.place} has ended the connection within a picture")
        return data

    def _read_to_boundary(self) -> bytes:
        """A part of a camera that says no length: it ends where a JPEG does, before a boundary."""
        data = bytearray()
        while len(data) <= PART_BYTES:
            data += self._read_line()
            if data.rstrip().endswith(b"\xff\xd9"):
                return bytes(data)
        raise CameraError(f"{self.place} sends a picture without an end")


def read_stamp(text: str, monotonic_s: float, wall_s: float) -> float:
    """When a picture was made by `time.monotonic`, from its stamp and both clocks now [s]."""
    try:
        stamp = float(text)
    except ValueError:
        return monotonic_s
    for now_s in (monotonic_s, wall_s):
        if abs(now_s - stamp) < SAME_CLOCK_S:
            return monotonic_s - max(0.0, now_s - stamp)
    return monotonic_s
