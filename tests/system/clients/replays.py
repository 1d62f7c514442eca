"""Requests of programs that cannot be installed here, sent as they send them, byte for byte but for host, token and rows.

They were recorded from the programs' own code, or written down from it where it does not run by itself:
RudderStack's uploader (Go's mime/multipart), Talend's tMarketoBulkExec, Segment's static lists, Adobe's Java, PHP and Ruby
samples, and the Ruby gem mrkt 1.2.1. Usage: replays.py PROGRAM ADDRESS CLIENT_ID CLIENT_SECRET FOLDER
"""

import json
import re
import socket
import sys
import urllib.parse
from dataclasses import dataclass, field

from record import people, poll, record

CRLF = "\r\n"


@dataclass
class Server:
    """Where the requests go, and the credentials that stand in them."""

    host: str
    port: int
    id: str
    secret: str
    token: str = ""
    rows: bytes = field(default=b"")

    def send(self, head: str, body: bytes = b"") -> tuple[int, bytes]:
        """Sends one request over a connection of its own; returns the status and the body of the answer."""
        with socket.create_connection((self.host, self.port), timeout=30) as connection:
            connection.sendall(head.encode() + body)
            with connection.makefile("rb") as answer:
                status = int(answer.readline().split()[1])
                length, chunked = None, False
                while (line := answer.readline().strip()) != b"":
                    name, _, value = line.decode().partition(":")
                    if name.lower() == "content-length":
                        length = int(value)
                    if name.lower() == "transfer-encoding":
                        chunked = value.strip().lower() == "chunked"
                if not chunked:
                    return status, answer.read() if length is None else answer.read(length)
                text = b""
                while (size := int(answer.readline(), 16)) != 0:
                    text += answer.read(size)
                    answer.readline()
                return status, text

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass
class Program:
    """How one program asks: the lines of its requests, with {names} of `Server`'s fields in them."""

    login: list[str]
    upload: list[str]
    body: str
    get: list[str]
    boundary: str = ""
    # What stands behind the path of a question.
    query: str = ""


GO = ["Host: {authority}", "User-Agent: Go-http-client/1.1"]
GO_BOUNDARY = "6ffd953de1dbcac51b4e899a978c39faf5d464464c63ddc94b49537c9c8e"
JAVA = ["User-Agent: Java/17.0.15", "Host: {authority}", "Connection: keep-alive"]
JAVA_LOGIN = [
    "GET /identity/oauth/token?grant_type=client_credentials&client_id={id}&client_secret={secret} HTTP/1.1",
    "accept: application/json",
    *JAVA,
]
# Neither a closing "--" nor a line end behind the last boundary, and a semicolon behind the file's name.
JAVA_BODY = (
    '--{boundary}\r\nContent-Disposition: form-data; name="file";filename="C:\\LeadList\\mktoseedlist.csv";\r\n'
    'Content-type: text/plain; charset="utf-8"\r\nContent-Transfer-Encoding: text/plain\r\nMIME-Version: 1.0\r\n\r\n'
    "{rows}\r\n--{boundary}"
)
RUBY = ["Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3", "Accept: */*", "Host: {authority}"]

