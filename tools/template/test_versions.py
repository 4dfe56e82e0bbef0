"""Tests that a parameter that changes a function's properties publishes a new version, to which SAM moves the alias.

SAM's version id is a hash of a function's code, memory and variables after `AWS::LanguageExtensions`, which resolves parameters in
Resources but not in Globals. The tests compare the ids with the functions' fully resolved properties.
"""

import unittest

import expansion
from expansion import OWN_DATABASE, OWN_NETWORK

# Properties that a published version fixes. SAM itself compares the S3 location of the code.
VIEW = [
    "Architectures",
    "Environment",
    "Handler",
    "Layers",
    "LoggingConfig",
    "MemorySize",
    "Runtime",
    "Timeout",
    "TracingConfig",
    "VpcConfig",
]

# Another value of each parameter, and the deployment in which it matters. The former value is that deployment's value or the default.
OTHERS = {
    "Size": [({}, "small"), ({"Size": "small"}, "large")],
    "MultiAz": [({"Size": "small"}, "false")],
    "ReserveConcurrency": [({"Size": "small"}, "false")],
    "AlarmEmail": [({}, "operator@example.com")],
    "GradualDeployments": [({}, "false")],
    "LogRetentionDays": [({}, "7")],
    "LogLevel": [({}, "DEBUG")],
    "BackgroundLogLevel": [({}, "DEBUG")],
    "Traces": [({}, "Active")],
    "SocketAccessLogs": [({}, "true")],
    "EventBusName": [({}, "files"), ({"EventBusName": "files"}, "default")],
    "TrashDays": [({}, "7")],
    "KeepVersions": [({}, "10")],
    "VersionDays": [({}, "30")],
    "JwtIssuer": [({"JwtAudience": "a"}, "https://issuer.example.com")],
    "JwtAudience": [({"JwtIssuer": "https://issuer.example.com", "JwtAudience": "a"}, "a,b")],
    "MaxUploadBytes": [({}, "1000000000")],
    "MaxChangesPerMinute": [({}, "60")],
    "MaxPendingUploads": [({}, "100")],
    "MaxBytesPerSpace": [({}, "1000000000")],
    "MaxSpacesPerUser": [({}, "10")],
    "MaxPendingInvitations": [({}, "10")],
    "MaxReceivedInvitations": [({}, "10")],
    "MaxInvitationsPerDay": [({}, "10")],
    "MultipartThresholdBytes": [({}, "1000000")],
    "MaxConnectionsPerUser": [({}, "5")],
    "AllowedOrigins": [({}, "https://app.example.com")],
    "PostsPerSecond": [({}, "1200")],
    "HttpRequestsPerSecond": [({}, "40")],
    "SocketRequestsPerSecond": [({}, "120")],
    "FirstZone": [({"SecondZone": "eu-central-1c"}, "eu-central-1b")],
    "SecondZone": [({"FirstZone": "eu-central-1b", "SecondZone": "eu-central-1c"}, "eu-central-1a")],
    "VpcId": [
        ({"SubnetIds": OWN_NETWORK["SubnetIds"]}, OWN_NETWORK["VpcId"]),
        (OWN_NETWORK, "vpc-0fedcba9876543210"),
    ],
    "SubnetIds": [(OWN_NETWORK, "subnet-0fedcba9876543210,subnet-0123456789abcdef1")],
    "SubnetsAreDualStack": [({}, "false"), (OWN_NETWORK, "false")],
    "DatabaseUrl": [
        (OWN_NETWORK, OWN_DATABASE["DatabaseUrl"]),
        (OWN_DATABASE, "postgresql://syncsphere@restored.example.com:5432/syncsphere"),
        # A password that is rotated.
        ({**OWN_NETWORK, "DatabaseUrl": "postgresql://u:old@db.example.com/d"}, "postgresql://u:new@db.example.com/d"),
    ],
    "DatabaseSecretArn": [(OWN_DATABASE, OWN_DATABASE["DatabaseSecretArn"].replace("owner", "other"))],
    "DatabaseResourceId": [(OWN_DATABASE, "db-ZYXWVUTSRQPON01234")],
    "DatabaseSecurityGroupId": [(OWN_DATABASE, "sg-0fedcba9876543210")],
    "Architecture": [({}, "x86_64")],
    "LocalEndpoint": [
        ({"DatabaseUrl": "postgresql://u@127.0.0.1/d", "LocalEndpoint": "127.0.0.1:4566"}, "127.0.0.1:4600"),
    ],
}


class Expanded:
    """A deployment: the fixed properties of its functions, and the versions of their aliases."""

    def __init__(self, parameters):
        expanded = expansion.expand(parameters)
        resolved = expansion.resolve(expanded, parameters)
        functions = {
            name: resource["Properties"] for name, resource in resolved.items() if resource["Type"] == "AWS::Lambda::Function"
        }
        self.views = {
            name: {key: properties[key] for key in VIEW if key in properties} for name, properties in functions.items()
        }
        resources = expanded["Resources"]
        self.versions = {
            name: resources[f"{name}Aliaslive"]["Properties"]["FunctionVersion"]["Fn::GetAtt"][0] for name in functions
        }


class Versions(unittest.TestCase):
    def test_every_parameter_has_another_value(self):
        self.assertEqual(set(OTHERS), set(expansion.template()["Parameters"]))

    def test_a_change_of_a_functions_properties_moves_its_alias(self):
        moved = set()
        for parameter, cases in OTHERS.items():
            for base, value in cases:
                before, after = Expanded(base), Expanded({**base, parameter: value})
                for function in before.views:
                    with self.subTest(parameter=parameter, value=value, function=function):
                        if before.views[function] != after.views[function]:
                            moved.add(parameter)
                            self.assertNotEqual(
                                before.versions[function],
                                after.versions[function],
                                f"{parameter} changes {function}, and its alias stays on the former version",
                            )
        # Fails if the comparison of properties detects no difference at all.
        found = {"Architecture", "DatabaseUrl", "LogLevel", "MaxUploadBytes", "PostsPerSecond", "SubnetIds", "Traces", "VpcId"}
        self.assertLessEqual(found, moved)

    def test_a_restored_database_moves_every_alias(self):
        before, after = Expanded({}), Expanded(OWN_DATABASE)
        self.assertEqual([name for name in before.versions if before.versions[name] == after.versions[name]], [])

    def test_the_same_parameters_make_the_same_versions(self):
        self.assertEqual(Expanded({}).versions, Expanded({}).versions)


if __name__ == "__main__":
    unittest.main()
