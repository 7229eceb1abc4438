"""Imported once by the server from which victims are forked: what is slow to load is loaded here."""

import tests.chaos.sharers
import tests.chaos.uploaders
import tests.chaos.victims_at_commit  # noqa: F401 - for the server
from tests.chaos.victims import session

session().client("dynamodb", endpoint_url="http://127.0.0.1:9").close()
