"""`python -m workers.selftest`: proves that the egress guard is in force, with the settings of this environment.

`bellwire doctor` runs it, because `app` never imports `workers`. Nothing is sent and no socket is opened.
"""

from __future__ import annotations

import asyncio
import sys

from app.core.errors import BellwireError
from app.core.outbound import policy_of
from app.core.settings import load_settings
from workers.guard import EgressGuard
from workers.http1.errors import GuardNotInForce
from workers.resolver import ThreadResolver
from workers.transport import Proxy, make_sender


async def prove_guarded() -> int:
    """Return how many forbidden targets were refused by the sender that the settings choose.

    Raises:
        GuardNotInForce: one was let pass.

    """
    settings = load_settings(need_database=False)
    guard = EgressGuard(policy=policy_of(settings), resolver=ThreadResolver())
    proxy = Proxy.from_url(settings.egress_proxy.get_secret_value())
    sender = make_sender(settings.worker_transport, guard=guard, proxy=proxy)
    try:
        await sender.prove_guarded()
    finally:
        await sender.aclose()
    return len(guard.probes())


def main() -> None:
    """Print one line; exit with 1 if the guard is not in force."""
    try:
        refused = asyncio.run(prove_guarded())
    except (BellwireError, GuardNotInForce) as error:
        sys.exit(str(error))
    sys.stdout.write(f"{refused} forbidden targets were refused\n")


if __name__ == "__main__":
    main()
