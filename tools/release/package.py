#!/usr/bin/env python3
"""Builds the archives of a release. The same content gives the same bytes.

    package.py notes TAG
Prints the tag's section of CHANGELOG.md, after checking the tag.
    package.py functions TAG ARCHITECTURE BINARIES OUTPUT
Packages the output of `cargo lambda build --output-format zip`.
    package.py command TAG TARGET BINARY OUTPUT
Packages the output of `cargo build --release --package syncsphere`.
    package.py sums FOLDER
Writes SHA256SUMS of the archives in the folder.

It needs only Python 3.10 or newer.
"""

import argparse
import gzip
import hashlib
import io
import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The earliest time that a zip archive can hold.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)

# One function of the template: its SAM build metadata, and the properties after that.
BUILD = re.compile(
    r"^    Metadata: \{ BuildMethod: rust-cargolambda, BuildProperties: \{ Binary: ([a-z0-9-]+) \} \}\n"
    r"((?:    [A-Z]\w*: .*\n|    #.*\n)*    Properties:\n)",
    re.MULTILINE,
)

# Values of the ELF header's `e_machine`.
MACHINES = {"arm64": 183, "x86_64": 62}

# The glibc version of Lambda's runtime `provided.al2023` (awslabs/aws-lambda-rust-runtime#932).
NEWEST_GLIBC = (2, 34)


class Failure(Exception):
    """The release cannot be built. The message gives the reason and the next step."""


def notes(tag: str, root: Path = ROOT) -> str:
    """Returns the changelog's section for a tag. The tag must match the workspace's version."""
    version = re.search(
        r'^\[workspace\.package\]\nversion = "(.+)"$', (root / "Cargo.toml").read_text("utf-8"), re.MULTILINE
    )[1]
    if tag != f"v{version}":
        raise Failure(
            f"the tag is {tag} and Cargo.toml has version {version}: tag v{version}, or change the version first"
        )
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    section = re.search(rf"^## {re.escape(version)}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None or not section[1].strip():
        raise Failure(
            f"CHANGELOG.md says nothing of {version}: rename the section Unreleased to {version} before tagging"
        )
    return section[1].strip() + "\n"


def template(text: str, architecture: str) -> tuple[str, list[str]]:
    """Returns the template without build metadata, and the names of the functions' binaries."""
    binaries = [found[1] for found in BUILD.finditer(text)]
    text = BUILD.sub(lambda found: f"{found[2]}      CodeUri: functions/{found[1]}.zip\n", text)
    text = replace_once(text, "    CodeUri: .\n", "", "Globals has no CodeUri")
    parameter = re.search(r"^  Architecture:\n(?:    .*\n)+", text, re.MULTILINE)
    if parameter is None:
        raise Failure("template.yaml has no parameter Architecture")
    changed, count = re.subn(
        r"^    Default: \w+$", f"    Default: {architecture}", parameter[0], flags=re.MULTILINE
    )
    changed, allowed = re.subn(
        r"^    AllowedValues: \[.*\]$", f"    AllowedValues: [{architecture}]", changed, flags=re.MULTILINE
    )
    if (count, allowed) != (1, 1):
        raise Failure(
            "the parameter Architecture of template.yaml needs one line `Default:` and one `AllowedValues: […]`"
        )
    text = text.replace(parameter[0], changed)
    functions = len(re.findall(r"^    Type: AWS::Serverless::Function$", text, re.MULTILINE))
    if functions != len(binaries) or "BuildMethod" in text:
        raise Failure(
            f"template.yaml has {functions} functions and {len(binaries)} of them are built as package.py expects: "
            "write Metadata on one line before Properties"
        )
    return text, binaries


def replace_once(text: str, old: str, new: str, otherwise: str) -> str:
    if text.count(old) != 1:
        raise Failure(f"template.yaml: {otherwise}, or more than one")
    return text.replace(old, new)


def functions(tag: str, architecture: str, binaries: Path, output: Path, root: Path = ROOT) -> Path:
    """Writes an archive that `sam deploy` accepts unchanged, without Rust and `sam build`."""
    text, names = template((root / "template.yaml").read_text("utf-8"), architecture)
    files = {
        "LICENSE": (root / "LICENSE").read_bytes(),
        "samconfig.toml": (root / "samconfig.toml").read_bytes(),
        "template.yaml": text.encode(),
    }
    for name in names:
        built = binaries / name / "bootstrap.zip"
        if not built.is_file():
            raise Failure(
                f"{built} is missing: cargo lambda build --release --output-format zip --{architecture.replace('_', '-')}"
            )
        with zipfile.ZipFile(built) as archive:
            bootstrap = archive.read("bootstrap")
        refuse_what_lambda_cannot_run(name, bootstrap, architecture)
        files[f"functions/{name}.zip"] = zipped({"bootstrap": bootstrap}, executable={"bootstrap"})
    name = f"syncsphere-functions-{tag}-{architecture}"
    return write(
        output / f"{name}.zip", zipped({f"{name}/{path}": content for path, content in files.items()})
    )


def refuse_what_lambda_cannot_run(name: str, program: bytes, architecture: str) -> None:
    """Checks a program's processor and C library. With the wrong ones it would fail only when it is invoked."""
    if program[:4] != b"\x7fELF" or int.from_bytes(program[18:20], "little") != MACHINES[architecture]:
        raise Failure(f"{name} is not a program for Linux on {architecture}")
    needed = {(int(major), int(minor)) for major, minor in re.findall(rb"\0GLIBC_(\d+)\.(\d+)", program)}
    if max(needed, default=NEWEST_GLIBC) > NEWEST_GLIBC:
        raise Failure(
            f"{name} needs GLIBC {max(needed)} and Lambda has {NEWEST_GLIBC}: build it with cargo lambda"
        )


def command(tag: str, target: str, binary: Path, output: Path, root: Path = ROOT) -> Path:
    """Writes an archive of the command: zip for Windows, tar for other systems."""
    if not binary.is_file():
        raise Failure(f"{binary} is missing: cargo build --release --package syncsphere --target {target}")
    name = f"syncsphere-{tag}-{target}"
    program = f"{name}/syncsphere.exe" if "windows" in target else f"{name}/syncsphere"
    files = {program: binary.read_bytes(), f"{name}/LICENSE": (root / "LICENSE").read_bytes()}
    if "windows" in target:
        return write(output / f"{name}.zip", zipped(files, executable={program}))
    return write(output / f"{name}.tar.gz", tarred(files, executable={program}))


def zipped(files: dict[str, bytes], executable: frozenset[str] | set[str] = frozenset()) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, ZIP_TIME)
            # Unix on every build machine, so that file modes take effect.
            entry.create_system = 3
            entry.external_attr = (0o100755 if path in executable else 0o100644) << 16
            # Zip files are stored, because they are already compressed.
            entry.compress_type = zipfile.ZIP_STORED if path.endswith(".zip") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return made.getvalue()


