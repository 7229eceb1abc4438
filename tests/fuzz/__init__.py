"""Inputs nobody sends on purpose: each is refused by name or does what it says, and nothing in between."""
