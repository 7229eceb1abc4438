"""The calls the protocol leans on, one test each, on every engine.

Everything goes through the methods of boto3's low-level client with its own keyword arguments and answers, and
fails with botocore's `ClientError`: an engine is whatever has `name`, `lacks` and such a client.
"""
