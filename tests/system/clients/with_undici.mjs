// undici: fetch with the web's own FormData, whose length is known before it is sent.
import { readFileSync } from "node:fs";
import { fetch, FormData } from "undici";
import { Blob } from "node:buffer";

const [url, id, secret, folder] = process.argv.slice(2);
const login = new URLSearchParams({ grant_type: "client_credentials", client_id: id, client_secret: secret });
const token = (await (await fetch(`${url}/identity/oauth/token?${login}`)).json()).access_token;
const call = async (path, body) => {
  const answer = await fetch(url + path, { method: body ? "POST" : "GET", body, headers: { Authorization: `Bearer ${token}` } });
  return { status: answer.status, text: await answer.text() };
};
const record = (label, { status, text }) =>
  console.log([label, status, Buffer.from(text).toString("base64")].join("\t"));

const form = new FormData();
form.append("format", "csv");
form.append("file", new Blob([readFileSync(`${folder}/people.csv`)], { type: "text/csv" }), "people.csv");
const receipt = await call("/bulk/v1/leads.json", form);
record("leads upload", receipt);
const ask = `/bulk/v1/leads/batch/${JSON.parse(receipt.text).result[0].batchId}`;
for (let round = 0; round < 240; round++) {
  if (JSON.parse((await call(`${ask}.json`)).text).result[0].status === "Complete") break;
  await new Promise((done) => setTimeout(done, 250));
}
record("leads status", await call(`${ask}.json`));
for (const what of ["failures", "warnings"]) record(`leads ${what}`, await call(`${ask}/${what}.json`));
