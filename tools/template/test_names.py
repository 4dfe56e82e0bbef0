"""Tests that two stacks fit into one account and region: no resource has a name that it would also have in another stack.

The resource schemas of cfn-lint name the identifying properties of each type. A name is fixed if none of those properties that the template sets
refers to the stack or to another resource.
"""

import re
import unittest

import expansion
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

# Pseudo parameters that differ between stacks. Other parameters may have the same value in two stacks.
OWN = ("AWS::StackName", "AWS::StackId")


def depends_on_stack(value, resources):
    """Whether a value differs between stacks: it refers to another resource, or to the stack."""
    if isinstance(value, list):
        return any(depends_on_stack(item, resources) for item in value)
    if not isinstance(value, dict):
        return False
    own = {*OWN, *resources}
    if value.get("Ref") in own or "Fn::GetAtt" in value:
        return True
    if "Fn::Sub" in value:
        given = value["Fn::Sub"]
        text = given if isinstance(given, str) else given[0]
        if any(name.split(".")[0] in own for name in re.findall(r"\$\{([^!}]+)\}", text)):
            return True
    return any(depends_on_stack(item, resources) for item in value.values())


def identifying(kind):
    """Returns the sets of properties that identify a resource of a type on AWS, as far as a template can set them."""
    if kind.startswith("Custom::"):
        return []
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(expansion.REGION, kind).schema
    read_only = set(schema.get("readOnlyProperties", []))
    sets = [schema["primaryIdentifier"], *schema.get("additionalIdentifiers", [])]
    return [[pointer.removeprefix("/properties/") for pointer in pointers if pointer not in read_only] for pointers in sets]


def fixed_names(expanded):
    """Returns the resources whose name is the same in every stack."""
    resources = expanded["Resources"]
    fixed = {}
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        for pointers in identifying(resource["Type"]):
            given = {pointer: properties[pointer] for pointer in pointers if pointer in properties}
            if given and not any(depends_on_stack(value, resources) for value in given.values()):
                fixed[name] = given
    return fixed


class Names(unittest.TestCase):
    def test_no_resource_has_a_fixed_name(self):
        for variant, parameters in expansion.variants().items():
            with self.subTest(variant=variant):
                # Without replacing the pseudo parameter by the stack's name.
                document = expansion.expand_with_conditions(parameters)
                self.assertEqual(fixed_names(document), {})

    def test_fixed_names_are_found(self):
        def named(kind, properties):
            return fixed_names({"Resources": {"Subject": {"Type": kind, "Properties": properties}, "Api": {"Type": "AWS::ApiGatewayV2::Api"}}})

        self.assertEqual(named("AWS::Scheduler::Schedule", {"Name": "EveryMinute"}), {"Subject": {"Name": "EveryMinute"}})
        # A fixed text, although it is also a logical id.
        self.assertEqual(named("AWS::Scheduler::Schedule", {"Name": "Subject"}), {"Subject": {"Name": "Subject"}})
        self.assertEqual(named("AWS::Scheduler::Schedule", {}), {})
        self.assertEqual(named("AWS::S3::Bucket", {"BucketName": {"Fn::Sub": "content-${AWS::Region}"}}).keys(), {"Subject"})
        self.assertEqual(named("AWS::S3::Bucket", {"BucketName": {"Fn::Sub": "${AWS::StackName}-content"}}), {})
        # A stage with a fixed name, of an API that differs between stacks.
        self.assertEqual(named("AWS::ApiGatewayV2::Stage", {"ApiId": {"Ref": "Api"}, "StageName": "live"}), {})


if __name__ == "__main__":
    unittest.main()
