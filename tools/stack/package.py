"""Packages functions that `cargo build` has compiled for this machine, in place of `sam build`.

`sam build` compiles for Lambda with `cargo lambda` and all optimizations, which takes minutes. This script
writes a zip file for each function, unless the existing one is newer than the program. It also writes a copy
of the template in which each function refers to its zip file.

Run by `cargo xtask` with SAM's Python: package.py TEMPLATE PROGRAMS OUTPUT
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from samcli.yamlhelper import yaml_dump, yaml_parse


def package(program, archive):
    """Writes a function's zip file with the executable `bootstrap`, without symbols if `strip` is installed."""
    if archive.exists() and archive.stat().st_mtime_ns > program.stat().st_mtime_ns:
        return
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        bootstrap = Path(folder) / "bootstrap"
        strip = shutil.which("strip")
        # Symbols are half the size of a program that is not optimized.
        if not strip or subprocess.run([strip, "-o", bootstrap, program], check=False).returncode != 0:
            shutil.copyfile(program, bootstrap)
        bootstrap.chmod(0o755)
        unfinished = Path(folder) / archive.name
        # The lowest level takes a quarter of the default level's time. The size matters little, because the
        # archive stays on this machine.
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.write(bootstrap, "bootstrap")
        os.replace(unfinished, archive)


def main():
    source, programs, output = map(Path, sys.argv[1:])
    template = yaml_parse(source.read_text())
    output.mkdir(parents=True, exist_ok=True)
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        program = programs / resource["Metadata"]["BuildProperties"]["Binary"]
        if not program.is_file():
            sys.exit(f"{name} needs {program}, which is not built")
        archive = output / f"{program.name}.zip"
        package(program, archive)
        resource["Properties"]["CodeUri"] = str(archive.resolve())
    (output / "template.yaml").write_text(yaml_dump(template))


if __name__ == "__main__":
    main()
