"""The admin commands: `reliable-write --help`."""