PROGRAMS = {
    # The token and all parameters behind the file, no header for it.
    "rudderstack": Program(
        login=[
            "POST /identity/oauth/token?client_id={id}&client_secret={secret}&grant_type=client_credentials HTTP/1.1",
            *GO,
            "Content-Length: 0",
            "Accept-Encoding: gzip",
        ],
        upload=[
            "POST /bulk/v1/leads.json HTTP/1.1",
            *GO,
            "Content-Length: {length}",
            "Content-Type: multipart/form-data; boundary={boundary}",
            "Accept-Encoding: gzip",
        ],
        boundary=GO_BOUNDARY,
        body='--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="2Zc_marketo_bulk_upload.csv"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n{rows}\r\n"
        '--{boundary}\r\nContent-Disposition: form-data; name="format"\r\n\r\ncsv\r\n'
        '--{boundary}\r\nContent-Disposition: form-data; name="access_token"\r\n\r\n{token}\r\n'
        '--{boundary}\r\nContent-Disposition: form-data; name="lookupField"\r\n\r\nemail\r\n'
        "--{boundary}--\r\n",
        get=["GET {path} HTTP/1.1", *GO, "Authorization: Bearer {token}", "Accept-Encoding: gzip"],
    ),
    "talend": Program(
        login=JAVA_LOGIN,
        upload=[
            "POST /bulk/v1/leads.json?access_token={token}&lookupField=email&format=csv HTTP/1.1",
            "Content-Type: multipart/form-data; boundary={boundary}",
            "accept: text/json",
            *JAVA,
            "Content-Length: {length}",
        ],
        boundary="Talend_tMarketoBulkExec_1795639729343",
        body=JAVA_BODY,
        get=["GET {path} HTTP/1.1", "accept: text/json", *JAVA],
        query="?access_token={token}",
    ),
    # A boundary that begins and ends with "--" itself.
    "segment": Program(
        login=[
            "POST /identity/oauth/token HTTP/1.1",
            "content-type: application/x-www-form-urlencoded;charset=UTF-8",
            "user-agent: Segment (Actions)",
            "accept: */*",
            "accept-encoding: gzip,deflate",
            "Host: {authority}",
            "Content-Length: {login_length}",
            "Connection: close",
        ],
        upload=[
            "POST /bulk/v1/leads.json?format=csv&lookupField=email HTTP/1.1",
            "content-type: multipart/form-data; boundary=--SEGMENT-DATA--",
            "user-agent: Segment (Actions)",
            "authorization: Bearer {token}",
            "accept: */*",
            "accept-encoding: gzip,deflate",
            "Host: {authority}",
            "Content-Length: {length}",
            "Connection: close",
        ],
        boundary="--SEGMENT-DATA--",
        body='--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="leads.csv"\r\n'
        "Content-Type: text/csv\r\n\r\n{rows}\r\n--{boundary}--\r\n",
        get=["GET {path} HTTP/1.1", "authorization: Bearer {token}", "Host: {authority}", "Connection: close"],
    ),
    "adobe-java": Program(
        login=JAVA_LOGIN,
        upload=[
            "POST /bulk/v1/leads.json?access_token={token}&format=csv HTTP/1.1",
            "Content-Type: multipart/form-data; boundary={boundary}",
            "accept: text/json",
            *JAVA,
            "Content-Length: {length}",
        ],
        boundary="1795639729343",
        body=JAVA_BODY,
        get=["GET {path} HTTP/1.1", "accept: text/json", *JAVA],
        query="?access_token={token}",
    ),
    "adobe-php": Program(
        login=[
            "GET /identity/oauth/token?grant_type=client_credentials&client_id={id}&client_secret={secret} HTTP/1.1",
            "Host: {authority}",
            "accept: application/json",
        ],
        upload=[
            "POST /bulk/v1/leads.json?access_token={token}&format=csv HTTP/1.1",
            "Host: {authority}",
            "accept: application/json",
            "Content-Length: {length}",
            "Content-Type: multipart/form-data; boundary={boundary}",
        ],
        boundary="------------------------72d667ae61366a85",
        body='--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
        "Content-Type: text/plain\r\n\r\n{rows}\r\n--{boundary}--\r\n",
        get=["GET {path} HTTP/1.1", "Host: {authority}", "accept: application/json"],
        query="?access_token={token}",
    ),
    "mrkt": Program(
        login=[
            "GET /identity/oauth/token?client_id={id}&client_secret={secret}&grant_type=client_credentials HTTP/1.1",
            "User-Agent: Faraday v1.1.0",
            *RUBY,
        ],
        upload=[
            "POST /bulk/v1/leads.json HTTP/1.1",
            "User-Agent: Faraday v1.1.0",
            "Authorization: Bearer {token}",
            "Content-Type: multipart/form-data; boundary={boundary}",
            "Content-Length: {length}",
            *RUBY,
        ],
        boundary="-----------RubyMultipartPost-74183cb03d42f6164d422549874e84ba",
        # An empty line behind the last boundary.
        body='--{boundary}\r\nContent-Disposition: form-data; name="format"\r\n\r\ncsv\r\n'
        '--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="leads.csv"\r\n'
        "Content-Length: {rows_length}\r\nContent-Type: text/csv\r\nContent-Transfer-Encoding: binary\r\n\r\n{rows}\r\n"
        '--{boundary}\r\nContent-Disposition: form-data; name="lookupField"\r\n\r\nemail\r\n'
        "--{boundary}--\r\n\r\n",
        get=["GET {path} HTTP/1.1", "User-Agent: Faraday v1.1.0", "Authorization: Bearer {token}", *RUBY],
    ),
}
# Adobe's Ruby samples only ask; what is asked about was uploaded as the PHP sample does.
PROGRAMS["adobe-ruby"] = Program(
    login=PROGRAMS["adobe-php"].login,
    upload=PROGRAMS["adobe-php"].upload,
    boundary=PROGRAMS["adobe-php"].boundary,
    body=PROGRAMS["adobe-php"].body,
    get=[
        "GET {path} HTTP/1.1",
        "Accept: */*",
        "User-Agent: rest-client/2.1.0 (linux-gnu x86_64) ruby/3.1.2p20",
        "Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
        "Host: {authority}",
    ],
    query="?access_token={token}",
)


def main() -> None:
    name, url, id, secret, folder = sys.argv[1:]
    program, address = PROGRAMS[name], urllib.parse.urlsplit(url)
    server = Server(address.hostname, address.port, id, secret, rows=people(folder).read_bytes())

    def fill(text: str, **more: str) -> str:
        """Replaces {name} by the server's value, or by one of `more`; braces of other kinds stay."""
        values = {"authority": server.authority, "id": id, "secret": secret, "token": server.token} | more
        return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], text)

    def head(lines: list[str], **more: str) -> str:
        return CRLF.join(fill(line, **more) for line in lines) + CRLF + CRLF

    login = b""
    if name == "segment":
        login = urllib.parse.urlencode(
            {"client_id": id, "client_secret": secret, "grant_type": "client_credentials"}
        ).encode()
    status, answer = server.send(head(program.login, login_length=str(len(login))), login)
    server.token = json.loads(answer)["access_token"]

    before, after = program.body.split("{rows}")
    about = {"boundary": program.boundary, "rows_length": str(len(server.rows))}
    body = fill(before, **about).encode() + server.rows + fill(after, **about).encode()
    status, answer = server.send(head(program.upload, length=str(len(body)), **about), body)
    record("leads upload", status, answer)
    batch = json.loads(answer)["result"][0]["batchId"]

    def get(path: str) -> tuple[int, bytes]:
        return server.send(head(program.get, path=f"/bulk/v1/leads/batch/{batch}{path}{fill(program.query)}"))

    poll(lambda: b'"Complete"' in get(".json")[1])
    for label, path in (("status", ".json"), ("failures", "/failures.json"), ("warnings", "/warnings.json")):
        record(f"leads {label}", *get(path))


if __name__ == "__main__":
    main()
