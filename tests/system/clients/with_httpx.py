"""httpx, asynchronous, HTTP/1.1: a file of program members."""

import asyncio
import sys

import httpx
from record import people, record

ROUNDS = 240


async def main() -> None:
    url, id, secret, folder = sys.argv[1:]
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        login = {"grant_type": "client_credentials", "client_id": id, "client_secret": secret}
        token = (await client.get("/identity/oauth/token", params=login)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        answer = await client.post(
            "/bulk/v1/program/1044/members/import.json",
            params={"format": "csv", "programMemberStatus": "On List"},
            files={"file": ("people.csv", people(folder).read_bytes(), "text/csv")},
        )
        record("members upload", answer.status_code, answer.content)
        ask = f"/bulk/v1/program/members/import/{answer.json()['result'][0]['batchId']}"
        for _ in range(ROUNDS):
            if (await client.get(f"{ask}/status.json")).json()["result"][0]["status"] == "Complete":
                break
            await asyncio.sleep(0.25)
        for what in ("status", "failures", "warnings"):
            answer = await client.get(f"{ask}/{what}.json")
            record(f"members {what}", answer.status_code, answer.content)


if __name__ == "__main__":
    asyncio.run(main())
