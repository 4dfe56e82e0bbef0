"""Runs cfn-lint on the template after its transforms, and on the resources of each kind of deployment.

`sam validate --lint` checks the template before its transforms, so it sees neither the resources that SAM generates nor the values of
parameters. The resource schemas are those of the pinned cfn-lint.
"""

import json
import unittest

from cfnlint.api import lint
from cfnlint.config import ManualArgs

import expansion

# Accepted messages by rule, with the reason.
EXPANDED = {
    "W2001": "SAM puts the value of GradualDeployments in its place, so nothing refers to the parameter any more",
    "W7001": "the same of the mapping that is asked with it",
}
RESOLVED = {
    "W3010": "the template takes zones from Fn::GetAZs; the sample value names them",
}

# Schemas differ between regions. These are the oldest region, a large one on each continent, and the newest.
REGIONS = ["us-east-1", "eu-central-1", "ap-southeast-1", "il-central-1", "mx-central-1", "ap-east-2"]


def messages(document, regions):
    """Returns the messages of cfn-lint, each with its rule."""
    matches = lint(json.dumps(document), config=ManualArgs(regions=regions))
    return [(match.rule.id, f"{match.rule.id} at {'/'.join(map(str, match.path or []))}: {match.message}") for match in matches]


def unaccepted(told, accepted):
    return [sentence for rule, sentence in told if rule not in accepted]


def as_template(resources):
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


class Lint(unittest.TestCase):
    maxDiff = None

    def test_the_expanded_template_is_valid_whatever_its_conditions_in_old_and_new_regions(self):
        told = messages(expansion.expand_with_conditions(), REGIONS)
        self.assertEqual(unaccepted(told, EXPANDED), [])
        self.assertEqual({rule for rule, _ in told}, set(EXPANDED), "an accepted rule no longer applies; remove it from EXPANDED")

    def test_the_resources_of_each_deployment_are_valid(self):
        rules = set()
        for name, parameters in expansion.variants().items():
            with self.subTest(name):
                resources = expansion.resolve(expansion.expand(parameters), parameters)
                told = messages(as_template(resources), [expansion.REGION])
                rules |= {rule for rule, _ in told}
                self.assertEqual(unaccepted(told, RESOLVED), [])
        self.assertEqual(rules & set(RESOLVED), set(RESOLVED), "an accepted rule no longer applies; remove it from RESOLVED")

    def test_a_value_that_no_schema_allows_is_found(self):
        def set_property(name, **properties):
            return lambda resources: resources[name]["Properties"].update(properties)

        for expected, spoil in {
            "db.t4g.huge": set_property("Database", DBInstanceClass="db.t4g.huge"),
            "43201": set_property("Queue", VisibilityTimeout=43201),
            "Versioned": set_property("Bucket", Versioned=True),
            "Nobody": lambda resources: resources["Queue"].update(DependsOn="Nobody"),
        }.items():
            with self.subTest(expected):
                resources = expansion.resolve(expansion.expand())
                spoil(resources)
                found = unaccepted(messages(as_template(resources), [expansion.REGION]), RESOLVED)
                self.assertTrue(any(expected in sentence for sentence in found), found)


if __name__ == "__main__":
    unittest.main()