def tarred(files: dict[str, bytes], executable: set[str]) -> bytes:
    made = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=made, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            entry.mode = 0o755 if path in executable else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sums(folder: Path) -> Path:
    """Writes the checksums in the format of `sha256sum --check`."""
    archives = sorted(path for path in folder.iterdir() if path.name.endswith((".zip", ".tar.gz")))
    if not archives:
        raise Failure(f"{folder} has no archives")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in archives]
    return write(folder / "SHA256SUMS", "".join(lines).encode())


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the archives of a release.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("notes").add_argument("tag")
    of_functions = commands.add_parser("functions")
    of_functions.add_argument("tag")
    of_functions.add_argument("architecture", choices=["arm64", "x86_64"])
    of_functions.add_argument("binaries", type=Path)
    of_functions.add_argument("output", type=Path)
    of_command = commands.add_parser("command")
    of_command.add_argument("tag")
    of_command.add_argument("target")
    of_command.add_argument("binary", type=Path)
    of_command.add_argument("output", type=Path)
    commands.add_parser("sums").add_argument("folder", type=Path)
    asked = parser.parse_args()
    try:
        match asked.command:
            case "notes":
                sys.stdout.write(notes(asked.tag))
            case "functions":
                print(functions(asked.tag, asked.architecture, asked.binaries, asked.output))
            case "command":
                print(command(asked.tag, asked.target, asked.binary, asked.output))
            case "sums":
                print(sums(asked.folder))
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
