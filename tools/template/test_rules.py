"""Tests that the template's rules refuse contradictory answers, and only these, before any resource is created."""

import unittest

import expansion
from expansion import OWN_DATABASE, OWN_NETWORK


class Rules(expansion._Resolver):
    """Evaluates rules as CloudFormation does (AWS CloudFormation Template Reference Guide, "Rule functions")."""

    def fn_eachmemberequals(self, arguments):
        members, value = self.value(arguments[0]), self.value(arguments[1])
        return all(member == value for member in members)

    def broken(self):
        """Returns the descriptions of failed assertions."""
        broken = []
        for rule in self.expanded["Rules"].values():
            if "RuleCondition" in rule and not self.value(rule["RuleCondition"]):
                continue
            broken += [each["AssertDescription"] for each in rule["Assertions"] if not self.value(each["Assert"])]
        return broken


def broken(**parameters):
    return Rules(expansion.template(), parameters).broken()


ZONES = {"FirstZone": "us-east-1b", "SecondZone": "us-east-1c"}

# Contradictory answers, each with a part of the message.
REFUSED = [
    ({"VpcId": OWN_NETWORK["VpcId"]}, "needs SubnetIds"),
    ({"SubnetIds": OWN_NETWORK["SubnetIds"]}, "need VpcId"),
    ({"DatabaseUrl": OWN_DATABASE["DatabaseUrl"]}, "needs VpcId"),
    ({"JwtIssuer": "https://issuer.example.com"}, "needs JwtAudience"),
    ({"JwtAudience": "client"}, "needs JwtIssuer"),
    ({"FirstZone": "us-east-1b"}, "needs SecondZone"),
    ({"SecondZone": "us-east-1b"}, "needs FirstZone"),
    ({"FirstZone": "us-east-1b", "SecondZone": "us-east-1b"}, "must differ"),
    ({**OWN_NETWORK, **ZONES}, "VpcId and SubnetIds must be empty"),
    ({"DatabaseSecretArn": OWN_DATABASE["DatabaseSecretArn"]}, "DatabaseSecretArn"),
    ({"DatabaseResourceId": OWN_DATABASE["DatabaseResourceId"]}, "DatabaseResourceId"),
    ({"DatabaseSecurityGroupId": OWN_DATABASE["DatabaseSecurityGroupId"]}, "DatabaseSecurityGroupId"),
]


class Combinations(unittest.TestCase):
    def test_contradictions_are_refused_and_named(self):
        for parameters, word in REFUSED:
            with self.subTest(parameters=sorted(parameters)):
                said = broken(**parameters)
                self.assertEqual(len(said), 1, said)
                self.assertIn(word, said[0])

    def test_every_kind_of_deployment_passes(self):
        deployments = {
            **expansion.variants(),
            "chosen zones": ZONES,
            "local": {"LocalEndpoint": "127.0.0.1:4566", "DatabaseUrl": "postgresql://u@127.0.0.1/d"},
        }
        for name, parameters in deployments.items():
            with self.subTest(deployment=name):
                self.assertEqual(broken(**parameters), [])

    def test_every_rule_is_tried(self):
        said = {text for parameters, _ in REFUSED for text in broken(**parameters)}
        all_of_them = {each["AssertDescription"] for rule in expansion.template()["Rules"].values() for each in rule["Assertions"]}
        self.assertEqual(said, all_of_them)


if __name__ == "__main__":
    unittest.main()
