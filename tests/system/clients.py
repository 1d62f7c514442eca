"""Forty files at once through marketorestpython, of which nothing is changed but where its host is."""

import csv
import io
import sys
import threading
import time
from pathlib import Path

from marketorestpython.client import MarketoClient

FILES = 40
PATIENCE = 240  # seconds


def one(url: str, folder: Path, number: int) -> None:
    """Imports a file of three rows, and looks at what comes of it."""
    failed, warned = f"bad{number}@example.com", f"odd{number}@example.com"
    file = folder / f"people{number}.csv"
    file.write_text(
        f"email,note\ngood{number}@example.com,\n{failed},!fail:Reason {number}\n{warned},!warn:Odd {number}\n"
    )
    # It gets a Munchkin id and makes an address of Marketo's from it: that is what is changed.
    # Without time for its own retries, a 1016 would be an error here and not a pause.
    client = MarketoClient("123-ABC-456", "crm", "crm-secret", max_retry_time=1)
    client.host = url

    def call(method: str, **arguments):
        return client.execute(method=method, **arguments)

    (receipt,) = call("import_lead", file=str(file), format="csv")
    assert receipt["status"] == "Queued", receipt
    batch = receipt["batchId"]
    deadline = time.monotonic() + PATIENCE
    while True:
        (status,) = call("get_import_lead_status", id=batch)
        if status["status"] == "Complete":
            break
        assert status["status"] in ("Queued", "Importing"), status
        assert time.monotonic() < deadline, f"import {batch} does not end: {status}"
        time.sleep(0.5)
    counts = [status[f"numOf{what}"] for what in ("LeadsProcessed", "RowsFailed", "RowsWithWarning")]
    assert counts == [2, 1, 1], status
    for method, email, column, reason in (
        ("get_import_failure_file", failed, "Import Failure Reason", f"Reason {number}"),
        ("get_import_warning_file", warned, "Import Warning Reason", f"Odd {number}"),
    ):
        text = call(method, id=batch)
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [(row["email"], row[column]) for row in rows] == [(email, reason)], text


def main() -> None:
    url, folder = sys.argv[1], Path(sys.argv[2])
    faults: list[str] = []

    def run(number: int) -> None:
        try:
            one(url, folder, number)
        except Exception as error:  # any error is printed and fails the run
            faults.append(f"file {number}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(FILES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        sys.exit("\n".join(faults))
    print(f"clients: marketorestpython imported {FILES} files at once")


if __name__ == "__main__":
    main()
