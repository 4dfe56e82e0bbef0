#!/usr/bin/env python3
"""Updates crates/db/amazon-rds.pem, the certificate authorities that functions accept for Amazon RDS.

Without --from it downloads AWS's current bundle (Amazon RDS User Guide, "Using SSL/TLS to encrypt a connection to a DB
instance or cluster", certificate bundles for all AWS Regions). The bundle is written only if all of it is valid:

- each certificate parses, is self-signed, may sign others, and is valid today;
- each subject is a root of "Amazon RDS" in a region. Roots of the beta and preview environments are omitted;
- no authority of the former bundle is missing, unless --allow-removal says that this is intended.

Needs the Python package `cryptography`; SAM's environment has it.
"""

import argparse
import datetime
import os
import re
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

URL = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
BUNDLE = Path(__file__).resolve().parent.parent / "crates/db/amazon-rds.pem"
TIMEOUT_S = 30
# The bundle had a size of 170 kB in 2026.
MAX_BYTES = 4 * 1024 * 1024

HEADER = f"""\
# Certificate authorities of Amazon RDS, for regions of the commercial partition. Do not edit: `tools/rds_authorities.py` renews
# this file with AWS's bundle, {URL}
"""

BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
COMMON_NAME = re.compile(r"Amazon RDS (?P<region>[a-z]{2}(?:-[a-z]+)+-\d+) Root CA (?P<key>[A-Z]+\d+) (?P<generation>G\d+)")
# AWS's environments for testing database versions. No stack of this project uses them.
LEFT_OUT = re.compile(r"Amazon RDS (?:Beta|Preview) .*")


class InvalidBundle(Exception):
    """The bundle must not be used. The message names the certificate and the reason."""


@dataclass(frozen=True)
class Authority:
    """One root certificate."""

    name: str
    region: str
    fingerprint: str
    pem: str


def attribute(certificate, oid):
    """Returns the value of an attribute of the subject, or an empty string unless there is exactly one."""
    values = certificate.subject.get_attributes_for_oid(oid)
    return str(values[0].value) if len(values) == 1 else ""


