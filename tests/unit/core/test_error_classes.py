"""The table of error classes."""

import pytest

from app.core.error_classes import ErrorClass, classify_status, explain


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_every_class_has_a_sentence_and_a_next_step(error_class):
    """Whatever fails, a person reads what happened and what to do."""
    sentence, hint = explain(error_class)

    assert sentence.endswith(".")
    assert hint.endswith(".")
    assert sentence != hint


@pytest.mark.parametrize("status", [401, 403, 404, 405, 413])
def test_some_statuses_are_explained_more_finely(status):
    """The statuses with a usual cause do not get the general sentence."""
    assert explain(ErrorClass.HTTP_4XX, status) != explain(ErrorClass.HTTP_4XX)


def test_a_status_does_not_change_another_class():
    """A status that came with a broken answer does not explain it."""
    assert explain(ErrorClass.HEADERS_TOO_LARGE, 404) == explain(ErrorClass.HEADERS_TOO_LARGE)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (100, ErrorClass.PROTOCOL_ERROR),
        (199, ErrorClass.PROTOCOL_ERROR),
        (200, None),
        (204, None),
        (299, None),
        (300, ErrorClass.HTTP_3XX),
        (304, ErrorClass.HTTP_3XX),
        (399, ErrorClass.HTTP_3XX),
        (400, ErrorClass.HTTP_4XX),
        (410, ErrorClass.HTTP_410),
        (429, ErrorClass.HTTP_429),
        (499, ErrorClass.HTTP_4XX),
        (500, ErrorClass.HTTP_5XX),
        (503, ErrorClass.HTTP_5XX),
        (599, ErrorClass.HTTP_5XX),
        (600, ErrorClass.PROTOCOL_ERROR),
        (999, ErrorClass.PROTOCOL_ERROR),
    ],
)
def test_classifies_the_status(status, expected):
    """2xx is success; every other status has one class."""
    assert classify_status(status) == expected
