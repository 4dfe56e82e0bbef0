"""Runs checkov on the resources of each kind of deployment. `checkov.yaml` lists accepted failures with their reasons.

checkov has a separate Python environment, because its pinned dependencies conflict with SAM's.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

import expansion

BASELINE = Path(__file__).with_name("checkov.yaml")
CHECKOV = Path(sys.prefix).with_name("checkov") / "bin" / "checkov"


def failures(deployments):
    """Returns the name of each failed check by (check, logical id, deployment)."""
    if not CHECKOV.exists():
        raise FileNotFoundError(f"{CHECKOV} is not there; install tools/template/checkov.txt as tools/template/README.md says")
    with tempfile.TemporaryDirectory() as folder:
        names = {}
        for name, resources in deployments.items():
            file = name.replace(" ", "-") + ".json"
            names["/" + file] = name
            Path(folder, file).write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}))
        command = [CHECKOV, "--directory", ".", "--framework", "cloudformation", "--skip-download", "--compact", "--output", "json"]
        # checkov reads settings from the environment and from the home directory.
        environment = {"HOME": folder, "PATH": os.environ["PATH"], "LOG_LEVEL": "ERROR"}
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    if ran.returncode not in (0, 1):
        raise RuntimeError(f"checkov failed ({ran.returncode}): {ran.stderr[-2000:]}")
    report = json.loads(ran.stdout)
    if report["summary"]["parsing_errors"] or report["summary"]["resource_count"] == 0:
        raise RuntimeError(f"checkov could not read the template: {report['summary']}")
    return {
        (check["check_id"], check["resource"].split(".")[-1], names[check["file_path"]]): check["check_name"]
        for check in report["results"]["failed_checks"]
    }


def compare(failed, baseline):
    """Returns failures without an entry, and entries without a failure."""
    left, stale = dict(failed), []
    for entry in baseline:
        for pattern in entry["resources"]:
            for deployment in entry.get("deployments", [None]):
                covered = [
                    key
                    for key in failed
                    if key[0] == entry["check"] and fnmatchcase(key[1], pattern) and deployment in (None, key[2])
                ]
                if not covered:
                    stale.append(f"{entry['check']} of {pattern} in {deployment or 'any deployment'}")
                for key in covered:
                    left.pop(key, None)
    new = {}
    for (check, resource, deployment), name in sorted(left.items()):
        new.setdefault(f"{check} of {resource} ({name})", []).append(deployment)
    return [f"{failure} in {', '.join(where)}" for failure, where in new.items()], stale


class Checkov(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.baseline = yaml.safe_load(BASELINE.read_text())
        cls.deployments = {
            name: expansion.resolve(expansion.expand(parameters), parameters) for name, parameters in expansion.variants().items()
        }

    def test_every_failure_has_a_reason_and_every_entry_a_failure(self):
        new, stale = compare(failures(self.deployments), self.baseline)
        self.assertEqual(new, [], "fix the template, or add an entry with the reason to checkov.yaml")
        self.assertEqual(stale, [], "these no longer fail; remove them from checkov.yaml")

    def test_every_entry_has_a_reason_and_names_deployments_that_there_are(self):
        for entry in self.baseline:
            self.assertLessEqual(set(entry), {"check", "resources", "deployments", "reason"})
            self.assertGreater(len(entry["reason"].split()), 5, entry)
            self.assertLessEqual(set(entry.get("deployments", [])), set(self.deployments))

    def test_a_new_failure_and_an_entry_that_no_longer_applies_are_told(self):
        """A public bucket, and queues with a KMS key."""
        spoilt = json.loads(json.dumps(self.deployments["small"]))
        spoilt["Bucket"]["Properties"]["PublicAccessBlockConfiguration"]["BlockPublicAcls"] = False
        for queue in ("Queue", "DeadLetterQueue"):
            spoilt[queue]["Properties"]["KmsMasterKeyId"] = "alias/example"
        new, stale = compare(failures({**self.deployments, "small": spoilt}), self.baseline)
        self.assertEqual(len(new), 1, new)
        self.assertRegex(new[0], "^CKV_AWS_53 of Bucket .* in small$")
        self.assertEqual(stale, [])
        spoilt = {name: json.loads(json.dumps(resources)) for name, resources in self.deployments.items()}
        for resources in spoilt.values():
            resources["Queue"]["Properties"]["KmsMasterKeyId"] = "alias/example"
        new, stale = compare(failures(spoilt), self.baseline)
        self.assertEqual((new, stale), ([], ["CKV_AWS_27 of Queue in any deployment"]))


if __name__ == "__main__":
    unittest.main()
