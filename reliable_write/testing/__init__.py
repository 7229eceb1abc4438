"""Real engines in other processes, fault plans on botocore's public events, crash points by call number."""
