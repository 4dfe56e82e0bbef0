"""Tests that Enter answers every question of `sam deploy --guided`, and that docs/operations.md lists the questions in order."""

import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from shutil import copy

import expansion

ROOT = expansion.TEMPLATE.parent

# SAM CLI prints this after the last question, when it starts to call AWS.
ASKS_AWS = "Looking for resources needed for deployment"

# In seconds. SAM CLI starts within a few seconds.
PATIENCE = 120

PROMPT = re.compile(r"^\s*([A-Z][\w ?'-]*?) ?\[([^\]\n]*)\]: ?$|^\s*([A-Z][\w ]*): ?$", re.MULTILINE)

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def dialogue():
    """Presses Enter at every question in a terminal until SAM CLI calls AWS, and returns the transcript."""
    with tempfile.TemporaryDirectory() as folder:
        # SAM CLI writes the answers into samconfig.toml.
        for name in ("template.yaml", "samconfig.toml"):
            copy(ROOT / name, folder)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "samcli", "deploy", "--guided"],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={
                "HOME": folder,
                "PATH": os.environ["PATH"],
                "TERM": "dumb",
                "COLUMNS": "400",
                "SAM_CLI_TELEMETRY": "0",
                "AWS_ACCESS_KEY_ID": "none",
                "AWS_SECRET_ACCESS_KEY": "none",
                "AWS_DEFAULT_REGION": "us-east-1",
                # No server listens at this address.
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "AWS_MAX_ATTEMPTS": "1",
            },
        )
        os.close(theirs)
        try:
            return _press_enter(ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def _press_enter(terminal):
    said, answered, deadline = "", 0, time.monotonic() + PATIENCE
    while ASKS_AWS not in said:
        if time.monotonic() > deadline:
            raise AssertionError(f"no question and no end within {PATIENCE} s:\n{said[-1500:]}")
        ready, _, _ = select.select([terminal], [], [], 1)
        if not ready:
            continue
        try:
            said += ANSI.sub("", os.read(terminal, 65_536).decode()).replace("\r", "")
        except OSError:
            raise AssertionError(f"the dialogue ended early:\n{said[-1500:]}") from None
        last = said[said.rfind("\n") + 1 :]
        if last.endswith(": ") and len(said) > answered:
            asked = questions(said)
            if len(asked) > 2 and asked[-1] == asked[-2]:
                raise AssertionError(f"{asked[-1][0]} is asked again after Enter: it has no default")
            os.write(terminal, b"\n")
            answered = len(said)
    return said


def questions(transcript):
    """Returns the questions of a transcript, each with its default answer."""
    found = []
    for match in PROMPT.finditer(transcript.split(ASKS_AWS)[0]):
        question, default, bare = match.groups()
        found.append((question or bare, default))
    return found


def documented():
    """Returns the questions of the table in docs/operations.md, in order."""
    text = (ROOT / "docs" / "operations.md").read_text()
    table = text.split("| Question | Enter means |", 1)[1].split("\n\n", 1)[0]
    return [re.match(r"\| ([^|]+?) \|", line).group(1).strip("`") for line in table.splitlines() if line.startswith("| ") and "---" not in line]


class Guided(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.transcript = dialogue()
        cls.asked = questions(cls.transcript)

    def test_enter_answers_every_question(self):
        self.assertIn(ASKS_AWS, self.transcript)
        self.assertEqual([question for question, default in self.asked if default is None], [])

    def test_the_answers_are_the_templates_defaults(self):
        declared = expansion.template()["Parameters"]
        answers = {question.removeprefix("Parameter "): default for question, default in self.asked if question.startswith("Parameter ")}
        self.assertEqual(answers, {name: str(parameter["Default"]) for name, parameter in declared.items()})
        self.assertEqual(answers["Size"], "trial")

    def test_the_manual_explains_the_questions_in_their_order(self):
        self.assertEqual(documented(), [question.removeprefix("Parameter ") for question, _ in self.asked])


class Parameters(unittest.TestCase):
    def test_no_hidden_parameter_has_an_empty_default(self):
        # SAM CLI (1.170) treats it as a parameter without a default and repeats the question until it is answered.
        for name, parameter in expansion.template()["Parameters"].items():
            self.assertFalse(parameter.get("NoEcho") and not parameter.get("Default"), name)


if __name__ == "__main__":
    if sys.argv[1:] == ["--transcript"]:
        print(dialogue())
    else:
        unittest.main()
