"""CPU that one signed 500-byte POST costs the sender: Bellwire's engine, and httpx2 above and beside it.

Run `python -m bench.send_cpu`. The receiver is an `asyncio.Protocol` in a process of its own that answers a fixed
response as soon as a request's last byte is there; its CPU is not counted.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from multiprocessing.connection import Connection

import httpx2
import uvloop

from app.core.egress import EgressPolicy
from workers.guard import EgressGuard
from workers.resolver import ThreadResolver
from workers.transport import BellwireTransport, EngineLimits, HttpEngine, Target, encode_headers

BODY = b'{"type":"order.placed","timestamp":"2026-01-01T00:00:00.000Z","data":"' + b"x" * 428 + b'"}'
HEADERS = [
    (b"content-type", b"application/json"),
    (b"user-agent", b"Bellwire/0.1.0"),
    (b"webhook-id", b"evt_01jgkh8w2vfz5q3t7s9k4m6n8p"),
    (b"webhook-timestamp", b"1767225600"),
    (b"webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
]
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nok\n"
)
WARM_UP = 2_000
REQUESTS = 20_000

Send = Callable[[], Awaitable[object]]


class Receiver(asyncio.Protocol):
    """Answers each request when as many bytes have come as its head announced."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


def serve(ready: Connection) -> None:
    """Run the receiver until the process is ended."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def measure(send: Send, *, in_flight: int, requests: int) -> tuple[float, float]:
    """Return CPU microseconds a request and requests a second."""

    async def worker(count: int) -> None:
        for _ in range(count):
            await send()

    async def run(total: int) -> None:
        await asyncio.gather(*(worker(total // in_flight) for _ in range(in_flight)))

    await run(min(WARM_UP, requests))
    cpu, wall = time.process_time(), time.perf_counter()
    await run(requests)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    done = requests // in_flight * in_flight
    return cpu / done * 1e6, done / wall


async def compare(port: int, *, loop_name: str) -> None:
    """Print one line for each client and load."""
    guard = EgressGuard(policy=EgressPolicy(allow=[ip_network("127.0.0.0/8")]), resolver=ThreadResolver())
    url = f"http://127.0.0.1:{port}/hook"
    target = Target.from_url(url)
    lines = encode_headers(HEADERS)
    async with (
        HttpEngine(guard=guard, limits=EngineLimits(max_idle_per_origin=256)) as engine,
        httpx2.AsyncClient(transport=BellwireTransport(engine)) as over,
        httpx2.AsyncClient(trust_env=False, limits=httpx2.Limits(max_connections=None)) as stock,
    ):

        async def through_engine() -> object:
            return await engine.post(target, headers=lines, body=BODY, deadline=time.monotonic() + 15)

        async def through_transport() -> object:
            return await over.post(url, headers=HEADERS, content=BODY)

        async def through_stock() -> object:
            return await stock.post(url, headers=HEADERS, content=BODY)

        for name, send, requests in (
            ("engine", through_engine, REQUESTS),
            ("httpx2 client over the engine", through_transport, REQUESTS // 5),
            ("httpx2 client, stock transport", through_stock, REQUESTS // 10),
        ):
            for in_flight in (1, 64, 200):
                cpu, rate = await measure(send, in_flight=in_flight, requests=requests)
                print(f"{loop_name:8} {name:32} {in_flight:4} in flight {cpu:8.1f} µs CPU {rate:9,.0f}/s")


def main() -> None:
    """Start the receiver, then measure on asyncio's loop and on uvloop."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    receiver = context.Process(target=serve, args=(theirs,), daemon=True)
    receiver.start()
    try:
        port = ours.recv()
        asyncio.run(compare(port, loop_name="asyncio"))
        uvloop.run(compare(port, loop_name="uvloop"))
    finally:
        receiver.terminate()
        receiver.join()


if __name__ == "__main__":
    main()
