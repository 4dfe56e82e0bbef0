"""Expands the template as CloudFormation does, without AWS.

`expand` runs the template's two transforms in order, with AWS's own code: `AWS::LanguageExtensions` by the module of the AWS SAM CLI, and
`AWS::Serverless` by the SAM translator. `resolve` replaces the remaining intrinsic functions by sample values, as if the stack existed.
"""

import copy
import functools
import json
import logging
import re
from ipaddress import ip_network
from pathlib import Path
from unittest.mock import patch

import boto3
from samcli.lib.cfn_language_extensions.api import process_template
from samcli.lib.cfn_language_extensions.models import PseudoParameterValues
from samcli.lib.cfn_language_extensions.resolvers import FnSubResolver
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

# The translator logs AWS's internal feature toggles and uncollected metrics.
logging.getLogger("samtranslator").setLevel(logging.CRITICAL)

TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"

PARTITION, REGION, ACCOUNT, STACK = "aws", "eu-central-1", "123456789012", "syncsphere"
STACK_ID = f"arn:{PARTITION}:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/00000000-0000-0000-0000-000000000000"

PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::NotificationARNs": [],
    "AWS::Partition": PARTITION,
    "AWS::Region": REGION,
    "AWS::StackId": STACK_ID,
    "AWS::StackName": STACK,
    "AWS::URLSuffix": "amazonaws.com",
}

EVENT_BUS = "files"

OWN_NETWORK = {
    "VpcId": "vpc-0123456789abcdef0",
    "SubnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
}

OWN_DATABASE = {
    **OWN_NETWORK,
    "DatabaseUrl": "postgresql://syncsphere@database.example.com:5432/syncsphere",
    "DatabaseResourceId": "db-ABCDEFGHIJKL01234",
    "DatabaseSecurityGroupId": "sg-0123456789abcdef0",
    "DatabaseSecretArn": f"arn:{PARTITION}:secretsmanager:{REGION}:{ACCOUNT}:secret:owner-AbCdEf",
}


@functools.cache
def _source():
    return yaml_parse(TEMPLATE.read_text())


def template():
    """Returns the template as written, with short forms such as `!Ref` in their long form."""
    return copy.deepcopy(_source())


def variants():
    """Returns the parameters of each kind of deployment by name: each Size, and each choice that adds or removes resources."""
    sizes = template()["Parameters"]["Size"]["AllowedValues"]
    others = {
        "own network": OWN_NETWORK,
        "own network with NAT": {**OWN_NETWORK, "SubnetsAreDualStack": "false"},
        "own database by IAM with an owner": OWN_DATABASE,
        "own database by IAM": {name: value for name, value in OWN_DATABASE.items() if name != "DatabaseSecretArn"},
        "own database by password": {
            **OWN_NETWORK,
            "DatabaseUrl": "postgresql://syncsphere:secret@database.example.com:5432/syncsphere",
        },
        "everything else": {
            "AlarmEmail": "operator@example.com",
            "AllowedOrigins": "https://app.example.com,https://www.example.com",
            "EventBusName": EVENT_BUS,
            "Architecture": "x86_64",
            "BackgroundLogLevel": "DEBUG",
            "GradualDeployments": "false",
            "JwtAudience": "client-a,client-b",
            "JwtIssuer": "https://issuer.example.com",
            "LogLevel": "DEBUG",
            "MultiAz": "false",
            "ReserveConcurrency": "false",
            "SocketAccessLogs": "true",
            "Traces": "Active",
        },
    }
    return {
        **{size: {"Size": size} for size in sizes},
        **{name: {"Size": "small", **parameters} for name, parameters in others.items()},
    }


def parameter_values(parameters):
    """Returns all parameters of the template: the given values, and defaults for the others. Lists are Python lists."""
    declared = template()["Parameters"]
    unknown = set(parameters) - set(declared)
    if unknown:
        raise KeyError(f"the template has no parameter {', '.join(sorted(unknown))}")
    values = {}
    for name, declaration in declared.items():
        value = parameters.get(name, declaration.get("Default"))
        if value is None:
            raise KeyError(f"the parameter {name} has no default; give it a value")
        values[name] = str(value).split(",") if declaration["Type"] == "CommaDelimitedList" else value
    return values


def _substitute(resolver, value):
    """Resolves the parameters in `Fn::Sub`, and keeps `Fn::Sub` if it also refers to resources.

    The AWS SAM CLI's own resolver (1.170) turns it into plain text, so the resource's value would never be inserted.
    """
    text, variables = resolver._parse_args(resolver.get_function_args(value))
    if "${!" in text:
        raise NotImplementedError(f"a literal ${{ in Fn::Sub is not supported here: {text}")
    variables = resolver._resolve_variable_map(variables)
    left = {name: item for name, item in variables.items() if isinstance(item, (dict, list))}
    text = resolver._substitute(text, {name: item for name, item in variables.items() if name not in left})
    if "${" not in text:
        return text
    return {"Fn::Sub": [text, left] if left else text}


