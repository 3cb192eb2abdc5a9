"""`bellwire sign` and `bellwire verify`: signatures by hand, without any server."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.events import read_bytes
from app.cli.outcome import ExitCode, Unusable
from app.cli.output import AsJson, print_fields, print_json, wants_json

SECRET_VARIABLE = "BELLWIRE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
DEFAULT_TOLERANCE_SECONDS = 300

Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        help="whsec_..., whsk_... or whpk_...; @FILE reads a file. May be repeated. "
        f"Else {SECRET_VARIABLE}, which other users of the machine cannot see.",
        show_default=False,
    ),
]
Body = Annotated[str, typer.Option("--body", help="The raw body. @FILE reads a file, - standard input.")]


def sign(
    *,
    secret: Secrets = None,
    body: Body = "-",
    message_id: Annotated[str | None, typer.Option("--id", help="webhook-id; else a new one.")] = None,
    timestamp: Annotated[
        int | None, typer.Option("--timestamp", help="webhook-timestamp, whole Unix seconds; else now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the headers that sign a body, as Bellwire sends them."""
    import time
    import uuid

    from bellwire import InvalidSecretError, Signer

    content = read_bytes(body, option="--body")
    identity = message_id if message_id is not None else f"msg_{uuid.uuid4().hex}"
    seconds = int(time.time()) if timestamp is None else timestamp
    try:
        signature = Signer(_secrets(secret)).sign(identity, seconds, content)
    except InvalidSecretError as error:
        raise Unusable(str(error)) from None
    except ImportError as error:
        raise Unusable(f"This secret needs a package: {error}") from None
    except ValueError as error:
        raise Unusable(f"{error} It was given with --id or --timestamp.") from None
    headers = {"webhook-id": identity, "webhook-timestamp": str(seconds), "webhook-signature": signature}
    if wants_json(as_json):
        print_json(headers)
        return
    for name, value in headers.items():
        typer.echo(f"{name}: {value}")


def verify(
    *,
    secret: Secrets = None,
    body: Body = "-",
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", help="'name: value', as curl takes it. May be repeated."),
    ] = None,
    tolerance: Annotated[
        int,
        typer.Option(min=0, help="Seconds that the timestamp may be away from now."),
    ] = DEFAULT_TOLERANCE_SECONDS,
    any_age: Annotated[
        bool, typer.Option("--any-age", help="Accept any timestamp, for requests that were kept.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a request's signature. Exits with 0 if it is genuine and fresh, else with 1 and the reason."""
    from bellwire import InvalidSecretError, Webhook, WebhookVerificationError

    content = read_bytes(body, option="--body")
    headers = _headers(header or [])
    try:
        message = Webhook(_secrets(secret)).verify(
            content, headers, tolerance=None if any_age else float(tolerance)
        )
    except InvalidSecretError as error:
        raise Unusable(str(error)) from None
    except ImportError as error:
        raise Unusable(f"This secret needs a package: {error}") from None
    except WebhookVerificationError as error:
        if wants_json(as_json):
            print_json({"verified": False, "reason": error.reason, "message": error.message})
        else:
            typer.echo(f"✗ not verified ({error.reason}): {error.message}")
        raise typer.Exit(ExitCode.FAILED) from None
    sent = message.timestamp.isoformat().replace("+00:00", "Z")
    if wants_json(as_json):
        print_json({"verified": True, "id": message.id, "timestamp": sent, "bytes": len(message.payload)})
        return
    typer.echo("✓ genuine")
    print_fields([("id", message.id), ("signed at", sent), ("bytes", len(message.payload))])


def _secrets(given: list[str] | None) -> list[str]:
    """Return the secrets of the options, or of the variable."""
    import os

    texts = [_secret(text) for text in given or os.environ.get(SECRET_VARIABLE, "").split()]
    if not texts:
        raise Unusable(
            f"There is no secret. Set {SECRET_VARIABLE}, or pass --secret @FILE; the endpoint's secret was shown "
            "when it was made, and GET /v1/endpoints/ID/secret shows it to an admin."
        )
    return texts


def _secret(given: str) -> str:
    if not given.startswith("@"):
        return given
    return read_bytes(given, option="--secret").decode("utf-8", "replace").strip()


def _headers(given: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for line in given:
        name, colon, value = line.partition(":")
        if not colon:
            raise Unusable(f"--header {line!r} has no colon. Write it like -H 'webhook-id: msg_123'.")
        pairs.append((name.strip(), value.strip()))
    return pairs
