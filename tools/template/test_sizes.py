"""Tests that deleting a trial leaves nothing, that other sizes keep content, users and database, and that growing replaces nothing."""

import json
import unittest

import expansion
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

# The sizes that a trial grows into (docs/operations.md, "Growing").
PROTECTED = ["small", "medium", "large"]

# RDS creates the log groups of these exports itself, so they remain when a stack is deleted.
LOG_EXPORTS = "EnableCloudwatchLogsExports"


def resolved(**parameters):
    return expansion.resolve(expansion.expand(parameters), parameters)


def of_type(resources, kind):
    return {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}


class Trial(unittest.TestCase):
    def test_trial_is_the_default(self):
        self.assertEqual(expansion.template()["Parameters"]["Size"]["Default"], "trial")
        self.assertEqual(resolved(), resolved(Size="trial"))

    def test_nothing_is_retained(self):
        for name, resource in resolved().items():
            with self.subTest(resource=name):
                # Versions are deleted with their function; SAM retains them during updates.
                if resource["Type"] != "AWS::Lambda::Version":
                    self.assertIn(resource.get("DeletionPolicy", "Delete"), {"Delete"})
                    self.assertIn(resource.get("UpdateReplacePolicy", "Delete"), {"Delete"})

    def test_the_database_is_the_smallest_and_can_be_deleted(self):
        database = of_type(resolved(), "AWS::RDS::DBInstance")["Database"]
        self.assertEqual(database["DBInstanceClass"], "db.t4g.micro")
        self.assertEqual(database["AllocatedStorage"], "20")
        self.assertIs(database["MultiAZ"], False)
        self.assertEqual(database["BackupRetentionPeriod"], 1)
        self.assertIs(database["DeletionProtection"], False)
        self.assertNotIn("MaxAllocatedStorage", database)
        self.assertNotIn(LOG_EXPORTS, database)
        # CloudFormation cannot delete a protected user pool, and deleting the stack would fail half way.
        self.assertEqual(of_type(resolved(), "AWS::Cognito::UserPool")["UserPool"]["DeletionProtection"], "INACTIVE")
        # Without DeletionPolicy CloudFormation would make a snapshot, which remains.
        self.assertEqual(resolved()["Database"]["DeletionPolicy"], "Delete")

    def test_no_parameter_makes_a_trial_dearer(self):
        dear = resolved(MultiAz="true", ReserveConcurrency="true")
        self.assertEqual(dear, resolved(MultiAz="false", ReserveConcurrency="false"))

    def test_nothing_is_reserved_and_a_quota_of_ten_suffices(self):
        resources = resolved()
        for name, function in of_type(resources, "AWS::Lambda::Function").items():
            self.assertNotIn("ReservedConcurrentExecutions", function, name)
        # Lambda requires at least 2. Of a quota of 10 this leaves most to requests of users.
        mapping = of_type(resources, "AWS::Lambda::EventSourceMapping")["FanOutQueue"]
        self.assertIn(mapping["ScalingConfig"]["MaximumConcurrency"], range(2, 6))
        self.assertEqual(int(resources["AccountCheck"]["Properties"]["ReservedConcurrency"]), 0)

    def test_content_goes_after_all_roles_that_may_put_it_and_before_its_bucket(self):
        resources = resolved()
        self.assertEqual(str(resources["Content"]["Properties"]["DeletedWithStack"]).lower(), "true")
        reaches = dependencies(expansion.expand({}))
        # CloudFormation deletes a resource before the resources on which it depends.
        self.assertIn("Bucket", reaches("Content"))
        for name, role in of_type(resources, "AWS::IAM::Role").items():
            statements = [statement for policy in role.get("Policies", []) for statement in policy["PolicyDocument"]["Statement"]]
            if any("s3:PutObject" in statement["Action"] for statement in statements):
                self.assertIn("Content", reaches(name), name)


class Accounts(unittest.TestCase):
    def test_each_user_may_protect_the_own_account(self):
        for size in ["trial", *PROTECTED]:
            with self.subTest(size=size):
                pool = resolved(Size=size)["UserPool"]["Properties"]
                self.assertEqual(pool["MfaConfiguration"], "OPTIONAL")
                self.assertEqual(pool["EnabledMfas"], ["SOFTWARE_TOKEN_MFA"])


class Protected(unittest.TestCase):
    def test_content_users_and_database_outlive_the_stack(self):
        for size in PROTECTED:
            with self.subTest(size=size):
                resources = resolved(Size=size)
                retained = {name for name, resource in resources.items() if resource.get("DeletionPolicy") == "Retain"}
                self.assertLessEqual({"Bucket", "Database", "UserPool", "Vpc", "SubnetA", "SubnetB", "DatabaseSecurityGroup"}, retained)
                for name in retained:
                    if resources[name]["Type"] != "AWS::Lambda::Version":
                        self.assertEqual(resources[name]["UpdateReplacePolicy"], "Retain", name)
                database = resources["Database"]["Properties"]
                self.assertIs(database["DeletionProtection"], True)
                self.assertEqual(resources["UserPool"]["Properties"]["DeletionProtection"], "ACTIVE")
                self.assertEqual(database["BackupRetentionPeriod"], 14)
                self.assertEqual(str(database["MultiAZ"]).lower(), "true")
                self.assertEqual(str(resources["Content"]["Properties"]["DeletedWithStack"]).lower(), "false")

    def test_only_a_trials_function_may_delete_all_content(self):
        def actions(size):
            role = resolved(Size=size)["EmptyBucketRole"]["Properties"]
            return json.dumps(role["Policies"])

        self.assertIn("s3:DeleteObjectVersion", actions("trial"))
        for size in PROTECTED:
            self.assertNotIn('"s3:', actions(size), size)


