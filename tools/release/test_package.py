"""Tests of the archives of a release, with this project's template and fake binaries."""

import hashlib
import re
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path

import package


def program(name: str, machine: int, glibc: str = "2.34") -> bytes:
    """Returns the parts of an ELF program that package.py reads."""
    return (
        b"\x7fELF"
        + bytes(14)
        + machine.to_bytes(2, "little")
        + f"{name}\0GLIBC_2.17\0GLIBC_{glibc}\0".encode()
    )


CARGO = '[workspace.package]\nversion = "1.2.3"\n'


class Notes(unittest.TestCase):
    def root(self, changelog: str) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        root = Path(folder.name)
        (root / "Cargo.toml").write_text(CARGO)
        (root / "CHANGELOG.md").write_text(changelog)
        return root

    def test_the_notes_are_the_section_of_the_version_alone(self):
        root = self.root(
            "# Changelog\n\n## Unreleased\n\n- next\n\n## 1.2.3\n\n- this\n\n## 1.2.2\n\n- former\n"
        )
        self.assertEqual(package.notes("v1.2.3", root), "- this\n")

    def test_a_tag_that_is_not_the_version_is_refused(self):
        root = self.root("# Changelog\n\n## 1.2.3\n\n- this\n")
        for tag in ["v1.2.4", "1.2.3", "v1.2.3-rc"]:
            with self.assertRaisesRegex(package.Failure, "Cargo.toml has version 1.2.3"):
                package.notes(tag, root)

    def test_a_version_without_notes_is_refused(self):
        for changelog in [
            "# Changelog\n\n## Unreleased\n\n- next\n",
            "# Changelog\n\n## 1.2.3\n\n## 1.2.2\n\n- former\n",
        ]:
            with self.assertRaisesRegex(package.Failure, "CHANGELOG.md"):
                package.notes("v1.2.3", self.root(changelog))


class Archives(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.text = (package.ROOT / "template.yaml").read_text("utf-8")
        self.names = re.findall(r"Binary: ([a-z0-9-]+)", self.text)
        for name in self.names:
            self.build(name, program(name, 183))

    def build(self, name: str, content: bytes):
        built = self.folder / "lambda" / name / "bootstrap.zip"
        package.write(built, package.zipped({"bootstrap": content}, executable={"bootstrap"}))

    def test_every_function_names_a_package_with_an_executable_bootstrap(self):
        for name in self.names:
            self.build(name, program(name, 62))
        made = package.functions("v1", "x86_64", self.folder / "lambda", self.folder / "out")
        self.assertEqual(made.name, "syncsphere-functions-v1-x86_64.zip")
        with zipfile.ZipFile(made) as archive:
            archive.extractall(self.folder)
        root = self.folder / made.stem
        text = (root / "template.yaml").read_text("utf-8")
        uris = re.findall(r"^      CodeUri: (\S+)$", text, re.MULTILINE)
        self.assertEqual(uris, [f"functions/{name}.zip" for name in self.names])
        self.assertEqual(text.count("CodeUri"), text.count("Type: AWS::Serverless::Function\n"))
        for name, uri in zip(self.names, uris, strict=True):
            with zipfile.ZipFile(root / uri) as function:
                self.assertEqual(function.namelist(), ["bootstrap"])
                self.assertEqual(function.read("bootstrap"), program(name, 62))
                self.assertEqual(function.infolist()[0].external_attr >> 16, 0o100755)
        parameter = re.search(r"^  Architecture:\n(?:    .*\n)+", text, re.MULTILINE)[0]
        self.assertIn("    Default: x86_64\n", parameter)
        self.assertNotIn("arm64", parameter.replace("Description", "", 1).split("AllowedValues", 1)[1])

    def test_nothing_else_of_the_template_changes(self):
        changed, _ = package.template(self.text, "arm64")
        of_functions = re.compile(
            r"^ *(Metadata: \{ BuildMethod.*|CodeUri: .*|AllowedValues: \[arm64.*)\n", re.MULTILINE
        )
        self.assertEqual(of_functions.sub("", changed), of_functions.sub("", self.text))

    def test_a_missing_binary_is_named(self):
        (self.folder / "lambda" / self.names[0] / "bootstrap.zip").unlink()
        with self.assertRaisesRegex(package.Failure, self.names[0]):
            package.functions("v1", "arm64", self.folder / "lambda", self.folder / "out")

    def test_a_program_that_lambda_cannot_run_is_refused(self):
        for content in [program("x", 62), b"#!/bin/sh\n", program("x", 183, "2.39")]:
            self.build(self.names[1], content)
            with self.assertRaisesRegex(package.Failure, f"{self.names[1]} (is not a program|needs GLIBC)"):
                package.functions("v1", "arm64", self.folder / "lambda", self.folder / "out")

    def test_a_function_that_is_built_in_another_way_is_refused(self):
        other = self.text.replace("{ BuildMethod: rust-cargolambda,", "{ BuildMethod: makefile,", 1)
        with self.assertRaisesRegex(package.Failure, "functions"):
            package.template(other, "arm64")

    def test_the_command_comes_with_its_licence_and_can_be_run(self):
        binary = package.write(self.folder / "built", b"program")
        made = package.command("v1", "aarch64-apple-darwin", binary, self.folder)
        with tarfile.open(made) as archive:
            modes = {entry.name: entry.mode for entry in archive}
            self.assertEqual(archive.extractfile(f"{made.name[:-7]}/syncsphere").read(), b"program")
        self.assertEqual(modes, {f"{made.name[:-7]}/LICENSE": 0o644, f"{made.name[:-7]}/syncsphere": 0o755})
        made = package.command("v1", "x86_64-pc-windows-msvc", binary, self.folder)
        with zipfile.ZipFile(made) as archive:
            self.assertEqual(archive.namelist(), [f"{made.stem}/LICENSE", f"{made.stem}/syncsphere.exe"])

    def test_archives_of_the_same_content_are_the_same(self):
        binary = package.write(self.folder / "built", b"program")
        for target in ["x86_64-unknown-linux-musl", "x86_64-pc-windows-msvc"]:
            one = package.command("v1", target, binary, self.folder / "one").read_bytes()
            self.assertEqual(one, package.command("v1", target, binary, self.folder / "two").read_bytes())
        one = package.functions("v1", "arm64", self.folder / "lambda", self.folder / "one").read_bytes()
        self.assertEqual(
            one, package.functions("v1", "arm64", self.folder / "lambda", self.folder / "two").read_bytes()
        )

    def test_sums_name_each_archive(self):
        archive = package.write(self.folder / "out" / "a.zip", b"content")
        text = package.sums(archive.parent).read_text()
        self.assertEqual(text, f"{hashlib.sha256(b'content').hexdigest()}  a.zip\n")


if __name__ == "__main__":
    unittest.main()
