"""Compares what a client got from the simulator with what it got from the daemon.

Usage: compare.py NAME SIMULATOR_OUTPUT DAEMON_OUTPUT. Both outputs have a line an answer: label, HTTP status ("-" where the
client hides it) and the body in base64, separated by tabs. What is each server's own is not compared: ids, the time an import
took, whether a new one waits or has started, and the words of a page behind HTTP 404.
"""

import base64
import json
import sys
from pathlib import Path

OWN = {"requestId", "importTime"}
IDS = {"batchId", "importId"}
ACCEPTED = {"Queued", "Importing"}


def mask(value):
    """A parsed body without what each server numbers by itself."""
    if isinstance(value, dict):
        masked = {key: mask(item) for key, item in value.items() if key not in OWN}
        for key in IDS & masked.keys():
            masked[key] = type(value[key]).__name__ if str(value[key]).isdigit() else f"not an id: {value[key]}"
        if masked.get("status") in ACCEPTED:
            masked["status"] = "accepted"
        return masked
    if isinstance(value, list):
        return [mask(item) for item in value]
    return value


def answers(path: str) -> dict[str, tuple[str, object]]:
    """The answers by their labels."""
    found = {}
    for line in Path(path).read_text().splitlines():
        label, status, encoded = line.split("\t")
        body = base64.b64decode(encoded).decode()
        try:
            parsed = mask(json.loads(body))
        except json.JSONDecodeError:
            # The clients that were tried raise an error if JSON stands there, and read no other body of a 404.
            parsed = "no file" if status == "404" else body
        if label in found:
            sys.exit(f"{path}: {label} is there twice")
        found[label] = (status, parsed)
    return found


def main() -> None:
    name, simulator, daemon = sys.argv[1:]
    expected, got = answers(simulator), answers(daemon)
    faults = [
        f"  {label}\n    Marketo's simulator: {expected.get(label)}\n    the daemon:          {got.get(label)}"
        for label in sorted(expected.keys() | got.keys())
        if expected.get(label) != got.get(label)
    ]
    # Without this a client that fails in the same way on both sides would pass.
    for label, (_, body) in expected.items():
        if label.endswith("status"):
            (result,) = body["result"] if isinstance(body, dict) else body
            processed = result.get("numOfLeadsProcessed", result.get("numOfObjectsProcessed"))
            counts = (result["status"], processed, result["numOfRowsFailed"], result["numOfRowsWithWarning"])
            if counts not in {("Complete", 2, 1, 1), ("Complete", 2, 1, 0)}:
                faults.append(f"  {label}: the import did not end as the file asks for: {counts}")
        if label.endswith("failures") and "Import Failure Reason" not in str(body):
            faults.append(f"  {label}: no failure file: {body}")
    if not any(label.endswith("status") for label in expected) or faults:
        sys.exit("\n".join([f"{name}: the answers are not the same, or not those of an import", *faults]))
    print(f"clients: {name}: {len(expected)} answers are the same")


if __name__ == "__main__":
    main()
