"""For tests of contexts, and of stores: needs nothing that only tests have."""

from __future__ import annotations

from eventing.testing.gap_safety import GapSafety
from eventing.testing.settling import settle

__all__ = ["GapSafety", "settle"]
