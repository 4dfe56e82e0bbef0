"""Removes each statement of each IAM policy in the template, one at a time, and expects a test to fail.

Each statement is removed from a copy of the template, and `template::policies` must fail. If the emulator
enforces the statement, it is also removed from the role of the running stack. Then the test in
`tests/it/roles.rs` that `ENFORCED` names must fail. Run by `cargo xtask policies` with the tests' binary as its
argument.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3

STACK = "syncsphere-local"

# The name filter for the tests of the template's policies.
TEMPLATE = "template::policies"

# The statements that the emulator enforces, as (policy, statement), each with the test that fails without it.
# The others are not enforced. The emulator does not check the role for actions of Lambda itself (logs,
# traces, network interfaces, consuming the queue). It answers 404 for a missing object even if the caller
# may not list the bucket. The local database accepts connections without a token.
ENFORCED = {
    ("UploadsRole", "OpenUploads"): "uploads_signs_what_storage_takes_and_complete_upload_verifies_it",
    ("CompleteUploadRole", "VerifyAndAssemble"): "uploads_signs_what_storage_takes_and_complete_upload_verifies_it",
    ("CompleteUploadRole", "Publish"): "complete_upload_publishes",
    ("FilesRole", "Download"): "files_signs_what_storage_gives",
    ("FilesRole", "Publish"): "files_publishes",
    ("SpacesRole", "Publish"): "spaces_publishes",
    ("AccountRole", "Publish"): "account_publishes",
    ("FanOutRole", "CarryOver"): "fan_out_sets_aside_what_cannot_be_read",
    ("FanOutRole", "Post"): "fan_out_consumes_and_posts",
    ("MaintenanceRole", "FreeStorage"): "maintenance_frees_what_was_aborted",
    ("MaintenanceRole", "Publish"): "maintenance_publishes_what_waits",
    ("MaintenanceRole", "Redrive"): "maintenance_brings_dead_letters_back",
    ("MaintenanceRole", "PutOnBus"): "maintenance_puts_events_on_the_bus",
    ("AdministerRole", "CloseConnections"): "administer_closes_the_connections_of_a_blocked_user",
    ("MigrateRole", "SignInAsOwner"): "migrate_signs_in_as_the_owner",
}


def statements(lines):
    """Yields each statement of a role or managed policy: (policy, name, first line, line after the last)."""
    policy = None
    for number, line in enumerate(lines):
        resource = re.match(r"  (\w+):$", line)
        if resource:
            policy = resource[1]
        statement = re.match(r"( +)- Sid: (\w+)$", line)
        if statement and re.search(r"(Role|Policy)$", policy):
            indent = len(statement[1])
            end = number + 1
            while re.match(rf" {{{indent + 1},}}\S", lines[end]) or re.match(r" *#", lines[end]):
                end += 1
            if lines[number - 2].strip() == "- !If":
                # Include the `!If` with its condition and its alternative.
                yield policy, statement[2], number - 2, end + 1
            else:
                yield policy, statement[2], number, end


def passes(binary, test, **environment):
    arguments = [binary, test] if test == TEMPLATE else [binary, "--exact", test]
    run = subprocess.run(
        arguments, env=os.environ | environment, cwd="tests", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if "0 passed; 0 failed" in run.stdout:
        sys.exit(f"there is no test {test}")
    return run.returncode == 0


def main():
    binary = sys.argv[1]
    lines = Path("template.yaml").read_text().splitlines()
    found = list(statements(lines))
    unknown = ENFORCED.keys() - {(policy, name) for policy, name, _, _ in found}
    if unknown:
        sys.exit(f"the template lacks {unknown}")
    for test in sorted({f"roles::{test}" for test in ENFORCED.values()}) + [TEMPLATE]:
        if not passes(binary, test):
            sys.exit(f"{test} fails with every statement in its place")

    iam = boto3.client("iam")
    resources = boto3.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    physical = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}
    unnoticed = []
    for policy, name, first, end in found:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as copy:
            copy.write("\n".join(lines[:first] + lines[end:]))
            copy.flush()
            noticed = [] if passes(binary, TEMPLATE, SYNCSPHERE_TEMPLATE=copy.name) else [TEMPLATE]
        test = ENFORCED.get((policy, name))
        if test:
            role = {"RoleName": physical[policy], "PolicyName": "own"}
            document = iam.get_role_policy(**role)["PolicyDocument"]
            rest = [statement for statement in document["Statement"] if statement["Sid"] != name]
            assert len(rest) == len(document["Statement"]) - 1
            iam.put_role_policy(**role, PolicyDocument=json.dumps(document | {"Statement": rest}))
            try:
                if not passes(binary, f"roles::{test}"):
                    noticed.append(f"roles::{test}")
            finally:
                iam.put_role_policy(**role, PolicyDocument=json.dumps(document))
        complete = len(noticed) == (2 if test else 1)
        print(f"{'✓' if complete else '✗'} {policy} without {name}: {', '.join(noticed) or 'nothing'} failed", flush=True)
        if not complete:
            unnoticed.append((policy, name))
    if unnoticed:
        sys.exit(f"not noticed: {unnoticed}")
    print(f"{len(found)} statements taken away one at a time, each noticed; {len(ENFORCED)} of them on the running stack too")


main()
