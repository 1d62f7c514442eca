#!/usr/bin/env python3
"""Imports a file of leads over the daemon's socket and prints the rows that failed: client.py SOCKET FILE."""
import http.client
import json
import os
import socket
import sys
import urllib.parse


class Daemon(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])


def call(method, path, body=None):
    daemon = Daemon("marqueue")
    daemon.request(method, path, body)
    answer = daemon.getresponse()
    text = answer.read()
    if answer.status >= 400:
        sys.exit(json.loads(text).get("detail", answer.reason))
    return text


with open(sys.argv[2], "rb") as file:
    query = urllib.parse.urlencode({"target": "leads", "filename": os.path.basename(sys.argv[2])})
    job = json.loads(call("POST", f"/v1/jobs?{query}", file))
while job["state"] not in ("complete", "failed", "cancelled"):
    job = json.loads(call("GET", f"/v1/jobs/{job['id']}?wait=30s"))
print(job["state"], job["rows"], file=sys.stderr)
if job["rows"]["failed"]:
    sys.stdout.write(call("GET", f"/v1/jobs/{job['id']}/failures").decode())
