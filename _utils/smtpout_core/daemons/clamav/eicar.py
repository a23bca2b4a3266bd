"""The EICAR test file, which every scanner takes for a virus (eicar.org): hexadecimal, or one would take this away."""

from __future__ import annotations

import base64
import io
import zipfile

BEGINS = "58354f2150254041505b345c505a58353428505e2937434329377d2445494341522d5354414e44415244"
FILE = bytes.fromhex(BEGINS + "2d414e544956495255532d544553542d46494c452124482b482a")

SIGNATURE = f"Eicar-Test-Signature:0:*:{BEGINS}\n"
"""By which clamd finds it without any database (clamav's "Creating signatures", extended signatures)."""


def _attached() -> bytes:
    """Return it as it comes by mail: in an archive, as base64 (RFC 2045, 6.8)."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("eicar.com"), FILE, zipfile.ZIP_DEFLATED)
    return base64.encodebytes(packed.getvalue())


ATTACHED = _attached()
