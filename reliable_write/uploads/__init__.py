"""Files to S3, each object exactly once: `UploadOnce`. The rooms, from the bottom:

`target` and `files` say what goes where, `s3` and `objects` speak to S3, `ledger` is the intents in DynamoDB, `claims`
who is at which, `sending` one file, `line` the work of several threads, `run` one upload, `cleaning` what was left.
"""

from reliable_write.uploads.cleaning import CleanReport
from reliable_write.uploads.once import UploadOnce
from reliable_write.uploads.report import Audience, Ended, FileResult, UploadReport

__all__ = ["Audience", "CleanReport", "Ended", "FileResult", "UploadOnce", "UploadReport"]
