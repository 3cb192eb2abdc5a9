"""Fuzzes the receiver package with atheris, guided by the branches that an input takes: `make fuzz`.

An input is one request, its parts separated by zero bytes: a letter that says what is tried, then up to four texts.
Whatever they are, only the package's own errors come out, and nothing is accepted that the key has not signed.
Without atheris the corpus is only replayed (`--replay`).
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
NOW = 1_700_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - a key of nobody's, from the standard's own examples
PUBLIC = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")

if "--replay" not in sys.argv and __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["bellwire"]):
        import bellwire
else:
    import bellwire

WEBHOOKS = {
    "h": bellwire.Webhook(SECRET),
    "e": bellwire.Webhook(PUBLIC),
    "b": bellwire.Webhook([SECRET, PUBLIC]),
}
OURS = bellwire.WebhookVerificationError


def fuzz_one(data: bytes) -> None:
    """Try one input; an exception of its own means that a fault was found."""
    kind, *parts = data.split(b"\0", 4)
    texts = [*parts, b"", b"", b"", b""][:4]
    if kind in {b"h", b"e", b"b"}:
        _forge(WEBHOOKS[kind.decode()], texts)
    elif kind == b"s":
        _construct(texts[0].decode("utf-8", "surrogateescape"))
    elif kind == b"c":
        _change(texts)
    else:
        _read(data)


def _forge(webhook: bellwire.Webhook, texts: list[bytes]) -> None:
    """Whoever has no key is refused, whatever the headers and the body are."""
    *values, body = texts
    for headers in (
        dict(zip(NAMES, values)),
        [(name.encode(), value) for name, value in zip(NAMES, values)],
        {name: value.decode("latin-1") for name, value in zip(NAMES, values)},
    ):
        with suppress(OURS):
            webhook.verify(body, headers, now=NOW, tolerance=None)
            raise AssertionError("a request was accepted that nobody has signed")


def _construct(text: str) -> None:
    """A secret can be used, to sign and to verify, or it is refused when it is configured."""
    try:
        webhook = bellwire.Webhook(text)
        signed = webhook.signed_headers("evt_1", b"{}", timestamp=NOW)
    except bellwire.InvalidSecretError as error:
        if len(text) > len("whsec_") and text.strip() in str(error):
            raise AssertionError("an error repeats the secret") from error
        return
    if webhook.verify(b"{}", signed, now=NOW).payload != b"{}":
        raise AssertionError("what was signed is not what was verified")


def _change(texts: list[bytes]) -> None:
    """What was signed is accepted as it is, and refused with any other id, time, signature or body."""
    webhook, body = WEBHOOKS["h"], texts[3]
    signed = webhook.signed_headers("evt_1", body, timestamp=NOW)
    if webhook.verify(body, signed, now=NOW).payload != body:
        raise AssertionError("the payload is not the body")
    other = texts[0].decode("latin-1")
    for name in NAMES:
        if other.strip() == signed[name].strip():
            continue
        with suppress(OURS):
            webhook.verify(body, {**signed, name: other}, now=NOW, tolerance=None)
            tokens = other.split() if name == NAMES[2] else []
            if signed[NAMES[2]] not in tokens:
                raise AssertionError(f"{name} was changed to {other!r}, and it was accepted")


def _read(body: bytes) -> None:
    """A sender with the key may send nonsense: reading it is safe."""
    webhook = WEBHOOKS["h"]
    message = webhook.verify(body, webhook.signed_headers("evt_1", body, timestamp=NOW), now=NOW)
    for name in ("type", "data", "occurred_at"):
        with suppress(OURS):
            getattr(message, name)
    with suppress(OURS):
        message.json()
    if repr(body) in repr(message) and len(body) > 8:  # noqa: PLR2004 - shorter ones may stand in the id by chance
        raise AssertionError("the payload stands in the message's repr")


def replay() -> int:
    """Try every input of the corpus, and return how many there are."""
    inputs = sorted(CORPUS.iterdir())
    for path in inputs:
        fuzz_one(path.read_bytes())
    return len(inputs)


if __name__ == "__main__":
    if "--replay" in sys.argv:
        sys.stdout.write(f"{replay()} inputs replayed\n")
    else:
        atheris.Setup(sys.argv, fuzz_one)
        atheris.Fuzz()
