"""Python's email.mime, whose part headers can be folded over two lines, and urllib."""

import json
import sys
import urllib.parse
import urllib.request
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart

from record import people, poll, record

# Long enough for email.mime to fold the header in front of it.
FILENAME = "people-of-the-spring-campaign-in-all-our-countries-second-edition.csv"


def form(rows: bytes) -> tuple[str, bytes]:
    """The content type and the body of a form that holds the file."""
    body = MIMEMultipart("form-data")
    part = MIMEApplication(rows, "octet-stream", _encoder=lambda part: part.__setitem__("Content-Transfer-Encoding", "binary"))
    part.add_header("Content-Disposition", "form-data", name="file", filename=FILENAME)
    body.attach(part)
    head, _, rest = body.as_bytes().partition(b"\n\n")
    if b"\n filename=" not in rest and b"\n\tfilename=" not in rest:
        raise AssertionError(f"the header is not folded, so nothing is tried: {rest[:300]!r}")
    # HTTP's lines end in CRLF, a file's lines stay as they are.
    part_head, _, content = rest.partition(b"\n\n")
    content, _, closing = content.rpartition(b"\n--")
    wire = part_head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + content + b"\r\n--" + closing.replace(b"\n", b"\r\n")
    return body["Content-Type"].replace("\n", ""), wire


def main() -> None:
    url, id, secret, folder = sys.argv[1:]
    login = {"grant_type": "client_credentials", "client_id": id, "client_secret": secret}
    with urllib.request.urlopen(f"{url}/identity/oauth/token?{urllib.parse.urlencode(login)}") as answer:
        headers = {"Authorization": f"Bearer {json.load(answer)['access_token']}"}

    def call(path: str, body: bytes | None = None, **more: str) -> tuple[int, bytes]:
        request = urllib.request.Request(url + path, data=body, headers=headers | more)
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()

    content_type, body = form(people(folder).read_bytes())
    status, answer = call("/bulk/v1/leads.json?format=csv", body, **{"Content-Type": content_type})
    record("leads upload", status, answer)
    ask = f"/bulk/v1/leads/batch/{json.loads(answer)['result'][0]['batchId']}"
    poll(lambda: b'"Complete"' in call(f"{ask}.json")[1])
    for label, path in (("status", ".json"), ("failures", "/failures.json"), ("warnings", "/warnings.json")):
        record(f"leads {label}", *call(ask + path))


if __name__ == "__main__":
    main()
