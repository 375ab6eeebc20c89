"""What the simulator was asked, and what it answers: any answer at all, spoilt on its way in any way."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

REASONS = {200: "OK", 206: "Partial Content", 307: "Temporary Redirect", 401: "Unauthorized", 404: "Not Found"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked; the keys of `headers` are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, and how it is spoilt on the way."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    length: int | None = None
    """What ``Content-Length`` says, where it lies."""
    chunks: Iterator[bytes] | None = None
    """Sent piece by piece, ``Transfer-Encoding: chunked``, in place of `body`; may never end."""
    pause: float = 0.0
    """Seconds between two pieces, or between two bytes of `body` or `raw`."""
    cut: int | None = None
    """Break off after this many bytes of the body."""
    reset: bool = False
    """Break off with RST instead of FIN; without `cut` before anything is sent."""
    hang: bool = False
    """Never answer."""
    raw: bytes | None = None
    """Sent as it is, in place of everything."""


Handler = Callable[[Request], Reply | None]


async def send(reply: Reply, request: Request, writer: asyncio.StreamWriter) -> bool:
    """Send `reply` to `request`; whether another request may follow on this connection."""
    if reply.hang:
        await asyncio.sleep(3600)
    if reply.raw is not None:
        await _send_slowly(reply.raw, reply.pause, writer)
        return False
    if reply.reset and reply.cut is None:
        return _reset(writer)
    lines = [f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Status')}"]
    lines += [f"{key}: {value}" for key, value in reply.headers]
    if reply.chunks is not None:
        lines.append("Transfer-Encoding: chunked")
    else:
        lines.append(f"Content-Length: {len(reply.body) if reply.length is None else reply.length}")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if request.method != "HEAD":
        await _send_body(reply, writer)
    await writer.drain()
    if reply.cut is not None:
        return _reset(writer) if reply.reset else False
    return reply.length is None


async def _send_body(reply: Reply, writer: asyncio.StreamWriter) -> None:
    if reply.chunks is not None:
        for chunk in reply.chunks:
            writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            await writer.drain()
            await asyncio.sleep(reply.pause)
        writer.write(b"0\r\n\r\n")
    elif reply.pause:
        await _send_slowly(reply.body, reply.pause, writer)
    else:
        writer.write(reply.body[: reply.cut])


async def _send_slowly(content: bytes, pause: float, writer: asyncio.StreamWriter) -> None:
    for piece in [bytes([byte]) for byte in content] if pause else [content]:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


def _reset(writer: asyncio.StreamWriter) -> bool:
    """Close the connection with RST: what was sent may be lost, and the other side sees an error."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
