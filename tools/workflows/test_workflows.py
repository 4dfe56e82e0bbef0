"""Checks that no linter makes: workflows, update bot and .ci/run are consistent with each other and with the files."""

import re
import subprocess
import unittest
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"


def workflow(name: str) -> dict:
    return yaml.safe_load((GITHUB / "workflows" / name).read_text("utf-8"))


def scripts(document: dict) -> list[str]:
    """Returns the commands of the steps."""
    return [
        step["run"] for job in document["jobs"].values() for step in job.get("steps", []) if "run" in step
    ]


def files() -> list[str]:
    """Returns the files of the project, including untracked ones."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def commands(text: str) -> set[str]:
    """Returns the cargo and SAM commands of a script, shortened to their distinguishing beginning."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = re.findall(r"\b(?:cargo (?:xtask [a-z]+|fmt|deny|clippy)|sam validate)\b[^\n;|&)]*", code)
    kept = {"--seed", "--quick", "--lint", "--check", "check"}
    result = set()
    for command in found:
        words = command.split()
        length = 3 if words[1] == "xtask" else 2
        result.add(" ".join(words[:length] + [word for word in words[length:] if word in kept]))
    return result


class Workflows(unittest.TestCase):
    def test_ci_has_every_step_that_the_local_one_has(self):
        local = commands((ROOT / ".ci/run").read_text("utf-8"))
        self.assertGreater(len(local), 5, "the steps of .ci/run are not recognised any more")
        missing = local - commands("\n".join(scripts(workflow("ci.yml"))))
        self.assertFalse(missing, "in .ci/run and not in .github/workflows/ci.yml")

    def test_the_same_cargo_deny_everywhere(self):
        versions = {workflow(name)["env"]["CARGO_DENY"] for name in ["ci.yml", "audit.yml"]}
        self.assertEqual(len(versions), 1)
        self.assertIn(f"={versions.pop()}\n", (ROOT / ".ci/run").read_text("utf-8"))

    def test_every_job_of_ci_is_required(self):
        jobs = set(workflow("ci.yml")["jobs"])
        self.assertEqual(set(workflow("ci.yml")["jobs"]["passed"]["needs"]), jobs - {"passed"})

    def test_every_workflow_is_bounded_and_asks_for_no_more_than_it_names(self):
        for path in sorted((GITHUB / "workflows").glob("*.yml")):
            document = workflow(path.name)
            with self.subTest(path.name):
                self.assertEqual(document["permissions"], {})
                self.assertIn("group", document["concurrency"])
                for name, job in document["jobs"].items():
                    self.assertIn("permissions", job, name)
                    self.assertTrue("uses" in job or "timeout-minutes" in job, name)

    def test_only_publishing_writes_and_only_it_and_deploying_identify_themselves(self):
        rights = set()
        for path in (GITHUB / "workflows").glob("*.yml"):
            for name, job in workflow(path.name)["jobs"].items():
                rights |= {
                    (path.stem, name, right)
                    for right, level in job["permissions"].items()
                    if level == "write"
                }
        publish = {
            ("release", "publish", right)
            for right in ["artifact-metadata", "attestations", "contents", "id-token"]
        }
        self.assertEqual(rights, publish | {("deploy", "deploy", "id-token")})

    def test_actions_of_others_are_pinned_by_commit_with_their_version(self):
        uses = re.compile(r"^\s*(?:- )?uses: (.+)$", re.MULTILINE)
        pinned = re.compile(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
        found = {}
        for path in [*GITHUB.glob("workflows/*.yml"), *GITHUB.glob("actions/*/action.yml")]:
            for used in uses.findall(path.read_text("utf-8")):
                if not used.startswith("./"):
                    self.assertRegex(used, f"^{pinned.pattern}$", path.name)
                    action = used.split("@")[0]
                    self.assertEqual(found.setdefault(action, used), used, "one action in two versions")
        self.assertTrue(found)

    def test_no_checkout_leaves_its_token_behind(self):
        for path in (GITHUB / "workflows").glob("*.yml"):
            for name, job in workflow(path.name)["jobs"].items():
                for step in job.get("steps", []):
                    if step.get("uses", "").startswith("actions/checkout@"):
                        self.assertIs(step["with"]["persist-credentials"], False, f"{path.name}, {name}")

    def test_files_that_workflows_name_exist(self):
        named = re.compile(r"(?<![\w/$\"}.-])((?:tools|xtask|\.ci)/[\w./-]+)")
        found = set()
        for path in (GITHUB / "workflows").glob("*.yml"):
            found |= {name for script in scripts(workflow(path.name)) for name in named.findall(script)}
        self.assertTrue(found)
        self.assertFalse([name for name in found if not (ROOT / name).exists()])


class Updates(unittest.TestCase):
    def test_the_update_bot_sees_every_manifest(self):
        seen = set()
        for update in yaml.safe_load((GITHUB / "dependabot.yml").read_text("utf-8"))["updates"]:
            for folder in update.get("directories", [update.get("directory")]):
                seen.add((update["package-ecosystem"], folder))
        wanted = {("cargo", "/"), ("github-actions", "/")}
        # It finds the actions in workflows by itself, and the actions that an action uses in that action's folder.
        wanted |= {
            ("github-actions", f"/{Path(name).parent}") for name in files() if name.endswith("/action.yml")
        }
        for name in files():
            path = Path(name)
            if path.name == "package.json":
                wanted.add(("npm", f"/{path.parent}"))
            is_pip = path.name.startswith("requirements") or path.parent.name == "requirements"
            if path.suffix == ".txt" and is_pip:
                wanted.add(("pip", f"/{path.parent}"))
        self.assertEqual(seen, wanted)


if __name__ == "__main__":
    unittest.main()
