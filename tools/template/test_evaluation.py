"""Tests that `policies.py` decides as IAM does (IAM User Guide, "Policy evaluation logic", "IAM JSON policy elements reference")."""

import unittest

from policies import ALLOWED, DENIED, IMPLICITLY_DENIED, Request, decide

QUEUE = "arn:aws:sqs:eu-central-1:123456789012:queue"


def allow(action="sqs:SendMessage", resource=QUEUE, **others):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **others}


def deny(**others):
    return {**allow(**others), "Effect": "Deny"}


class Evaluation(unittest.TestCase):
    def decided(self, expected, *statements, action="sqs:SendMessage", resource=QUEUE, service=None, **context):
        context = {key.replace("_", ":", 1): value for key, value in context.items()}
        self.assertEqual(decide(statements, Request(action, resource, context, service)), expected)

    def test_nothing_is_allowed_by_itself_and_a_denial_wins_wherever_it_stands(self):
        self.decided(IMPLICITLY_DENIED)
        self.decided(ALLOWED, allow())
        self.decided(DENIED, allow(), deny())
        self.decided(DENIED, deny(), allow())

    def test_actions_are_compared_without_case_and_with_wildcards(self):
        for pattern, expected in [
            ("SQS:sendmessage", ALLOWED),
            ("sqs:Send*", ALLOWED),
            ("sqs:SendMessage*", ALLOWED),
            ("sqs:SendMessag?", ALLOWED),
            ("sqs:SendMessage?", IMPLICITLY_DENIED),
            ("s*", ALLOWED),
            ("sqs:Send", IMPLICITLY_DENIED),
            (["sqs:ReceiveMessage", "sqs:SendMessage"], ALLOWED),
            # A dot is not a wildcard.
            ("sqs.SendMessage", IMPLICITLY_DENIED),
        ]:
            with self.subTest(pattern):
                self.decided(expected, allow(action=pattern))

    def test_a_wildcard_of_a_resource_stays_within_its_part(self):
        for pattern, expected in [
            ("*", ALLOWED),
            ("arn:aws:sqs:*:123456789012:queue", ALLOWED),
            ("arn:aws:sqs:eu-central-1:123456789012:q*", ALLOWED),
            ("arn:aws:sqs:*:queue:", IMPLICITLY_DENIED),
            ("arn:aws:sqs:eu-central-1:123456789012:Queue", IMPLICITLY_DENIED),
            ("arn:aws:sqs:eu-central-1:210987654321:queue", IMPLICITLY_DENIED),
            ([f"{QUEUE}-2", QUEUE], ALLOWED),
        ]:
            with self.subTest(pattern):
                self.decided(expected, allow(resource=pattern))
        logs = "arn:aws:logs:eu-central-1:123456789012:log-group:a"
        self.decided(ALLOWED, allow(resource=f"{logs}:*"), resource=f"{logs}:log-stream:b")
        self.decided(IMPLICITLY_DENIED, allow(resource=f"{logs}:*"), resource=f"{logs}b:log-stream:b")
        # A request for all resources does not match a statement on one resource.
        self.decided(IMPLICITLY_DENIED, allow(), resource="*")

    def test_conditions(self):
        for condition, context, expected in [
            ({"StringEquals": {"aws:SourceAccount": "1"}}, {"aws_SourceAccount": "1"}, ALLOWED),
            ({"StringEquals": {"AWS:sourceaccount": ["2", "1"]}}, {"aws_SourceAccount": "1"}, ALLOWED),
            ({"StringEquals": {"aws:SourceAccount": "1"}}, {"aws_SourceAccount": "2"}, IMPLICITLY_DENIED),
            ({"StringEquals": {"aws:SourceAccount": "1"}}, {}, IMPLICITLY_DENIED),
            ({"StringLike": {"aws:SourceAccount": "1*"}}, {"aws_SourceAccount": "12"}, ALLOWED),
            ({"Bool": {"aws:SecureTransport": "false"}}, {"aws_SecureTransport": "false"}, ALLOWED),
            ({"Bool": {"aws:SecureTransport": False}}, {"aws_SecureTransport": "true"}, IMPLICITLY_DENIED),
            ({"Null": {"s3:if-none-match": "true"}}, {}, ALLOWED),
            ({"Null": {"s3:if-none-match": "true"}}, {"s3_if-none-match": "*"}, IMPLICITLY_DENIED),
            ({"Null": {"s3:if-none-match": "false"}}, {"s3_if-none-match": "*"}, ALLOWED),
            ({"ArnLike": {"lambda:SourceFunctionArn": "arn:aws:sqs:*:*:q*"}}, {"lambda_SourceFunctionArn": QUEUE}, ALLOWED),
            # All operators and all keys must hold.
            ({"Null": {"a:b": "true"}, "Bool": {"c:d": "true"}}, {"c_d": "true"}, ALLOWED),
            ({"Null": {"a:b": "true"}, "Bool": {"c:d": "true"}}, {"c_d": "false"}, IMPLICITLY_DENIED),
            ({"Bool": {"a:b": "true", "c:d": "true"}}, {"c_d": "true"}, IMPLICITLY_DENIED),
        ]:
            with self.subTest(condition=condition, context=context):
                self.decided(expected, allow(Condition=condition), **context)

    def test_principals(self):
        service = {"Service": ["cloudwatch.amazonaws.com"]}
        self.decided(ALLOWED, allow(Principal=service), service="cloudwatch.amazonaws.com")
        self.decided(IMPLICITLY_DENIED, allow(Principal=service), service="events.amazonaws.com")
        self.decided(IMPLICITLY_DENIED, allow(Principal=service))
        self.decided(DENIED, allow(), deny(Principal="*"))

    def test_what_is_not_supported_is_an_error(self):
        for statement in [
            {"Effect": "Allow", "NotAction": "sqs:*", "Resource": "*"},
            allow(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
            allow(resource="arn:aws:s3:::bucket/${aws:username}"),
            allow(resource="queue"),
            allow(Principal={"AWS": "arn:aws:iam::123456789012:root"}),
        ]:
            with self.subTest(statement), self.assertRaises(NotImplementedError):
                decide([statement], Request("sqs:SendMessage", QUEUE))


if __name__ == "__main__":
    unittest.main()
