"""The template is deployed for real, on an engine that speaks CloudFormation and IAM, and then used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest

from reliable_write import ReliableWriter, ReliableWriteScope, Settings
from reliable_write.permissions import ROLES, Role, policy_document
from reliable_write.system_table import Installation, check_system_table
from reliable_write.testing.engines import Engine

TEMPLATE = Path(__file__).parents[2] / "deploy" / "cloudformation" / "system-table.yaml"
REGION = "us-east-1"
DESTINATIONS = [f"arn:aws:dynamodb:{REGION}:000000000000:table/{name}" for name in ("orders", "lines")]
LOGICAL = {"app": "App", "monitor": "Monitor", "admin-read": "AdminRead", "admin-act": "AdminAct"}
NOT_OF_THIS_ENGINE = {"point-in-time recovery", "TTL on expires_at"}
"""Its CloudFormation passes them over; that the template asks for them is seen in the template itself."""


class Stack:
    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.table = name
        self.outputs = self._create(name)

    def client(self, service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]  # any of them
            endpoint_url=self.engine.endpoint_url,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def _create(self, name: str) -> dict[str, str]:
        cloudformation = self.client("cloudformation")
        parameters = {"SystemTableName": name, "DestinationTableArns": ",".join(DESTINATIONS)}
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=TEMPLATE.read_text(),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def writer(self) -> ReliableWriter:
        settings = Settings(endpoint_url=self.engine.endpoint_url, region=REGION, system_table=self.table)
        return ReliableWriter(settings, client=self.client("dynamodb"))


@pytest.fixture
def stack(ministack: Engine, unique_name: Callable[[str], str]) -> Stack:
    return Stack(ministack, unique_name("stack"))


@pytest.mark.parametrize("role", ROLES)
def test_what_is_attached_to_each_role_is_the_packages_policy(role: Role, stack: Stack) -> None:
    iam = stack.client("iam")
    name = stack.outputs[f"{LOGICAL[role]}RoleArn"].rpartition("/")[2]
    (attached,) = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert attached["PolicyArn"] == stack.outputs[f"{LOGICAL[role]}PolicyArn"]
    policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]
    document = version["Document"]
    document = json.loads(unquote(document)) if isinstance(document, str) else document
    assert document == policy_document(role, stack.outputs["SystemTableArn"], DESTINATIONS)


def test_init_finds_the_templates_table_in_order_and_changes_nothing_of_its_shape(
    stack: Stack, ministack: Engine, unique_name: Callable[[str], str]
) -> None:
    """What `init` makes by itself and what it finds after the template are the same table, finding by finding."""
    before = {one.name: one for one in check_system_table(stack.client("dynamodb"), stack.table)}
    assert {name for name, finding in before.items() if not finding.ok} <= NOT_OF_THIS_ENGINE
    own = unique_name("own")
    with ReliableWriter(
        Settings(endpoint_url=ministack.endpoint_url, region=REGION, system_table=own),
        client=stack.client("dynamodb"),
    ) as maker:
        maker.init()
    with stack.writer() as writer:
        writer.init()
        assert writer.engine().installation == Installation()
    client = stack.client("dynamodb")
    assert check_system_table(client, stack.table) == check_system_table(client, own)
    assert all(finding.ok for finding in check_system_table(client, stack.table))


def test_a_scope_commits_over_the_templates_table(stack: Stack, unique_name: Callable[[str], str]) -> None:
    orders = unique_name("orders")
    with stack.writer() as writer:
        writer.init()
        writer.client.create_table(
            TableName=orders,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        with ReliableWriteScope(writer) as scope:
            scope.put_item(orders, Item={"id": "1"})
            scope.commit()
        assert writer.client.get_item(TableName=orders, Key={"id": {"S": "1"}})["Item"]["id"] == {"S": "1"}
