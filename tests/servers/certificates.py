"""Certificates for TLS, made for one run by the command ``openssl``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from servers.process import directory, need

__all__ = ["Authority"]

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# What Python 3.13 insists on (VERIFY_X509_STRICT).
SIGNS = "keyUsage=critical,keyCertSign,cRLSign"
IS_SIGNED = "keyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n"
ENDS = (".request", ".key", ".signed", ".extra", ".pem")


class Authority:
    """Who signs certificates; whoever trusts `path` trusts them.

    Parameters
    ----------
    name : str
        The common name.
    """

    def __init__(self, name: str = "zarrcy tests") -> None:
        need(shutil.which("openssl"), "openssl")
        self.home = directory("certificates")
        self.path = self.home / "authority.pem"
        self._key = self.home / "authority.key"
        made = ("-keyout", self._key, "-out", self.path, "-days", 2, "-subj", f"/CN={name}", "-addext", SIGNS)
        _openssl("req", "-x509", *KEY, *made)

    def certificate(self, address: str) -> Path:
        """The certificate of a host, or a client, with its key: ``IP:127.0.0.1`` or ``DNS:localhost``."""
        stem = self.home / address.replace(":", "-")
        request, key, signed, extra, both = (stem.with_name(f"{stem.name}{end}") for end in ENDS)
        extra.write_text(f"subjectAltName={address}\n{IS_SIGNED}")
        _openssl("req", *KEY, "-keyout", key, "-out", request, "-subj", f"/CN={address.partition(':')[2]}")
        signer = ("-CA", self.path, "-CAkey", self._key, "-CAcreateserial", "-extfile", extra)
        _openssl("x509", "-req", "-in", request, *signer, "-days", 2, "-out", signed)
        both.touch(mode=0o600)
        both.write_text(signed.read_text() + key.read_text())
        return both


def _openssl(*arguments: object) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
