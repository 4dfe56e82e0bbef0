"""No document names a tag or a release that does not exist."""

import re
import subprocess
import unittest

from test_workflows import ROOT, files

# `v1.2.3` as a word. Prose about an arbitrary version uses TAG instead.
TAG = re.compile(r"(?<![\w./-])v\d+\.\d+(?:\.\d+)?(?:-[\w.]+)?(?![\w.]*\w)")
# In links and commands, a tag in any form.
IN_ADDRESS = re.compile(
    r"(?:/releases/(?:tag|download)/|/(?:tree|blob)/|git checkout |--from |--tag )(v?\d+\.\d+[\w.-]*)"
)
HEADING = re.compile(r"^## \[?v?(\d+\.\d+\.\d+[\w.-]*)", re.MULTILINE)


def named(text: str) -> set[str]:
    """Returns the tags that a document names."""
    return set(TAG.findall(text)) | set(IN_ADDRESS.findall(text))


class Documents(unittest.TestCase):
    def setUp(self):
        listed = subprocess.run(
            ["git", "tag", "--list"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        self.tags = set(listed.stdout.split())
        self.documents = [name for name in files() if name.endswith(".md")]

    def test_tags_are_recognised(self):
        text = "Since v0.3.0, see /releases/tag/v0.2 and `cargo xtask update --from 0.1.0`; not ip-v4.1.0 or 1.170."
        self.assertEqual(named(text), {"v0.3.0", "v0.2", "0.1.0"})

    def test_no_document_names_a_tag_that_does_not_exist(self):
        self.assertIn("README.md", self.documents)
        missing = {name: named((ROOT / name).read_text("utf-8")) - self.tags for name in self.documents}
        missing = {name: tags for name, tags in missing.items() if tags}
        self.assertFalse(missing, "no such tag here; in a shallow clone, `git fetch --tags` first")

    def test_the_changelog_has_no_version_that_was_not_tagged(self):
        cargo = (ROOT / "Cargo.toml").read_text("utf-8")
        version = re.search(r'^\[workspace\.package\]\nversion = "(.+)"$', cargo, re.MULTILINE)[1]
        headings = HEADING.findall((ROOT / "CHANGELOG.md").read_text("utf-8"))
        # The version of the next release.
        headings = [heading for heading in headings if heading != version]
        self.assertFalse([heading for heading in headings if f"v{heading}" not in self.tags])


if __name__ == "__main__":
    unittest.main()
