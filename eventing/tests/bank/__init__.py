"""A small context of its own, for the tests of `eventing`: accounts, with a bonus for new ones and a letter."""
