"""marketorestpython with nothing changed but its host: leads, and a custom object."""

import json
import sys

from marketorestpython.client import MarketoClient
from record import people, poll, record


def main() -> None:
    url, id, secret, folder = sys.argv[1:]
    client = MarketoClient("123-ABC-456", id, secret, max_retry_time=1)
    client.host = url

    def call(method: str, **arguments):
        return client.execute(method=method, **arguments)

    def show(label: str, parsed) -> None:
        text = parsed if isinstance(parsed, str) else json.dumps(parsed)
        record(label, "-", text.encode())

    receipt = call("import_lead", file=str(people(folder)), format="csv")
    show("leads upload", receipt)
    batch = receipt[0]["batchId"]
    poll(lambda: call("get_import_lead_status", id=batch)[0]["status"] == "Complete")
    show("leads status", call("get_import_lead_status", id=batch))
    show("leads failures", call("get_import_failure_file", id=batch))
    show("leads warnings", call("get_import_warning_file", id=batch))


if __name__ == "__main__":
    main()
