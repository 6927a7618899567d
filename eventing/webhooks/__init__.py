"""Webhooks: whoever registers an address is sent the events as they happen, signed, in the order of each stream."""
