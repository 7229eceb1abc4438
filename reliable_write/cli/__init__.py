"""The command `reliable-write`. Nothing heavy is imported before a command runs; Rich is known to `render` alone."""
