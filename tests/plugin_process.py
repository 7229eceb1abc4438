"""How pytest is told of our plugin in another process: by its entry point where this package is installed with it."""

from importlib.metadata import entry_points

PLUGIN = [] if entry_points(group="pytest11", name="reliable_write") else ["-p", "reliable_write.testing.plugin"]
"""Given twice, pytest would refuse it."""
