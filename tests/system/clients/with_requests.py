"""requests: the token by a POST, the file as a form."""

import sys

import requests
from record import people, poll, record


def main() -> None:
    url, id, secret, folder = sys.argv[1:]
    login = {"grant_type": "client_credentials", "client_id": id, "client_secret": secret}
    token = requests.post(f"{url}/identity/oauth/token", data=login, timeout=30).json()["access_token"]
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    with people(folder).open("rb") as file:
        answer = session.post(f"{url}/bulk/v1/leads.json", params={"format": "csv"}, files={"file": file}, timeout=30)
    record("leads upload", answer.status_code, answer.content)
    ask = f"{url}/bulk/v1/leads/batch/{answer.json()['result'][0]['batchId']}"
    poll(lambda: session.get(f"{ask}.json", timeout=30).json()["result"][0]["status"] == "Complete")
    for label, path in (("status", ".json"), ("failures", "/failures.json"), ("warnings", "/warnings.json")):
        answer = session.get(f"{ask}{path}", timeout=30)
        record(f"leads {label}", answer.status_code, answer.content)


if __name__ == "__main__":
    main()
