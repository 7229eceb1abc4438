"""`reliable-write upload`. Parsing only, as in `writes`."""

import sys
from typing import Annotated

import typer

from reliable_write.cli.exits import reported
from reliable_write.cli.options import AsJson, At, Debug, DryRun, EndpointUrl, Form, Profile, Region, SystemTable

Patterns = list[str] | None


def upload(
    *,
    source: Annotated[list[str], typer.Argument(metavar="SOURCE", help="A folder, or files.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where to: s3://bucket/prefix.")],
    table: Annotated[
        str, typer.Option(metavar="NAME", envvar="RELIABLE_WRITE_UPLOADS_TABLE", help="The ledger's table.")
    ] = "uploads",
    init: Annotated[
        bool, typer.Option("--init", help="Make the ledger's table first, where it is missing; a dry run reads it too.")
    ] = False,
    parallel: Annotated[
        int | None, typer.Option(min=1, max=256, metavar="N", help="Requests at once; 8 where not given.")
    ] = None,
    part_size: Annotated[
        int | None, typer.Option(min=5, max=5120, metavar="MB", help="Larger files go in such parts; 8 if not given.")
    ] = None,
    include: Annotated[
        Patterns, typer.Option(metavar="PATTERN", help="Only names like this (`*.log`); repeatable.")
    ] = None,
    exclude: Annotated[Patterns, typer.Option(metavar="PATTERN", help="No names like this; repeatable.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Ask S3 also for what the ledger calls done: a request for each file.")
    ] = False,
    clean: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="Afterwards abort multipart uploads under the prefix that killed runs left and that are older: 1d.",
        ),
    ] = None,
    dry_run: DryRun = False,
    s3_endpoint_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", envvar="RELIABLE_WRITE_S3_ENDPOINT_URL", help="S3's, where it is not --endpoint-url."
        ),
    ] = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Upload files to S3, each object exactly once.

    May be stopped, killed and run again at any time, also by several processes at once: what is there is not sent
    again, and an object that is there with other content is never replaced. A second run over the same files asks the
    ledger, 100 files at a time, and S3 nothing.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import uploading

        wanted = uploading.Wanted(
            sources=tuple(source),
            target=target,
            table=table,
            init=init,
            parallel=parallel,
            part_megabytes=part_size,
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            verify=verify,
            clean=clean,
            dry_run=dry_run,
            s3_endpoint_url=s3_endpoint_url,
        )
        at = At(profile, region, endpoint_url, system_table)
        sys.exit(uploading.upload(at, Form(as_json), wanted))
