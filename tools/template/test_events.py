"""Tests that the sample consumer of docs/events.md can be deployed, and that it handles each event once."""

import json
import re
import sys
import types
import unittest
from unittest.mock import patch

from cfnlint.api import lint
from cfnlint.config import ManualArgs
from samcli.yamlhelper import yaml_parse

import expansion

DOCUMENT = (expansion.TEMPLATE.parent / "docs" / "events.md").read_text()

CONSUMER = re.search(r"^```yaml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)[1]

EVENT = json.loads(re.search(r"^```json\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)[1])


def messages(text):
    matches = lint(text, config=ManualArgs(regions=["us-east-1", "eu-central-1"]))
    return [f"{match.rule.id} at {'/'.join(map(str, match.path or []))}: {match.message}" for match in matches]


class Table:
    """A fake of the table of handled events."""

    def __init__(self):
        self.items = {}

    def get_item(self, Key, ConsistentRead):
        item = self.items.get(Key["eventId"])
        return {"Item": item} if item else {}

    def put_item(self, Item):
        self.items[Item["eventId"]] = Item


class Consumer(unittest.TestCase):
    def handle(self, table, *bodies):
        """Invokes the function with messages, and returns the lines that it printed and the indices of failed messages."""
        code = yaml_parse(CONSUMER)["Resources"]["Consumer"]["Properties"]["InlineCode"]
        boto3 = types.SimpleNamespace(resource=lambda service: types.SimpleNamespace(Table=lambda name: table))
        printed = []
        module = {"print": printed.append}
        with patch.dict(sys.modules, boto3=boto3), patch.dict("os.environ", HANDLED="handled"):
            exec(code, module)
            records = [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]
            answer = module["handle"]({"Records": records}, None)
        return printed, [int(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]

    def test_the_template_is_valid(self):
        self.assertEqual(messages(CONSUMER), [])
        broken = CONSUMER.replace("DeadLetterConfig", "DeadLetters")
        self.assertTrue(any("DeadLetters" in sentence for sentence in messages(broken)))

    def test_the_rule_names_what_events_have(self):
        pattern = yaml_parse(CONSUMER)["Resources"]["NewVersions"]["Properties"]["EventPattern"]
        for name, values in pattern.items():
            self.assertIn(EVENT[name], values)

    def test_a_duplicate_is_handled_once_and_a_failure_fails_alone(self):
        table, other = Table(), {**EVENT, "id": "another"}
        printed, failed = self.handle(table, json.dumps(EVENT), "{}", json.dumps(other))
        self.assertEqual(failed, [1])
        self.assertEqual([line for line in printed if "/Docs/a.pdf" in line], [printed[0]])
        self.assertEqual(self.handle(table, json.dumps(other)), ([], []))
        self.assertEqual(list(table.items), [EVENT["detail"]["eventId"]])


if __name__ == "__main__":
    unittest.main()
