"""Questions to the motors of one bus through their vendor's client: read, write, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..driver import DriverError
from .registers import Register, Table
from .serial_port import SerialPort

Heard = Literal["whole", "broken", "silent"]
PATIENT_S = 0.03
"""How long an answer may take outside the control loop: computers are busy, adapters slow."""
TRIES = 3
"""Of one question that must be answered, outside the control loop."""


class BusError(DriverError):
    """A motor did not answer, or what came was broken."""


@dataclass(frozen=True)
class Layout:
    """Where a vendor's client leaves the parts of an answer."""

    id: int
    error: int
    data: int
    broken: int
    """Its result for an answer with a wrong checksum."""


@dataclass(frozen=True)
class Reply:
    """What one motor has answered."""

    data: bytes
    error: int
    """The error byte that comes with every answer."""


class MotorBus:
    """One bus. A lock around it is the caller's."""

    def __init__(
        self, port: SerialPort, handler: Any, table: Table, layout: Layout, extra: tuple[bool, ...]
    ) -> None:
        """`handler`: the client's packet handler; `extra`: what its newer versions ask besides."""
        self.port = port
        self.table = table
        self.lost = 0
        """Answers that did not come, or came broken."""
        self._handler = handler
        self._layout = layout
        self._extra = extra

    def listen(self, id: int, tries: int = TRIES) -> Heard:
        """What comes back when a motor is asked for its present values.

        Two motors with one id talk at the same time, and what comes is broken.
        """
        address = self.table["present_position"].address
        heard: Heard = "silent"
        for _ in range(tries):
            _, result = self._ask(id, address, 8)
            if result == 0:
                return "whole"
            if result == self._layout.broken:
                heard = "broken"
        return heard

    def read(self, id: int, name: str) -> int:
        """The number in a motor's register; raises BusError after three tries."""
        register = self.table[name]
        result = 0
        for _ in range(TRIES):
            data, result = self._ask(id, register.address, register.size)
            if result == 0 and len(data) >= register.size:
                return register.decode(bytes(data[: register.size]))
            self._lose()
        raise BusError(f"motor {id} does not tell its {name}: {self._explain(result)}")

    def write(self, id: int, name: str, value: int) -> None:
        """Write a motor's register and see it acknowledged; raises BusError after three tries."""
        register = self.table[name]
        data = list(register.encode(value))
        result = 0
        for _ in range(TRIES):
            self._begin(PATIENT_S)
            result, error = self._handler.writeTxRx(
                self.port, id, register.address, register.size, data
            )
            if result == 0:
                self._check_refusal(id, name, value, error)
                return
            self._lose()
        raise BusError(f"motor {id} does not take its {name}: {self._explain(result)}")

    def read_all(self, ids: Sequence[int], address: int, size: int) -> dict[int, Reply]:
        """One question to several motors; those that did not answer are missing.

        They answer in turn: after the last one's answer nothing is waited for.
        """
        self._begin(0.0)
        wanted = list(ids)
        result = self._handler.syncReadTx(
            self.port, address, size, wanted, len(wanted), *self._extra
        )
        replies: dict[int, Reply] = {}
        while result == 0 and wanted[-1] not in replies:
            raw, result = self._handler.rxPacket(self.port, *self._extra)
            if result == self._layout.broken and not self.port.isPacketTimeout():
                result = 0  # those behind it may be whole
            elif result == 0:
                self._take(raw, size, wanted, replies)
        self.lost += len(wanted) - len(replies)
        return replies

    def write_all(self, name: str, values: Mapping[int, int]) -> None:
        """One message to several motors; none acknowledges it."""
        register = self.table[name]
        self._begin(0.0)
        parameters: list[int] = []
        for id, value in values.items():
            parameters.append(id)
            parameters += register.encode(value)
        result = self._handler.syncWriteTxOnly(
            self.port, register.address, register.size, parameters, len(parameters)
        )
        if result != 0:
            raise BusError(f"the motors cannot be written to: {self._explain(result)}")

    def _begin(self, patience_s: float) -> None:
        """A new question; its answer may take `patience_s`, or as long as an answer may."""
        self.port.is_using = False
        self.port.patience_s = patience_s

    def _ask(self, id: int, address: int, size: int) -> tuple[list[int], int]:
        """A stretch of one motor's memory, and the client's result."""
        self._begin(PATIENT_S)
        answer = self._handler.readTxRx(self.port, id, address, size)
        return answer[0], answer[1]

    def _lose(self) -> None:
        self.lost += 1
        self.port.settle()

    def _take(
        self, raw: list[int], size: int, wanted: Sequence[int], replies: dict[int, Reply]
    ) -> None:
        """Put an answer among the replies, if it is one of those asked for."""
        layout = self._layout
        data = bytes(raw[layout.data : layout.data + size])
        if len(data) == size and raw[layout.id] in wanted:
            replies[raw[layout.id]] = Reply(data, raw[layout.error])

    def _check_refusal(self, id: int, name: str, value: int, error: int) -> None:
        """For vendors whose motors refuse a value; raises BusError."""

    def _explain(self, result: int) -> str:
        words = self._handler.getTxRxResult(result).removeprefix("[TxRxResult] ")
        return words.strip() or f"error {result}"


def slice_register(block: bytes, begin: int, register: Register) -> int:
    """The number of a register within a block of memory that begins at an address."""
    start = register.address - begin
    return register.decode(block[start : start + register.size])
