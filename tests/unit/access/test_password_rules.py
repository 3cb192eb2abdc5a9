"""Which passwords are taken."""

from __future__ import annotations

import pytest

from app.access.password_rules import MAX_CHARS, fault_of_password, normalise_password

EMAIL = "ada.lovelace@example.com"


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("", "at least 12"),
        ("elevenchars", "at least 12"),
        ("x" * (MAX_CHARS + 1), "at most 256"),
        # One letter whose compatible form has eighteen: what is hashed is bounded as well.
        ("\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 20 + "abcde", "at most 256"),
        ("aaaaaaaaaaaa", "different"),
        ("121212121212", "different"),
        ("ada.lovelace1", "little more than"),
        ("ADA.LOVELACE@EXAMPLE.COM", "little more than"),
        ("bellwire2026", "little more than"),
        ("Password1234", "little more than"),
        ("passwordpassword", "little more than"),
        ("qwertyqwerty12", "little more than"),
    ],
)
def test_weak_passwords_get_a_reason(password: str, words: str) -> None:
    """Too short, too long, repeating, or what everybody tries first."""
    fault = fault_of_password(password, email=EMAIL)

    assert fault is not None
    assert words in fault


@pytest.mark.parametrize(
    "password",
    [
        "four words nobody joined",
        "correct horse battery",
        "пароль из слов",
        "x7$Qm!2vLp9#",
        "   a b c d e f   ",
    ],
)
def test_other_passwords_are_taken(password: str) -> None:
    """Any letters, spaces at the ends, no rule about kinds of characters."""
    assert fault_of_password(password, email=EMAIL) is None


def test_the_same_letters_are_the_same_password() -> None:
    """A composed and a decomposed é, typed on two keyboards, hash alike."""
    assert normalise_password("caf\u00e9") == normalise_password("cafe\u0301")