def expand(parameters=()):
    """Returns the template after both transforms, with these parameters and the defaults of all others."""
    values = parameter_values(dict(parameters))
    pseudo = PseudoParameterValues(
        region=REGION, account_id=ACCOUNT, stack_id=STACK_ID, stack_name=STACK, notification_arns=[], partition=PARTITION
    )
    with patch.object(FnSubResolver, "resolve", _substitute):
        extended = process_template(template(), parameter_values=values, pseudo_parameters=pseudo)
    extended.pop("Transform")
    return _serverless(extended, values)


def expand_with_conditions(parameters=()):
    """Returns the template after `AWS::Serverless` only. Parameters and conditions remain, so a linter considers all of their values."""
    document = template()
    document["Transform"] = ["AWS::LanguageExtensions"]
    return _serverless(document, parameter_values(dict(parameters)))


def _serverless(document, values):
    # `sam package` puts code into a bucket before CloudFormation sees the template.
    for name, resource in document["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = f"s3://artifacts/{name}"
    # The translator expects lists as text, the form in which CloudFormation passes them.
    texts = {name: ",".join(value) if isinstance(value, list) else value for name, value in values.items()}
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION))
    return translator.translate(document, {**texts, **PSEUDO_PARAMETERS})


def sample_ref(name, resource):
    """Returns a sample value of `Ref` of a resource, in AWS's format."""
    lower = name.lower()
    kind = resource["Type"]
    by_kind = {
        "AWS::IAM::ManagedPolicy": f"arn:{PARTITION}:iam::{ACCOUNT}:policy/{STACK}-{name}",
        "AWS::Lambda::Alias": f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{lower.removesuffix('aliaslive')}:live",
        "AWS::S3::Bucket": f"{STACK}-{lower}",
        "AWS::SNS::Topic": f"arn:{PARTITION}:sns:{REGION}:{ACCOUNT}:{STACK}-{name}",
        "AWS::SQS::Queue": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{STACK}-{name}",
        "AWS::EC2::VPC": "vpc-0123456789abcdef9",
        "AWS::EC2::Subnet": f"subnet-0123456789abcde{lower.encode()[-1]:02x}",
        "AWS::EC2::RouteTable": "rtb-0123456789abcdef9",
        "AWS::EC2::SecurityGroup": "sg-0123456789abcdef9",
        "AWS::EC2::EgressOnlyInternetGateway": "eigw-0123456789abcdef9",
        "AWS::Cognito::UserPool": f"{REGION}_AbCdEfGhI",
        # API ids consist of ten letters and digits.
        "AWS::ApiGatewayV2::Api": (lower + "0123456789")[:10],
    }
    if kind.startswith("AWS::Lambda::Version"):
        return f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{lower}:1"
    return by_kind.get(kind, f"{STACK}-{name}")


def sample_attribute(name, resource, attribute):
    """Returns a sample value of `Fn::GetAtt` of a resource, in AWS's format."""
    kind, lower = resource["Type"], name.lower()
    if attribute == "Arn":
        arns = {
            "AWS::CloudWatch::Alarm": f"arn:{PARTITION}:cloudwatch:{REGION}:{ACCOUNT}:alarm:{STACK}-{name}",
            "AWS::IAM::Role": f"arn:{PARTITION}:iam::{ACCOUNT}:role/{STACK}-{name}",
            "AWS::Lambda::Function": f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{name}",
            "AWS::Logs::LogGroup": f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT}:log-group:{STACK}-{name}:*",
            "AWS::S3::Bucket": f"arn:{PARTITION}:s3:::{STACK}-{lower}",
            "AWS::SQS::Queue": f"arn:{PARTITION}:sqs:{REGION}:{ACCOUNT}:{STACK}-{name}",
        }
        return arns[kind]
    others = {
        ("AWS::ApiGatewayV2::Api", "ApiId"): sample_ref(name, resource),
        ("AWS::EC2::SecurityGroup", "GroupId"): f"sg-0123456789abcde{lower.encode()[0]:02x}",
        ("AWS::EC2::VPC", "Ipv6CidrBlocks"): ["2600:1f13:cfe:3600::/56"],
        ("AWS::RDS::DBInstance", "DbiResourceId"): "db-ABCDEFGHIJKL01234",
        ("AWS::RDS::DBInstance", "Endpoint.Address"): f"{STACK}.example.{REGION}.rds.amazonaws.com",
        ("AWS::RDS::DBInstance", "Endpoint.Port"): "5432",
        ("AWS::RDS::DBInstance", "MasterUserSecret.SecretArn"): (
            f"arn:{PARTITION}:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!db-owner-AbCdEf"
        ),
        ("AWS::SQS::Queue", "QueueName"): f"{STACK}-{name}",
        ("AWS::Lambda::Version", "Version"): "1",
    }
    return others[(kind, attribute)]


