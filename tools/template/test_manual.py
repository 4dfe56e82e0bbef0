"""Tests that the commands of docs/operations.md and docs/events.md are valid: shell syntax, and service, operation, options and query of each AWS CLI call.

The commands run with fakes of `aws`, `sam`, `syncsphere` and `cargo`, which log their arguments. Calls of `aws` are compared with botocore's
models, from which the AWS CLI generates its commands, and calls of `sam` with the template's parameters.
"""

import functools
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import botocore.session
import expansion
import jmespath
from botocore import xform_name
from botocore.utils import ArgumentGenerator

DOCS = expansion.TEMPLATE.parent / "docs"

MANUAL = "\n".join((DOCS / name).read_text() for name in ("operations.md", "events.md"))

# Options that every command of the AWS CLI accepts, as far as they are used here.
GLOBAL = {"--query", "--output", "--region", "--cli-binary-format"}

# A command of the AWS CLI that is not an operation of the API.
WAITERS = "wait"

SESSION = botocore.session.get_session()

service_model = functools.cache(SESSION.get_service_model)

# Logs its name and arguments, with a unit separator after each, and a record separator at the end.
STAND_IN = """#!/bin/sh
{ printf '%s\\037' "${0##*/}" "$@"; printf '\\036'; } >> "${0%/*}/asked"
echo value
"""

# Variables that the manual sets once, above all commands.
PREAMBLE = """
export AWS_REGION=us-east-1 STACK=syncsphere HTTP_API_URL=http://127.0.0.1:9
res() { aws cloudformation describe-stack-resource --stack-name $STACK --logical-resource-id "$1" \\
    --query StackResourceDetail.PhysicalResourceId --output text; }
FUNCTIONS="Uploads CompleteUpload Files Spaces Account Changes Connections FanOut Maintenance Administer"
VPC=v SUBNETS=s SG=g NEW=n
"""


def commands():
    """Yields the blocks of commands without prompts and output, and the commands in sentences and tables."""
    for block in re.findall(r"^```console\n(.*?)^```", MANUAL, re.MULTILINE | re.DOTALL):
        lines, goes_on = [], False
        for line in block.splitlines():
            begins = line.startswith("$ ")
            # An indented line continues the command above it.
            goes_on = begins or (goes_on and line.startswith("  "))
            if goes_on:
                lines.append(line.removeprefix("$ "))
        yield "\n".join(lines)
    # Commands in sentences and tables.
    for command in re.findall(r"`(aws [a-z0-9-]+ [^`]+)`", MANUAL):
        if "…" not in command:
            yield " ".join(command.split())


@functools.cache
def asked(script):
    """Runs a block, and returns the calls that the fakes logged. Fails if the shell fails."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("aws", "sam", "syncsphere", "cargo"):
            stand_in = Path(folder) / name
            stand_in.write_text(STAND_IN)
            stand_in.chmod(0o755)
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": folder}
        ran = subprocess.run(
            ["bash", "-u", "-c", PREAMBLE + script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
        )
        if ran.returncode != 0:
            raise AssertionError(f"bash: {ran.stderr}\n{script}")
        log = Path(folder) / "asked"
        calls = log.read_text().split("\036")[:-1] if log.exists() else []
        return [call.split("\037")[:-1] for call in calls]


def complaints(arguments):
    """Returns the errors that the AWS CLI would report about these arguments."""
    service, operation, *rest = arguments
    name = {"s3api": "s3"}.get(service, service)
    if name not in SESSION.get_available_services():
        return [f"there is no service {service}"]
    model = service_model(name)
    if operation == WAITERS:
        waiters = SESSION.get_waiter_model(name).waiter_names
        return [] if rest[0].replace("-", "_") in map(xform_name, waiters) else [f"there is nothing to wait for: {rest[0]}"]
    operations = {xform_name(each, "-"): model.operation_model(each) for each in model.operation_names}
    if operation not in operations:
        return [f"{service} has no {operation}"]
    known = operations[operation]
    shape = known.input_shape
    # In a sentence a command may be mentioned without its options.
    if not rest:
        return []
    members = {"--" + xform_name(member, "-"): member for member in (shape.members if shape else {})}
    given = {word for word in rest if word.startswith("--")}
    found = []
    for option in given - GLOBAL:
        positive = option.replace("--no-", "--", 1)
        if option not in members and not (positive in members and shape.members[members[positive]].type_name == "boolean"):
            found.append(f"{service} {operation} has no {option}")
    for member in shape.required_members if shape else []:
        if "--" + xform_name(member, "-") not in given:
            found.append(f"{service} {operation} needs --{xform_name(member, '-')}")
    if "--query" in rest:
        query = rest[rest.index("--query") + 1]
        sample = ArgumentGenerator().generate_skeleton(known.output_shape)
        # The lists of the sample are too short for their second last item.
        if jmespath.search(query.replace("[-2]", "[-1]"), sample) is None:
            found.append(f"{service} {operation} answers nothing for {query}")
    return found


class Manual(unittest.TestCase):
    def test_commands_are_commands(self):
        services = set()
        for script in commands():
            with self.subTest(script=script[:80]):
                for program, *arguments in asked(script):
                    if program == "aws":
                        services.add(arguments[0])
                        self.assertEqual(complaints(arguments), [])
        # Detects a change of the document's format that hides commands from this test.
        self.assertLessEqual({"apigateway", "cloudformation", "ec2", "events", "lambda", "rds", "s3api", "service-quotas", "sqs"}, services)

    def test_sam_is_given_parameters_of_the_template(self):
        declared = set(expansion.template()["Parameters"])
        given = set()
        for script in commands():
            for program, *arguments in asked(script):
                if program == "sam" and "--parameter-overrides" in arguments:
                    overrides = arguments[arguments.index("--parameter-overrides") + 1 :]
                    given |= {word.split("=", 1)[0] for word in overrides}
        self.assertLessEqual(given, declared)
        self.assertLessEqual({"Size", "DatabaseUrl", "EventBusName", "GradualDeployments"}, given)

    def test_mistakes_are_found(self):
        self.assertEqual(complaints(["rds", "delete-instance"]), ["rds has no delete-instance"])
        self.assertEqual(complaints(["sqs", "purge-queue", "--region", "r"]), ["sqs purge-queue needs --queue-url"])
        self.assertEqual(complaints(["sqs", "purge-queue", "--queue-url", "u", "--all"]), ["sqs purge-queue has no --all"])
        wrong = ["lambda", "get-alias", "--function-name", "f", "--name", "live", "--query", "Version"]
        self.assertEqual(complaints(wrong), ["lambda get-alias answers nothing for Version"])
        with self.assertRaisesRegex(AssertionError, "syntax error"):
            asked("for f in a; do")


if __name__ == "__main__":
    unittest.main()
