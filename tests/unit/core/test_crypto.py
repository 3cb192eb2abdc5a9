"""Secrets at rest, and API keys."""

from __future__ import annotations

import base64
import os
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.crypto import (
    CannotDecrypt,
    Keyring,
    api_key_digest,
    key_id_of,
    new_api_key,
    same_digest,
)
from app.core.errors import StartupError

ROW = UUID(int=7)
OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


@given(st.binary(max_size=300), st.uuids(), st.text(max_size=20))
def test_sealed_value_opens_for_its_own_row_and_column(plain, row, column):
    """What was sealed comes back."""
    ring = Keyring([NEW])
    assert ring.open(ring.seal(plain, row=row, column=column), row=row, column=column) == plain


@given(st.binary(max_size=50), st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_altered_value_opens(plain, position, mask):
    """One changed bit anywhere is noticed."""
    ring = Keyring([NEW])
    sealed = bytearray(ring.seal(plain, row=ROW, column="secret"))
    sealed[position % len(sealed)] ^= mask
    with pytest.raises(CannotDecrypt):
        ring.open(bytes(sealed), row=ROW, column="secret")


@pytest.mark.parametrize(("row", "column"), [(UUID(int=8), "secret"), (ROW, "headers")])
def test_value_copied_elsewhere_does_not_open(row, column):
    """A sealed value belongs to one column of one row."""
    ring = Keyring([NEW])
    sealed = ring.seal(b"secret", row=ROW, column="secret")
    with pytest.raises(CannotDecrypt, match="altered"):
        ring.open(sealed, row=row, column=column)


def test_older_keys_still_open_and_the_newest_seals():
    """Rotation: values of the old key are read, new ones carry the new key."""
    sealed = Keyring([OLD]).seal(b"secret", row=ROW, column="secret")
    ring = Keyring([NEW, OLD])
    assert ring.open(sealed, row=ROW, column="secret") == b"secret"
    assert not ring.is_newest(sealed)
    assert ring.is_newest(ring.seal(b"secret", row=ROW, column="secret"))


def test_value_of_a_key_that_is_gone_says_so():
    """The sentence names the setting to correct."""
    sealed = Keyring([OLD]).seal(b"secret", row=ROW, column="secret")
    with pytest.raises(CannotDecrypt, match="BELLWIRE_ENCRYPTION_KEYS"):
        Keyring([NEW]).open(sealed, row=ROW, column="secret")


def test_equal_values_are_sealed_differently():
    """Nobody sees from the table that two endpoints share a secret."""
    ring = Keyring([NEW])
    assert ring.seal(b"same", row=ROW, column="secret") != ring.seal(b"same", row=ROW, column="secret")


def test_ring_without_keys_stops_the_start():
    """A process without any key does not begin."""
    with pytest.raises(StartupError, match="openssl rand"):
        Keyring([])


def test_new_api_key_carries_its_id_and_is_known_by_its_digest():
    """The text has the documented form, and the look-up part and the digest follow from it."""
    key = new_api_key()
    head, key_id, _ = key.text.split("_")
    assert (head, key_id, key_id_of(key.text)) == ("bw", key.key_id, key.key_id)
    assert same_digest(key.digest, api_key_digest(key.text))


def test_mistyped_api_key_is_looked_up_under_another_id():
    """The checksum tells a real key from one with a typing error, without a query for the real one."""
    key = new_api_key()
    mistyped = key.text[:-1] + ("0" if key.text[-1] != "0" else "1")
    assert key_id_of(mistyped) != key.key_id


@given(st.text(max_size=100))
def test_any_text_has_a_look_up_id(text):
    """No text that a caller may send raises."""
    assert len(key_id_of(text)) == 16


def test_api_keys_do_not_repeat():
    """A thousand keys are a thousand different ones."""
    assert len({new_api_key().text for _ in range(1000)}) == 1000


def test_nonces_come_from_the_system(monkeypatch):
    """Each seal takes twelve fresh random bytes."""
    asked = []
    monkeypatch.setattr(os, "urandom", lambda size: asked.append(size) or bytes(size))
    Keyring([NEW]).seal(b"x", row=ROW, column="secret")
    assert asked == [12]