NO_VALUE = object()


class _Resolver:
    def __init__(self, expanded, parameters):
        self.expanded = expanded
        self.parameters = parameter_values(dict(parameters))
        self.resources = expanded["Resources"]

    def condition(self, name):
        return self.value(self.expanded["Conditions"][name])

    def exists(self, resource):
        return "Condition" not in resource or self.condition(resource["Condition"])

    def value(self, value):
        if isinstance(value, list):
            return [item for item in map(self.value, value) if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, arguments), = value.items()
            if name == "Ref":
                return self.ref(arguments)
            if name == "Condition" and isinstance(arguments, str):
                return self.condition(arguments)
            if name.startswith("Fn::"):
                function = getattr(self, "fn_" + name.removeprefix("Fn::").lower(), None)
                if function is None:
                    raise NotImplementedError(f"{name} is not supported here; add it to {Path(__file__).name}")
                return function(arguments)
        resolved = {key: self.value(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NO_VALUE}

    def resource(self, name):
        resource = self.resources[name]
        if not self.exists(resource):
            raise LookupError(f"{name} is referred to, but its condition {resource['Condition']} is false")
        return resource

    def ref(self, name):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in PSEUDO_PARAMETERS:
            return PSEUDO_PARAMETERS[name]
        if name in self.parameters:
            return self.parameters[name]
        return sample_ref(name, self.resource(name))

    def fn_getatt(self, arguments):
        name, attribute = arguments.split(".", 1) if isinstance(arguments, str) else arguments
        return sample_attribute(name, self.resource(name), attribute)

    def fn_sub(self, arguments):
        text, own = (arguments, {}) if isinstance(arguments, str) else arguments
        own = self.value(own)

        def replacement(match):
            name = match.group(1)
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in own:
                return str(own[name])
            return str(self.fn_getatt(name) if "." in name else self.ref(name))

        return re.sub(r"\$\{([^}]+)\}", replacement, text)

    def fn_join(self, arguments):
        separator, items = self.value(arguments)
        return separator.join(map(str, items))

    def fn_split(self, arguments):
        separator, text = self.value(arguments)
        return text.split(separator)

    def fn_select(self, arguments):
        index, items = self.value(arguments)
        return items[int(index)]

    def fn_findinmap(self, arguments):
        table, first, second = self.value(arguments[:3])
        return self.value(self.expanded["Mappings"][table][str(first)][second])

    def fn_getazs(self, _):
        return [f"{REGION}{zone}" for zone in "abc"]

    def fn_cidr(self, arguments):
        block, count, bits = self.value(arguments)
        network = ip_network(block)
        subnets = network.subnets(new_prefix=network.max_prefixlen - int(bits))
        return [str(next(subnets)) for _ in range(int(count))]

    # The branch that is not taken may refer to resources that do not exist.
    def fn_if(self, arguments):
        condition, then, otherwise = arguments
        return self.value(then if self.condition(condition) else otherwise)

    def fn_and(self, arguments):
        return all(map(self.value, arguments))

    def fn_or(self, arguments):
        return any(map(self.value, arguments))

    def fn_not(self, arguments):
        return not self.value(arguments[0])

    # CloudFormation compares values as text.
    def fn_equals(self, arguments):
        first, second = map(self.value, arguments)
        return str(first) == str(second)


def resolve(expanded, parameters=()):
    """Returns the resources of the stack by logical id, with sample values in place of intrinsic functions."""
    resolver = _Resolver(expanded, parameters)
    there = {name: resource for name, resource in expanded["Resources"].items() if resolver.exists(resource)}
    resolved = {name: resolver.value({**resource, "Condition": NO_VALUE}) for name, resource in there.items()}
    for resource in resolved.values():
        # CloudFormation does not wait for a resource whose condition is false.
        waits = resource.pop("DependsOn", [])
        waits = [waits] if isinstance(waits, str) else waits
        waits = [name for name in waits if name in resolved or name not in expanded["Resources"]]
        if waits:
            resource["DependsOn"] = waits
    # A test would treat a remaining intrinsic function as text.
    left = re.search(r'"(Fn::\w+|Ref)":', json.dumps(resolved))
    if left:
        raise ValueError(f"{left.group(1)} is left in the resolved template")
    return resolved
