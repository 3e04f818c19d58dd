"""Certificates of a certificate authority that exists for one test."""

from __future__ import annotations

import datetime
import ssl
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _alternative(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)


class Authority:
    """Signs one certificate, for the names and addresses given; ``path`` is for its files."""

    def __init__(self, path: Path, *names: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        key, own_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])

        def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
            made = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(public)
            made = made.serial_number(x509.random_serial_number())
            day = datetime.timedelta(days=1)
            return made.not_valid_before(now - day).not_valid_after(now + day)

        root = builder(issuer, own_key.public_key())
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        leaf = builder(x509.Name([]), key.public_key())
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        leaf = leaf.add_extension(alternatives, critical=True)
        self.certificate = path / "authority.pem"
        self.server_file = path / "server.pem"
        pem = serialization.Encoding.PEM
        self.certificate.write_bytes(root.sign(own_key, hashes.SHA256()).public_bytes(pem))
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.server_file.write_bytes(private + leaf.sign(own_key, hashes.SHA256()).public_bytes(pem))

    def server(self) -> ssl.SSLContext:
        """For a server with the certificate."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.server_file)
        return made

    def client(self) -> ssl.SSLContext:
        """For a client that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.certificate))
