"""A CONNECT proxy in a process of its own: makes tunnels, or answers what it is told, and writes down what it was asked.

`python connect_proxy.py LOG` prints its port. It answers by the target's port where ANSWERS (JSON) says so: a status,
`silence`, `hang-up` or `noise`. Each request goes to LOG as one line of JSON before it is answered.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

HOST = "127.0.0.1"


class ConnectProxy:
    """Every connection asks for one tunnel."""

    def __init__(self, log: Path, *, answers: dict[str, str], credentials: str) -> None:
        self._log = log
        self._answers = answers
        self._credentials = credentials

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one CONNECT, then carry bytes both ways until either side ends."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *rest = head.split("\r\n")
            method, place, _ = line.split(" ")
            headers = dict(header.lower().split(": ", 1) for header in rest if header)
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"method": method, "place": place, "headers": headers}) + "\n")
            host, _, port = place.rpartition(":")
            answer = self._answers.get(port, "200")
            if self._credentials and headers.get("proxy-authorization") != self._credentials.lower():
                answer = "407"
            await self._answer(answer, reader, writer, host=host.strip("[]"), port=int(port))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self,
        answer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        host: str,
        port: int,
    ) -> None:
        if answer == "hang-up":
            return
        if answer == "silence":
            await reader.read()
            return
        if answer == "noise":
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            await writer.drain()
            return
        if answer == "200":
            try:
                there, onward = await asyncio.open_connection(host, port)
            except OSError:
                answer = "503"
        writer.write(f"HTTP/1.1 {answer} Said\r\nVia: test\r\n\r\n".encode())
        await writer.drain()
        if answer == "200":
            await asyncio.gather(_carry(reader, onward), _carry(there, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _main(log: Path, answers: dict[str, str], credentials: str) -> None:
    proxy = ConnectProxy(log, answers=answers, credentials=credentials)
    server = await asyncio.start_server(proxy.serve, HOST, 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]))
