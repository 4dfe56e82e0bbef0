"""Prints the outputs of a CloudFormation stack as a JSON object.

Run with the emulator's Python, which has the AWS SDK: outputs.py STACK
"""

import json
import sys

import boto3

(stack,) = boto3.client("cloudformation").describe_stacks(StackName=sys.argv[1])["Stacks"]
print(json.dumps({output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}))
