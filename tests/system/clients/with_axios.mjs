// axios with form-data, as most Node programs for Marketo have it.
import { readFileSync } from "node:fs";
import axios from "axios";
import FormData from "form-data";

const [url, id, secret, folder] = process.argv.slice(2);
const record = (label, answer) =>
  console.log([label, answer.status, Buffer.from(answer.data).toString("base64")].join("\t"));

const login = new URLSearchParams({ grant_type: "client_credentials", client_id: id, client_secret: secret });
const token = (await axios.post(`${url}/identity/oauth/token`, login)).data.access_token;
const client = axios.create({
  baseURL: url,
  headers: { Authorization: `Bearer ${token}` },
  responseType: "arraybuffer",
  validateStatus: () => true,
});

const form = new FormData();
form.append("file", readFileSync(`${folder}/cars.csv`), { filename: "cars.csv", contentType: "text/csv" });
const receipt = await client.post("/bulk/v1/customobjects/car_c/import.json", form, {
  params: { format: "csv" },
  headers: form.getHeaders(),
});
record("objects upload", receipt);
const ask = `/bulk/v1/customobjects/car_c/import/${JSON.parse(receipt.data).result[0].batchId}`;
for (let round = 0; round < 240; round++) {
  if (JSON.parse((await client.get(`${ask}/status.json`)).data).result[0].status === "Complete") break;
  await new Promise((done) => setTimeout(done, 250));
}
for (const what of ["status", "failures", "warnings"]) record(`objects ${what}`, await client.get(`${ask}/${what}.json`));