class Growing(unittest.TestCase):
    def test_no_resource_is_replaced_or_removed(self):
        sizes = ["trial", *PROTECTED]
        for smaller, larger in zip(sizes, sizes[1:]):
            before, after = resolved(Size=smaller), resolved(Size=larger)
            for name, resource in before.items():
                # A version is never changed: SAM publishes another one.
                if resource["Type"] == "AWS::Lambda::Version":
                    continue
                with self.subTest(step=f"{smaller} to {larger}", resource=name):
                    self.assertIn(name, after)
                    properties = resource.get("Properties")
                    if not resource["Type"].startswith("Custom::"):
                        for path in immutable(resource["Type"]):
                            self.assertEqual(at(properties, path), at(after[name].get("Properties"), path), path)

    def test_replacements_are_found(self):
        paths = immutable("AWS::RDS::DBInstance")
        self.assertIn(["DBName"], paths)
        self.assertEqual(at({"A": [{"B": 1}, {"B": 2}]}, ["A", "*", "B"]), [1, 2])
        self.assertNotIn(["DBInstanceClass"], paths)


class Checked(unittest.TestCase):
    def test_everything_that_costs_or_stays_waits_for_the_check_of_the_account(self):
        for size in ["trial", *PROTECTED]:
            expanded = expansion.expand({"Size": size})
            reaches = dependencies(expanded)
            kept = {
                name
                for name, resource in expanded["Resources"].items()
                if "UpdateReplacePolicy" in resource and resource["Type"] != "AWS::Lambda::Version"
            }
            self.assertLessEqual({"Database", "Bucket", "UserPool", "Vpc"}, kept)
            for name in kept:
                self.assertIn("AccountCheck", reaches(name), name)
            # AccountCheck itself depends on none of them.
            self.assertEqual(reaches("AccountCheck") & kept, set())

    def test_the_check_gets_the_sum_of_all_reservations(self):
        for size in PROTECTED:
            resources = resolved(Size=size)
            reserved = [
                function.get("ReservedConcurrentExecutions", 0)
                for function in of_type(resources, "AWS::Lambda::Function").values()
            ]
            check = resources["AccountCheck"]["Properties"]
            self.assertEqual(int(check["ReservedConcurrency"]), sum(map(int, reserved)))
            self.assertGreater(sum(map(int, reserved)), 0)
            self.assertEqual(str(check["NeedsRdsAuthorities"]).lower(), "true")
            none = resolved(Size=size, ReserveConcurrency="false")["AccountCheck"]["Properties"]
            self.assertEqual(int(none["ReservedConcurrency"]), 0)

    def test_the_check_runs_where_there_is_no_network_yet(self):
        functions = of_type(resolved(), "AWS::Lambda::Function")
        for name, function in functions.items():
            outside = name in {"CheckAccount", "EmptyBucket"}
            self.assertEqual("VpcConfig" not in function, outside, name)


class Dialogue(unittest.TestCase):
    def test_large_numbers_are_text(self):
        # CloudFormation may write unquoted numbers of this size in scientific notation.
        for name, parameter in expansion.template()["Parameters"].items():
            default = parameter.get("Default")
            if isinstance(default, int):
                self.assertLess(default, 2**31, name)


def dependencies(expanded):
    """Returns a function that returns all resources on which a resource depends."""
    resources = expanded["Resources"]
    direct = {}
    for name, resource in resources.items():
        text = json.dumps(resource)
        waits = resource.get("DependsOn", [])
        direct[name] = {waits} if isinstance(waits, str) else set(waits)
        direct[name] |= {
            other
            for other in resources
            if f'"Ref": "{other}"' in text
            or f'"Fn::GetAtt": ["{other}",' in text
            or f'"Fn::GetAtt": "{other}.' in text
            or f"${{{other}}}" in text
            or f"${{{other}." in text
        }

    def reaches(name):
        seen, left = set(), [name]
        while left:
            for other in direct[left.pop()] - seen:
                seen.add(other)
                left.append(other)
        return seen

    return reaches


def immutable(kind):
    """Returns the paths of the properties of a type whose change requires a replacement."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(expansion.REGION, kind).schema
    return [pointer.removeprefix("/properties/").split("/") for pointer in schema.get("createOnlyProperties", [])]


def at(value, path):
    """Returns the value at a path. `*` stands for each item of a list."""
    for number, step in enumerate(path):
        if step == "*":
            return [at(item, path[number + 1 :]) for item in value or []]
        value = value.get(step) if isinstance(value, dict) else None
    return value


if __name__ == "__main__":
    unittest.main()
