"""Real flights, written by processes that are killed at random on the way, healed, and compared with the files.

    python -m tests.acceptance.flights                  5,000 flights, 60 kills, about a minute
    python -m tests.acceptance.flights --all            all 336,776, an hour or more

Every flight is one scope over up to five tables. What is checked is in `check.py`; a run in which nothing was killed,
torn or recovered fails, whatever the tables say.
"""
