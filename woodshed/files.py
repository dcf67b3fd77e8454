"""Files are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from .errors import FileError


def write_file(path: str | Path, data: bytes | str) -> None:
    """Write bytes, or text as UTF-8: under a temporary name first, then renamed. Raises FileError."""
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        try:
            temporary.write_bytes(data.encode() if isinstance(data, str) else data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(path, f"cannot be written: {error.strerror or error}") from None
