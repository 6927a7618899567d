from __future__ import annotations

import pytest

from eventing.text import check_text, readable


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Your card was declined.", "Your card was declined."),
        ("Declined.\nRing\tyour\0bank. ", "Declined. Ring your bank."),
        ("No" * 500, "NoNoNo"),
        ("Declined \ud83d", "Decli"),
    ],
)
def test_what_others_say_is_kept_in_one_line_and_cut(said: str, kept: str) -> None:
    longest = max(len(kept), 1)
    assert readable(said, longest) == kept
    check_text("It", readable(said, longest), longest)
