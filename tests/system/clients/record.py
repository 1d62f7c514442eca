"""What the Python clients share: the files they import, and how an answer is printed for compare.py."""

import base64
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 60  # seconds


def record(label: str, status: int | str, body: bytes) -> None:
    """Prints an answer as a line that compare.py reads."""
    print(label, status, base64.b64encode(body).decode(), sep="\t")


def poll(ended: Callable[[], bool]) -> None:
    """Asks until `ended` says so; raises after a minute."""
    deadline = time.monotonic() + PATIENCE
    while not ended():
        if time.monotonic() > deadline:
            raise TimeoutError("the import does not end")
        time.sleep(0.25)


def people(folder: str) -> Path:
    """The file of leads: one good row, one that fails, one with a warning."""
    return Path(folder, "people.csv")
