"""A bucket that keeps every version of every object, so that what was put twice shows; and files to put there."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import boto3.session
from botocore.config import Config

from reliable_write.embedded import local_session
from reliable_write.limits import MB
from reliable_write.uploads import UploadOnce
from tests.world import World

PART = 5 * MB
"""The smallest S3 takes."""


@functools.cache
def _session() -> boto3.session.Session:
    """One for all clients, which share what it has read of S3's model; it makes one at a time."""
    return local_session()


_making = threading.Lock()


def s3_client(endpoint_url: str, **config: Any) -> Any:
    settings: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "proxies": {}, **config}
    addressed = Config(s3={"addressing_style": "path"}, **settings)
    with _making:
        client: Any = _session().client("s3", endpoint_url=endpoint_url, config=addressed)
    return client


class Bucket:
    """One bucket of an engine that has S3, with versioning on."""

    def __init__(self, endpoint_url: str, name: str) -> None:
        self.name = name
        self.url = f"s3://{name}/p"
        self.s3 = s3_client(endpoint_url)
        self.s3.create_bucket(Bucket=name)
        self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def versions(self) -> Counter[str]:
        """How often each key was put, deletions counted too."""
        found: Counter[str] = Counter()
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.name):
            found.update(entry["Key"] for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])])
        return found

    def content(self, key: str) -> bytes:
        data: bytes = self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def digests(self, keys: Iterable[str]) -> dict[str, str]:
        """Of these objects, by what is in them."""
        return {key: hashlib.sha256(self.content(key)).hexdigest() for key in keys}

    def pending(self) -> list[tuple[str, str]]:
        """Multipart uploads that are neither completed nor aborted: key and id."""
        found = self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [(upload["Key"], upload["UploadId"]) for upload in found]

    def close(self) -> None:
        self.s3.close()


def fill(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def digests_of(folder: Path, prefix: str = "p/") -> dict[str, str]:
    """What the bucket must hold of a folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        prefix + path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


class Depot:
    """A world on an engine with S3, a bucket, and those who upload to it."""

    def __init__(self, world: World, unique_name: Callable[[str], str]) -> None:
        self.world = world
        self.bucket = Bucket(world.engine.endpoint_url, unique_name("bucket"))
        self.table = unique_name("ledger")
        self._opened: list[Any] = [self.bucket]
        self.uploads().init()

    def uploads(self, *, time: Any = None, s3: Any = None, **options: Any) -> UploadOnce:
        """As another process would have it: with clients of its own."""
        client = s3 if s3 is not None else self.s3()
        return UploadOnce(self.world.writer(time=time), self.table, s3=client, **{"part_bytes": PART, **options})

    def s3(self, **config: Any) -> Any:
        client = s3_client(self.world.engine.endpoint_url, max_pool_connections=20, **config)
        self._opened.append(client)
        return client

    def intent(self, key: str) -> dict[str, Any] | None:
        """The ledger's item of an object, without the wire's types."""
        item = self.world.item(self.table, object={"S": f"s3://{self.bucket.name}/{key}"})
        return None if item is None else {name: next(iter(value.values())) for name, value in item.items()}

    def states(self) -> Counter[str]:
        return Counter(item["state"]["S"] for item in self.world.items(self.table))

    def close(self) -> None:
        for opened in self._opened:
            opened.close()
        self.world.close()