def check(certificate, number, today):
    """Raises InvalidBundle unless this is a root certificate of Amazon RDS that is valid today. Returns its common name."""
    name = attribute(certificate, NameOID.COMMON_NAME)
    label = f'certificate {number} ("{name}")'
    organization = attribute(certificate, NameOID.ORGANIZATION_NAME)
    unit = attribute(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
    if (organization, unit) != ("Amazon Web Services, Inc.", "Amazon RDS"):
        raise InvalidBundle(f'{label} is of "{organization}", "{unit}", not of "Amazon Web Services, Inc.", "Amazon RDS"')
    if not COMMON_NAME.fullmatch(name) and not LEFT_OUT.fullmatch(name):
        raise InvalidBundle(f'{label} is not named "Amazon RDS REGION Root CA KEY GENERATION"')
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise InvalidBundle(f"{label} does not say whether it is an authority: {error}") from None
    if not constraints.ca or not usage.key_cert_sign:
        raise InvalidBundle(f"{label} is not a certificate authority")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise InvalidBundle(f"{label} is not signed by itself: {error}") from None
    if today < certificate.not_valid_before_utc:
        raise InvalidBundle(f"{label} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}")
    if today >= certificate.not_valid_after_utc:
        raise InvalidBundle(f"{label} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    return name


def parse(bundle, today):
    """Returns the authorities of a PEM bundle by name. Raises InvalidBundle."""
    blocks = BLOCK.findall(bundle)
    if bundle.count(b"-----BEGIN") != len(blocks):
        raise InvalidBundle("a certificate is cut off, or something other than certificates is in the bundle")
    authorities = {}
    for number, block in enumerate(blocks, 1):
        try:
            certificate = x509.load_pem_x509_certificate(block)
        except ValueError as error:
            raise InvalidBundle(f"certificate {number} cannot be read: {error}") from None
        name = check(certificate, number, today)
        matched = COMMON_NAME.fullmatch(name)
        if not matched:
            continue
        if name in authorities:
            raise InvalidBundle(f'certificate {number}: "{name}" is in the bundle twice')
        fingerprint = certificate.fingerprint(SHA256()).hex()
        pem = certificate.public_bytes(Encoding.PEM).decode()
        authorities[name] = Authority(name, matched["region"], fingerprint, pem)
    if not authorities:
        raise InvalidBundle("there is no certificate in it")
    return authorities


def regions(authorities):
    """Returns the regions that have authorities."""
    return {authority.region for authority in authorities.values()}


def removed(former, authorities):
    """Returns the names of former authorities that are missing or have another certificate now."""
    return sorted(
        name for name, authority in former.items()
        if name not in authorities or authorities[name].fingerprint != authority.fingerprint
    )


def render(authorities):
    """Returns the text of the file, in the order of names, so the same authorities always give the same text."""
    blocks = (f"\n{name}\n{authorities[name].pem}" for name in sorted(authorities))
    return HEADER + "".join(blocks)


def write(path, text):
    """Replaces the file atomically: a reader never sees a partly written file."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def download(url):
    """Downloads the bundle. The system's certificate authorities verify the server."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=ssl.create_default_context()) as answer:
        return limited(answer)


def limited(file):
    bundle = file.read(MAX_BYTES + 1)
    if len(bundle) > MAX_BYTES:
        raise InvalidBundle(f"it has more than {MAX_BYTES} bytes")
    return bundle


def read(source):
    with source.open("rb") as file:
        return limited(file)


def renew(bundle, path, allow_removal, today):
    """Validates a bundle, writes it, and returns lines that describe the changes."""
    authorities = parse(bundle, today)
    former = {}
    if path.exists():
        # Former authorities may have expired, so they are validated for a day on which the file was valid.
        former = parse_former(path.read_bytes())
    missing = removed(former, authorities)
    if missing and not allow_removal:
        lost = sorted(regions(former) - regions(authorities))
        of_regions = f", and with them all of {', '.join(lost)}" if lost else ""
        raise InvalidBundle(
            f"it lacks {', '.join(missing)}{of_regions}. Databases with certificates of these would not be accepted any more; "
            "--allow-removal writes it all the same"
        )
    text = render(authorities)
    if not path.exists() or path.read_text() != text:
        write(path, text)
    added = sorted(regions(authorities) - regions(former))
    lines = [f"{path.name}: {len(authorities)} authorities of {len(regions(authorities))} regions"]
    if added:
        lines.append(f"new regions: {', '.join(added)}")
    if missing:
        lines.append(f"removed: {', '.join(missing)}")
    return lines


def parse_former(bundle):
    """Returns the authorities of the present file, including expired ones."""
    authorities = {}
    for block in BLOCK.findall(bundle):
        certificate = x509.load_pem_x509_certificate(block)
        name = attribute(certificate, NameOID.COMMON_NAME)
        matched = COMMON_NAME.fullmatch(name)
        if matched:
            fingerprint = certificate.fingerprint(SHA256()).hex()
            authorities[name] = Authority(name, matched["region"], fingerprint, block.decode())
    return authorities


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="read the bundle from FILE instead of downloading it")
    parser.add_argument("--to", dest="path", type=Path, metavar="FILE", default=BUNDLE, help="write to FILE instead of crates/db/amazon-rds.pem")
    parser.add_argument("--allow-removal", action="store_true", help="write a bundle that lacks authorities of the former one")
    parser.add_argument("--check", action="store_true", help="only validate the file that is there, and list its regions")
    options = parser.parse_args(arguments)
    today = datetime.datetime.now(datetime.timezone.utc)
    source = options.path if options.check else options.source or URL
    try:
        if options.check:
            authorities = parse(read(options.path), today)
            print(f"{options.path.name}: {len(authorities)} valid authorities of {len(regions(authorities))} regions:", *sorted(regions(authorities)))
            return 0
        bundle = read(options.source) if options.source else download(URL)
        lines = renew(bundle, options.path, options.allow_removal, today)
    except InvalidBundle as error:
        print(f"{source} is not used: {error}", file=sys.stderr)
        return 1
    except (urllib.error.URLError, OSError) as error:
        hint = "" if options.source or options.check else "; download it elsewhere and give it by --from FILE"
        print(f"{source} cannot be read: {error}{hint}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
