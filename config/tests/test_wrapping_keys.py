from __future__ import annotations

from base64 import b64encode

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.wrapping_keys import new_wrapping_key, wrapping_keys

KEY = b64encode(bytes(range(32))).decode()


def test_keys_come_by_name_and_the_first_one_is_in_use() -> None:
    found = wrapping_keys(f"spring:{KEY}, winter:{KEY}")
    assert list(found) == ["spring", "winter"]
    assert found["spring"] == bytes(range(32))


def test_a_new_key_is_one_that_can_be_used() -> None:
    first, second = wrapping_keys(new_wrapping_key()), wrapping_keys(new_wrapping_key())
    assert first != second


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (KEY, "has to be name:key"),
        (f":{KEY}", "has to be name:key"),
        (f"a:{KEY},a:{KEY}", "two keys named 'a'"),
        ("a:short", "isn't base64"),
        ("a:c2hvcnQ=", "has 5 bytes, and not 32. Make one with: python"),
        ("a:?", "isn't base64. Make one with: python"),
    ],
)
def test_what_is_no_key_is_refused_with_what_to_do(setting: str, complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=complaint):
        wrapping_keys(setting)
