"""What this library stores, frozen: every released format is read for ever."""
