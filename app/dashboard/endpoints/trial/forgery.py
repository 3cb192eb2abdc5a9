"""What it means how a receiver answered a request with a bad signature. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# What a receiver that refuses a signature answers; each also says more than "something is wrong here".
_REFUSALS = frozenset({400, 401, 403, 406, 409, 412, 422})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of the receiver's check; `tone` as of states."""

    tone: str
    title: str
    says: str


def verdict_of(status: int | None, *, succeeded: bool) -> Verdict:
    """Return whether the receiver's check works, as far as its answer tells."""
    if succeeded:
        return Verdict(
            "bad",
            "It does not verify",
            f"The receiver answered {status} to a request that no key of this endpoint has signed. Whoever knows its URL "
            "can send it events of their own. Let it verify each request: the Secret tab has the code.",
        )
    if status in _REFUSALS:
        return Verdict("ok", "Its check works", f"The receiver refused the forgery with {status}.")
    if status is None:
        return Verdict(
            "warn",
            "Nothing is known yet",
            "The receiver did not answer, so there is no telling whether it verifies.",
        )
    return Verdict(
        "warn",
        "This says nothing of its check",
        f"The receiver answered {status}, which it would do for another reason, too. One that verifies answers 400 or 401 "
        "here. Send a test with a good signature and compare.",
    )
