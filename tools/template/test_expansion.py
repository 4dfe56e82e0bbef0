"""Tests of the functions that stand in for CloudFormation in the other tests."""

import unittest

import expansion


def resolved(value, resources=(), conditions=(), **parameters):
    """Returns a value of the resource Subject after both resolvers of expansion.py."""
    document = {
        "Mappings": {"Sizes": {"small": {"Count": 3}}},
        "Conditions": dict(conditions),
        "Resources": {"Subject": {"Type": "Custom::Subject", "Properties": {"Value": value}}, **dict(resources)},
    }
    return expansion.resolve(document, parameters)["Subject"]["Properties"].get("Value")


class Resolving(unittest.TestCase):
    def test_intrinsic_functions_have_their_values(self):
        for value, expected in [
            ({"Ref": "AWS::Region"}, expansion.REGION),
            ({"Fn::Sub": "a-${AWS::AccountId}-${VpcId}"}, f"a-{expansion.ACCOUNT}-vpc-1"),
            ({"Fn::Sub": ["${Own}", {"Own": {"Ref": "VpcId"}}]}, "vpc-1"),
            ({"Fn::Sub": "${!AWS::Region}"}, "${AWS::Region}"),
            ({"Fn::Join": ["-", ["a", {"Ref": "VpcId"}]]}, "a-vpc-1"),
            ({"Fn::Select": [1, {"Ref": "SubnetIds"}]}, "subnet-2"),
            ({"Fn::FindInMap": ["Sizes", "small", "Count"]}, 3),
            ({"Fn::Split": [",", "a,b"]}, ["a", "b"]),
            ({"Fn::Cidr": ["2600:1f13:cfe:3600::/56", 2, 64]}, ["2600:1f13:cfe:3600::/64", "2600:1f13:cfe:3601::/64"]),
            ([1, {"Ref": "AWS::NoValue"}, 2], [1, 2]),
            ({"Ref": "AWS::NoValue"}, None),
        ]:
            with self.subTest(value):
                self.assertEqual(resolved(value, VpcId="vpc-1", SubnetIds="subnet-1,subnet-2"), expected)

    def test_conditions_decide_which_branch_there_is_and_the_other_may_name_what_is_not_there(self):
        conditions = {
            "Yes": {"Fn::Equals": [{"Ref": "VpcId"}, "vpc-1"]},
            "No": {"Fn::Not": [{"Condition": "Yes"}]},
            "Both": {"Fn::And": [{"Condition": "Yes"}, {"Condition": "No"}]},
            "Either": {"Fn::Or": [{"Condition": "Yes"}, {"Condition": "No"}]},
        }
        for condition, expected in [("Yes", 1), ("No", 2), ("Both", 2), ("Either", 1)]:
            with self.subTest(condition):
                self.assertEqual(resolved({"Fn::If": [condition, 1, 2]}, conditions=conditions, VpcId="vpc-1"), expected)
        absent = {"Absent": {"Type": "AWS::SQS::Queue", "Condition": "No"}}
        either = {"Fn::If": ["No", {"Ref": "Absent"}, "none"]}
        self.assertEqual(resolved(either, absent, conditions, VpcId="vpc-1"), "none")
        with self.assertRaisesRegex(LookupError, "Absent is referred to, but its condition No is false"):
            resolved({"Ref": "Absent"}, absent, conditions, VpcId="vpc-1")

    def test_an_unknown_function_or_parameter_is_an_error(self):
        with self.assertRaisesRegex(NotImplementedError, "Fn::Transform is not supported here"):
            resolved({"Fn::Transform": {}})
        with self.assertRaisesRegex(KeyError, "no parameter Sise"):
            resolved("", Sise="small")


class Expanding(unittest.TestCase):
    def test_sub_keeps_resources_and_replaces_parameters(self):
        template = expansion.expand({"Size": "small", "MaxConnectionsPerUser": "7"})
        variables = template["Resources"]["Connections"]["Properties"]["Environment"]["Variables"]
        self.assertEqual(variables["MAX_CONNECTIONS_PER_USER"], "7")
        url = {"Fn::Sub": f"wss://${{WebSocketApi}}.execute-api.{expansion.REGION}.amazonaws.com/live"}
        self.assertEqual(variables["WEBSOCKET_URL"], url)

    def test_every_deployment_has_its_functions_and_only_its_own_database(self):
        for name, parameters in expansion.variants().items():
            with self.subTest(name):
                resources = expansion.resolve(expansion.expand(parameters), parameters)
                kinds = [resource["Type"] for resource in resources.values()]
                self.assertIn("AWS::Lambda::Function", kinds)
                self.assertEqual(kinds.count("AWS::RDS::DBInstance"), 0 if name.startswith("own database") else 1)
                self.assertEqual(kinds.count("AWS::EC2::VPC"), 0 if name.startswith("own ") else 1)


if __name__ == "__main__":
    unittest.main()
