"""Imports files through marketorestpython in some threads, and asks after each import until it has ended."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from marketorestpython.client import MarketoClient


def run(url: str, file: Path, interval: float) -> None:
    # It gets a Munchkin id and makes an address of Marketo's from it: that is what is changed.
    client = MarketoClient("123-ABC-456", "simulator", "secret")
    client.host = url
    (receipt,) = client.execute(method="import_lead", file=str(file), format="csv")
    while True:
        time.sleep(interval)
        (status,) = client.execute(method="get_import_lead_status", id=receipt["batchId"])
        if status["status"] == "Complete":
            return
        assert status["status"] in ("Queued", "Importing"), status


def main() -> None:
    url, folder, threads, interval = sys.argv[1:]
    with ThreadPoolExecutor(int(threads)) as pool:
        ends = [pool.submit(run, url, file, float(interval)) for file in sorted(Path(folder).iterdir())]
        for end in ends:
            end.result()


if __name__ == "__main__":
    main()
