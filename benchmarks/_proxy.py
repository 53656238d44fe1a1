"""A process that passes TCP connections on from one address to another: a network to cut."""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until one side ends."""
    with contextlib.suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


async def serve(ours: str, theirs: str, ports: list[int]) -> None:
    """Listen at the ports of our address, for ever."""

    def make_handler(port: int):  # noqa: ANN202
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(theirs, port)
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

        return handle

    for port in ports:
        await asyncio.start_server(make_handler(port), ours, port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], [int(text) for text in sys.argv[3:]]))
