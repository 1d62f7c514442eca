// A daemon for the browser's cases: it can be stopped and started again at the same addresses.
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, openSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Returns a port of 127.0.0.1 that is free. */
async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Daemon {
  /** `api` are further lines of the table `[api]`. */
  constructor({ marqueue, folder, simulator, api = "" }) {
    this.api = api;
    this.marqueue = marqueue;
    this.folder = folder;
    this.socket = `${folder}/m.sock`;
    this.simulator = simulator;
    // A case that throws outside of its promise ends this program at once.
    process.on("exit", () => this.process?.kill("SIGKILL"));
  }

  /** Writes the configuration, starts the daemon, and forwards a port to its socket as `ssh -L` does. */
  async open() {
    this.port = await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    const client = (id, access) => `[[api.clients]]\nclient_id = "${id}"\nclient_secret = "${id}-secret"\naccess = "${access}"\n`;
    const instance = (name) => `[instances.${name}]\nbase_url = "${this.simulator}"\nclient_id = "simulator"\nclient_secret = "secret"\n`;
    const text = `[store]\npath = "${this.folder}/q.db"\nreserve_bytes = 0\n[api]\nsocket = "${this.socket}"\nlisten = "127.0.0.1:${this.port}"\n${this.api}${client("crm", "write")}${client("viewer", "read")}${instance("default")}polling = {min = "100ms", max = "1s"}\n`;
    writeFileSync(`${this.folder}/marqueue.toml`, text, { mode: 0o600 });
    await this.start();
    const forward = net.createServer((near) => {
      const far = net.connect(this.socket);
      near.pipe(far).pipe(near);
      near.on("error", () => far.destroy()).on("close", () => far.destroy());
      far.on("error", () => near.destroy()).on("close", () => near.destroy());
    });
    await new Promise((resolve) => forward.listen(0, "127.0.0.1", resolve));
    this.forward = forward;
    this.local = `http://127.0.0.1:${forward.address().port}`;
  }

  /** Opens a second daemon with further lines of the table `[api]`, which may have tables after them. */
  async another(api) {
    const { marqueue, simulator } = this;
    const folder = mkdtempSync(`${this.folder}/another-`);
    const daemon = new Daemon({ marqueue, folder, simulator, api });
    await daemon.open();
    return daemon;
  }

  async start() {
    const log = openSync(`${this.folder}/daemon.log`, "a");
    this.process = spawn(this.marqueue, ["serve", "--config", `${this.folder}/marqueue.toml`], { stdio: ["ignore", log, log] });
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    for (;;) {
      const answers = await this.cli("health").then(() => true, () => false);
      if (answers) return;
      if (this.process.exitCode != null) throw new Error("the daemon has ended: see daemon.log");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
  }

  async close() {
    await this.stop();
    this.forward.close();
  }

  /** Runs the command line, and returns its output. */
  async cli(...words) {
    const { stdout } = await run(this.marqueue, ["--socket", this.socket, ...words], { maxBuffer: 1 << 28 });
    return stdout;
  }

  async add(name, content, ...options) {
    writeFileSync(`${this.folder}/${name}`, content);
    const text = await this.cli("add", "leads", `${this.folder}/${name}`, "--json", ...options);
    return [].concat(JSON.parse(text))[0];
  }

  /** Adds this many jobs of the same content, named `many-0.csv` and so on, 32 at once. */
  async addMany(count, content) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
    const post = (name) =>
      new Promise((resolve, reject) => {
        const options = { socketPath: this.socket, method: "POST", path: `/v1/jobs?target=leads&filename=${name}`, agent };
        const request = http.request(options, (response) => {
          response.resume();
          response.once("end", () => (response.statusCode === 201 ? resolve() : reject(new Error(`${name}: ${response.statusCode}`))));
        });
        request.once("error", reject).end(content);
      });
    let next = 0;
    const worker = async () => {
      while (next < count - 1) await post(`many-${next++}.csv`);
    };
    await Promise.all(Array.from({ length: 32 }, worker));
    // The last is the newest.
    await post(`many-${count - 1}.csv`);
    agent.destroy();
  }
}
