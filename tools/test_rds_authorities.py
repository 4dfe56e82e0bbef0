"""Tests of rds_authorities.py. From the project's root: .local/tools/sam/bin/python -m unittest discover -s tools"""

import contextlib
import datetime
import io
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import rds_authorities

NOW = datetime.datetime.now(datetime.timezone.utc)
YEAR = datetime.timedelta(days=365)


def subject(region="eu-central-1", *, name=None, organization="Amazon Web Services, Inc.", unit="Amazon RDS"):
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        x509.NameAttribute(NameOID.COMMON_NAME, name or f"Amazon RDS {region} Root CA ECC384 G1"),
    ])


def root(region="eu-central-1", *, starts=NOW - YEAR, ends=NOW + YEAR, ca=True, key_cert_sign=True, issuer_key=None, usage=True, **names):
    """Returns a PEM root certificate in AWS's form, with the given faults."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = subject(region, **names)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usage:
        others = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        off = {other: False for other in (*others, "encipher_only", "decipher_only")}
        builder = builder.add_extension(x509.KeyUsage(key_cert_sign=key_cert_sign, crl_sign=True, **off), critical=True)
    return builder.sign(issuer_key or key, SHA256()).public_bytes(Encoding.PEM)


class Bundles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "amazon-rds.pem"

    def run_command(self, bundle, *arguments):
        """Runs the command with this bundle, and returns its exit status and its output."""
        source = self.folder / "source.pem"
        source.write_bytes(bundle)
        return self.run_main("--from", str(source), "--to", str(self.path), *arguments)

    def run_main(self, *arguments):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = rds_authorities.main(list(arguments))
        return status, printed.getvalue()

    def regions(self):
        return rds_authorities.regions(rds_authorities.parse(self.path.read_bytes(), NOW))

    def test_a_valid_bundle_is_written_and_again_changes_nothing(self):
        bundle = b"A comment.\n" + root("eu-central-1") + root("us-east-1")
        status, printed = self.run_command(bundle)
        self.assertEqual(status, 0, printed)
        self.assertIn("2 authorities of 2 regions", printed)
        self.assertEqual(self.regions(), {"eu-central-1", "us-east-1"})
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o644)
        written = (self.path.read_bytes(), self.path.stat().st_mtime_ns)
        self.assertEqual(self.run_command(bundle)[0], 0)
        self.assertEqual((self.path.read_bytes(), self.path.stat().st_mtime_ns), written)

    def test_a_new_region_is_named(self):
        former = root("eu-central-1")
        self.run_command(former)
        status, printed = self.run_command(former + root("ap-east-2"))
        self.assertEqual(status, 0, printed)
        self.assertIn("new regions: ap-east-2", printed)

    def test_a_bad_bundle_is_refused_with_its_reason_and_the_former_stays(self):
        good = root("eu-central-1")
        self.run_command(good)
        former = self.path.read_bytes()
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        bad = {
            "no certificate": b"",
            "cannot be read": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cut off": good + root("us-east-1")[:-40],
            "something other than certificates": good + private,
            "expired on": good + root("us-east-1", starts=NOW - 2 * YEAR, ends=NOW - YEAR),
            "valid only from": good + root("us-east-1", starts=NOW + YEAR / 2),
            "is not a certificate authority": good + root("us-east-1", ca=False),
            "not a certificate authority": good + root("us-east-1", key_cert_sign=False),
            "does not say whether it is an authority": good + root("us-east-1", usage=False),
            "is not signed by itself": good + root("us-east-1", issuer_key=key),
            'is of "Example", "Amazon RDS"': good + root("us-east-1", organization="Example"),
            'is of "Amazon Web Services, Inc.", "Example"': good + root("us-east-1", unit="Example"),
            '("Example Root CA") is not named': good + root(name="Example Root CA"),
            "is in the bundle twice": good + good,
            "more than": good + b"\n" * rds_authorities.MAX_BYTES,
        }
        for reason, bundle in bad.items():
            with self.subTest(reason):
                status, printed = self.run_command(bundle)
                self.assertEqual(status, 1, printed)
                self.assertIn(reason, printed)
                self.assertEqual(self.path.read_bytes(), former)
                self.assertEqual(sorted(file.name for file in self.folder.iterdir()), ["amazon-rds.pem", "source.pem"])

    def test_what_is_lost_is_named_and_takes_a_flag(self):
        kept, lost = root("eu-central-1"), root("us-east-1")
        self.run_command(kept + lost)
        status, printed = self.run_command(kept)
        self.assertEqual(status, 1)
        self.assertIn("it lacks Amazon RDS us-east-1 Root CA ECC384 G1, and with them all of us-east-1", printed)
        self.assertEqual(self.regions(), {"eu-central-1", "us-east-1"})
        status, printed = self.run_command(kept, "--allow-removal")
        self.assertEqual(status, 0, printed)
        self.assertIn("removed: Amazon RDS us-east-1 Root CA ECC384 G1", printed)
        self.assertEqual(self.regions(), {"eu-central-1"})

    def test_another_certificate_of_the_same_name_is_a_loss(self):
        self.run_command(root("eu-central-1"))
        status, printed = self.run_command(root("eu-central-1"))
        self.assertEqual(status, 1)
        self.assertIn("it lacks Amazon RDS eu-central-1 Root CA ECC384 G1", printed)

    def test_an_expired_former_authority_can_be_replaced(self):
        expired = root("us-east-1", starts=NOW - 2 * YEAR, ends=NOW - YEAR)
        self.path.write_bytes(root("eu-central-1") + expired)
        status, printed = self.run_command(root("us-east-1"), "--allow-removal")
        self.assertEqual(status, 0, printed)

    def test_beta_and_preview_environments_are_left_out(self):
        others = (root(name=f"Amazon RDS {environment} Root CA RSA2048 G1") for environment in ("Beta us-east-1", "Preview us-east-2"))
        status, printed = self.run_command(root("eu-central-1") + b"".join(others))
        self.assertEqual(status, 0, printed)
        self.assertIn("1 authorities of 1 regions", printed)

    def test_a_failing_write_leaves_the_former_file_and_nothing_else(self):
        self.run_command(root("eu-central-1"))
        former = self.path.read_bytes()
        with mock.patch("os.replace", side_effect=OSError("disk is full")):
            status, printed = self.run_command(root("us-east-1"), "--allow-removal")
        self.assertEqual(status, 1)
        self.assertIn("disk is full", printed)
        self.assertEqual(self.path.read_bytes(), former)
        self.assertEqual(sorted(file.name for file in self.folder.iterdir()), ["amazon-rds.pem", "source.pem"])

    def test_downloading_checks_the_servers_certificate(self):
        with mock.patch("urllib.request.urlopen") as opening:
            opening.return_value.__enter__.return_value = io.BytesIO(root("eu-central-1"))
            status, printed = self.run_main("--to", str(self.path))
        self.assertEqual(status, 0, printed)
        (url,), options = opening.call_args
        self.assertEqual(url, "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem")
        context = options["context"]
        self.assertTrue(context.check_hostname)
        self.assertEqual(context.verify_mode.name, "CERT_REQUIRED")

    def test_a_source_that_cannot_be_read_is_named_with_the_next_step(self):
        with mock.patch("urllib.request.urlopen", side_effect=OSError("no route")):
            status, printed = self.run_main("--to", str(self.path))
        self.assertEqual(status, 1)
        self.assertIn("global-bundle.pem cannot be read: no route; download it elsewhere and give it by --from FILE", printed)
        status, printed = self.run_main("--from", str(self.folder / "absent.pem"), "--to", str(self.path))
        self.assertEqual(status, 1)
        self.assertIn("absent.pem cannot be read", printed)


class CompiledIn(unittest.TestCase):
    def test_the_projects_bundle_is_valid_and_as_the_command_writes_it(self):
        authorities = rds_authorities.parse(rds_authorities.BUNDLE.read_bytes(), NOW)
        self.assertEqual(rds_authorities.BUNDLE.read_text(), rds_authorities.render(authorities))

    def test_checking_lists_the_regions(self):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            self.assertEqual(rds_authorities.main(["--check"]), 0)
        self.assertIn(" eu-central-1 ", printed.getvalue())

    def test_every_region_has_the_three_authorities_that_an_instance_can_choose(self):
        """Source: Amazon RDS User Guide, "Using SSL/TLS to encrypt a connection", certificate authorities."""
        authorities = rds_authorities.parse(rds_authorities.BUNDLE.read_bytes(), NOW)
        for region in rds_authorities.regions(authorities):
            for key in ("RSA2048", "RSA4096", "ECC384"):
                self.assertIn(f"Amazon RDS {region} Root CA {key} G1", authorities)


if __name__ == "__main__":
    unittest.main()
