"""Makes the template's integration responses of the WebSocket API in the emulator.

The emulator answers messages of MOCK integrations with their integration responses, as API Gateway does, but its CloudFormation does not know
the resource. The template therefore makes it on AWS only.

Run with the emulator's Python, which has the AWS SDK: responses.py STACK TEMPLATE
"""

import sys
from pathlib import Path

import boto3
import yaml


class Loader(yaml.SafeLoader):
    """Reads `!Ref X` and other short forms as their argument."""


def argument(loader, _tag, node):
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


Loader.add_multi_constructor("!", argument)


def main():
    stack, template = sys.argv[1:]
    resources = yaml.load(Path(template).read_text(), Loader)["Resources"].values()
    responses = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::ApiGatewayV2::IntegrationResponse"]
    # An earlier release has none.
    if not responses:
        return
    made = boto3.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    ids = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in made}
    gateway = boto3.client("apigatewayv2")
    for response in responses:
        integration = {"ApiId": ids[response["ApiId"]], "IntegrationId": ids[response["IntegrationId"]]}
        for existing in gateway.get_integration_responses(**integration)["Items"]:
            gateway.delete_integration_response(**integration, IntegrationResponseId=existing["IntegrationResponseId"])
        gateway.create_integration_response(
            **integration,
            IntegrationResponseKey=response["IntegrationResponseKey"],
            ResponseTemplates=response["ResponseTemplates"],
            TemplateSelectionExpression=response["TemplateSelectionExpression"],
        )


if __name__ == "__main__":
    main()
