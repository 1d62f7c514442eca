// The page in Chromium: each case says what it does, and throws where the page does something else.
import { strict as assert } from "node:assert";
import http from "node:http";
import { accessible, ask, drop, live, open, picture, send } from "./pages.mjs";

const MARKUP = "<script>window.injected=1</script>";
const row = (page, id) => page.locator(".jobs tbody tr", { has: page.getByRole("link", { name: String(id), exact: true }) });

async function endsAs(daemon, id, state) {
  await daemon.cli("wait", String(id)).catch(() => {});
  const { state: ended } = JSON.parse(await daemon.cli("show", String(id), "--json"));
  assert.equal(ended, state);
}

/** Makes a file whose rows fail as the reasons say; null is a row that does not fail. */
const people = (...reasons) => `email,firstName,note\n${reasons.map((reason, i) => `p${i}@example.com,Ada,${reason ? `"!fail:${reason}"` : ""}\n`).join("")}`;

async function newestId(daemon) {
  return JSON.parse(await daemon.cli("list", "--limit", "1", "--json")).jobs[0].id;
}

export const cases = {
  async "a dropped file ends with its failed rows and reasons on the screen"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/`);
    await live(page);
    await drop(page, [{ name: "dropped.csv", content: people("Bad country", null, "Bad country", "Blocked") }]);
    await accessible(page, "the form");
    await page.getByRole("button", { name: "Check 1 file" }).click();
    await page.locator("dialog .good .result", { hasText: "4 rows, 3 columns, 1 batch" }).waitFor();
    assert.equal(JSON.parse(await daemon.cli("list", "--json")).jobs.length, 0, "a check adds nothing");
    await page.getByRole("button", { name: "Send 1 file" }).click();
    await page.locator("dialog[open]").waitFor({ state: "detached" });
    const id = await newestId(daemon);
    await row(page, id).getByRole("link").first().click();
    await page.locator(".badge", { hasText: "complete" }).first().waitFor();
    const reasons = page.locator("section[aria-label='Reasons of failed rows'] .reasons tbody tr");
    await reasons.first().waitFor();
    assert.deepEqual(await reasons.evaluateAll((rows) => rows.map((row) => row.innerText.split(/\s{2,}|\t|\n/).slice(0, 2))), [["2", "Bad country"], ["1", "Blocked"]]);
    assert.equal(await page.getByText("p0@example.com").count(), 0, "rows are shown only when asked for");
    await page.getByRole("button", { name: "Show the first 50 failed rows" }).click();
    await page.getByRole("cell", { name: "p0@example.com" }).waitFor();
    assert.equal(await page.locator(".rows tbody tr").count(), 3);
    await accessible(page, "one job");
    await page.context().close();
  },

  async "a file that cannot be imported is refused with the line"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/`);
    await live(page);
    await drop(page, [{ name: "ragged.csv", content: "email,firstName\na@example.com,Ada,x\n" }, { name: "whole.csv", content: people(null) }]);
    await page.getByRole("button", { name: "Check 2 files" }).click();
    await page.locator("dialog[open] .refused .result", { hasText: "line 2 has 3" }).waitFor();
    // A change of the form makes the check count no more.
    await page.getByRole("button", { name: "Send 1 file" }).waitFor();
    await page.getByLabel("Custom object").check();
    await page.getByRole("button", { name: "Check 2 files" }).waitFor();
    await page.context().close();
  },

  async "markup in names, headers, cells and reasons stays text"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/`);
    await live(page);
    const content = `email,${MARKUP},note\na@example.com,${MARKUP},!fail:${MARKUP}\nb@example.com,<img src=x onerror=window.injected=1>,\n`;
    await drop(page, [{ name: `${MARKUP.replace("/", "\u2215")}.csv`, content }]);
    await page.locator("dialog summary").click();
    await page.getByLabel("Send without checking").check();
    await send(page);
    const id = await newestId(daemon);
    await endsAs(daemon, id, "complete");
    await page.goto(`${daemon.local}/?job=${id}`);
    await page.locator("h1", { hasText: "<script>window.injected=1" }).waitFor();
    await page.locator(".reasons td", { hasText: MARKUP }).waitFor();
    await page.getByRole("button", { name: "Show the first 50 failed rows" }).click();
    await page.locator(".rows th", { hasText: MARKUP }).waitFor();
    await page.locator(".rows td", { hasText: MARKUP }).first().waitFor();
    await page.goto(`${daemon.local}/?view=jobs&q=%3Cscript`);
    await row(page, id).waitFor();
    assert.equal(await page.evaluate(() => window.injected), undefined);
    assert.equal(await page.locator("main script, main img").count(), 0);
    await page.context().close();
  },

  async "filters stand in the address and select the jobs"({ browser, daemon }) {
    const spring = await daemon.add("spring-fair.csv", people(null), "--group", "fairs");
    const autumn = await daemon.add("autumn-fair.csv", people("Late"));
    for (const { id } of [spring, autumn]) await endsAs(daemon, id, "complete");
    const page = await open(browser, `${daemon.local}/?view=jobs`);
    await page.getByLabel("File name").waitFor();
    // A character alone is no shortcut, which speech input could press.
    const focused = () => page.evaluate(() => document.activeElement.id);
    for (const key of ["/", "k", "Alt+k"]) await page.keyboard.press(key);
    assert.notEqual(await focused(), "search");
    await page.keyboard.press("Control+k");
    assert.equal(await focused(), "search");
    await page.keyboard.type("-fair");
    await page.waitForURL(/q=-fair/);
    await page.getByLabel("with failed rows").check();
    await page.waitForURL(/failures=true/);
    await row(page, spring.id).waitFor({ state: "detached" });
    assert.equal(await page.locator(".jobs tbody tr").count(), 1);
    await row(page, autumn.id).waitFor();
    await accessible(page, "the jobs");
    // The address alone shows the same to a colleague.
    const other = await open(browser, page.url());
    await row(other, autumn.id).waitFor();
    assert.equal(await other.locator(".jobs tbody tr").count(), 1);
    assert.equal(await other.getByLabel("File name").inputValue(), "-fair");
    await other.goto(`${daemon.local}/?group=fairs`);
    await row(other, spring.id).waitFor();
    assert.equal(await other.locator(".jobs tbody tr").count(), 1);
    await page.goBack();
    await row(page, spring.id).waitFor();
    for (const opened of [page, other]) await opened.context().close();
  },

  async "failed rows are sent again as a new job"({ browser, daemon }) {
    const { id } = await daemon.add("again.csv", people("Twice", null, "Twice"));
    await endsAs(daemon, id, "complete");
    const page = await open(browser, `${daemon.local}/?job=${id}`);
    await ask(page, "Retry failed rows…", "Send them again");
    await page.locator("#toast", { hasText: "was made of the failed rows" }).waitFor();
    await page.locator("dd", { hasText: `failed rows of job ${id}` }).waitFor();
    const made = await newestId(daemon);
    const job = JSON.parse(await daemon.cli("show", String(made), "--json"));
    assert.deepEqual([job.retry_of, job.rows.total], [id, 2]);
    await page.context().close();
  },

  async "a second press after a lost answer sends the failed rows once"({ browser, daemon }) {
    const { id } = await daemon.add("pressed.csv", people("Pressed", null));
    await endsAs(daemon, id, "complete");
    const page = await open(browser, `${daemon.local}/?job=${id}`, { expected: ["ERR_FAILED"] });
    const keys = [];
    await page.route("**/v1/jobs/*/retry*", async (route) => {
      keys.push(route.request().headers()["idempotency-key"]);
      if (keys.length > 1) return route.continue();
      // Done, but the answer is lost.
      await route.fetch();
      await route.abort();
    });
    await page.getByRole("button", { name: "Retry failed rows…" }).click();
    const press = page.locator("dialog[open]").getByRole("button", { name: "Send them again" });
    await press.click();
    await page.locator("dialog[open] .notice", { hasText: "no daemon answers" }).waitFor();
    await press.click();
    await page.locator("#toast", { hasText: "was made of the failed rows" }).waitFor();
    // The dialog that is opened anew is another request.
    await page.goto(`${daemon.local}/?job=${id}`);
    await ask(page, "Retry failed rows…", "Send them again");
    await page.locator("#toast", { hasText: "was made of the failed rows" }).waitFor();
    assert.deepEqual([keys.length, keys[0] === keys[1], keys[1] === keys[2]], [3, true, false]);
    const { jobs } = JSON.parse(await daemon.cli("list", "--json"));
    assert.equal(jobs.filter((job) => job.retry_of === id).length, 2);
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.context().close();
  },

  async "pause, cancel of all that match, retry, resume"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/`);
    await live(page);
    await ask(page, "Pause…", "Pause uploads");
    await page.locator(".instance .notice", { hasText: "until someone resumes it" }).waitFor();
    const waiting = [await daemon.add("stay-1.csv", people(null)), await daemon.add("stay-2.csv", people(null))];
    await page.locator(".instance tbody tr", { hasText: "stay-2.csv" }).waitFor();
    await page.goto(`${daemon.local}/?q=stay-`);
    await page.getByRole("button", { name: "Cancel…" }).click();
    const dialog = page.locator("dialog[open]");
    await dialog.getByText("2 jobs will be cancelled.").waitFor();
    await accessible(page, "a question");
    await dialog.getByRole("button", { name: "Cancel: 2 jobs" }).click();
    await row(page, waiting[1].id).locator(".badge", { hasText: "cancelled" }).waitFor();
    await page.goto(`${daemon.local}/?job=${waiting[0].id}`);
    await ask(page, "Retry…", "Retry the job");
    await page.locator(".badge", { hasText: "pending" }).first().waitFor();
    await page.goto(`${daemon.local}/`);
    await ask(page, "Resume…", "Resume uploads");
    await page.locator(".instance header .badge", { hasText: "uploads are on" }).waitFor();
    await endsAs(daemon, waiting[0].id, "complete");
    await page.context().close();
  },

  async "a second attempt on all that match takes only the rest"({ browser, daemon }) {
    const made = [];
    for (const n of [1, 2, 3]) made.push((await daemon.add(`partly-${n}.csv`, people("Partly", null))).id);
    for (const id of made) await endsAs(daemon, id, "complete");
    const page = await open(browser, `${daemon.local}/?q=partly-`, { expected: ["503", "ERR_FAILED"] });
    const posted = [];
    await page.route("**/v1/jobs/*/retry*", async (route) => {
      const id = Number(route.request().url().match(/jobs\/(\d+)/)[1]);
      posted.push(id);
      if (posted.filter((other) => other === id).length > 1 || id === made[0]) return route.continue();
      if (id === made[1]) return route.fulfill({ status: 503 });
      // Done, but the answer is lost.
      await route.fetch();
      await route.abort();
    });
    await page.getByRole("button", { name: "Retry failed rows…" }).click();
    await page.getByRole("button", { name: "Retry failed rows: 3 jobs" }).click();
    await page.getByText("1 job sent again; 2 not").waitFor();
    await page.getByText("2 new jobs will be made").waitFor();
    await page.getByRole("button", { name: "Retry failed rows: 2 jobs" }).click();
    await page.locator("#toast", { hasText: "3 jobs sent again." }).waitFor();
    assert.deepEqual(posted.toSorted((a, b) => a - b), [made[0], made[1], made[1], made[2], made[2]]);
    const { jobs } = JSON.parse(await daemon.cli("list", "--json"));
    for (const id of made) assert.equal(jobs.filter((job) => job.retry_of === id).length, 1, `job ${id}`);
    await page.context().close();
  },

  async "a file can be sent again after a lost answer and with other options"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/`, { expected: ["429", "ERR_FAILED"] });
    await live(page);
    const keys = [];
    await page.route("**/v1/jobs?*", async (route) => {
      if (route.request().method() !== "POST") return route.continue();
      keys.push(route.request().headers()["idempotency-key"]);
      if (keys.length === 1) return route.fulfill({ status: 429, json: { detail: "too many requests" } });
      if (keys.length > 2) return route.continue();
      // Added, but the answer is lost.
      await route.fetch();
      await route.abort();
    });
    await drop(page, [{ name: "lost.csv", content: people(null) }]);
    await page.locator("dialog summary").click();
    await page.getByLabel("Send without checking").check();
    const again = page.getByRole("button", { name: "Send 1 file" });
    await again.click();
    await page.locator("dialog .lost .result", { hasText: "too many requests" }).waitFor();
    await again.click();
    await page.locator("dialog .lost .result", { hasText: "the connection was lost" }).waitFor();
    await page.getByLabel("Custom object").check();
    await page.getByLabel("API name of the object").fill("car_c");
    await again.click();
    await page.locator("#toast", { hasText: "1 file added" }).waitFor();
    assert.deepEqual([keys.length, keys[0] === keys[1], keys[1] === keys[2]], [3, true, false]);
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.context().close();
  },

  async "an upload with an outdated token is sent again under its key"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/`, { expected: ["403"] });
    await live(page);
    const sent = [];
    await page.route(/\/v1\/(check|jobs)\?/, async (route) => {
      const request = route.request();
      if (request.method() !== "POST") return route.continue();
      const { "x-csrf-token": token, "idempotency-key": key } = request.headers();
      sent.push({ path: new URL(request.url()).pathname, token, key });
      route.continue();
    });
    const outdate = () =>
      page.evaluate(async () => {
        const { session } = await import(new URL("ui/api.js", document.baseURI).href);
        session.csrf_token = "outdated";
      });
    await drop(page, [{ name: "outdated.csv", content: people(null) }]);
    await outdate();
    await page.getByRole("button", { name: "Check 1 file" }).click();
    const submit = page.getByRole("button", { name: "Send 1 file" });
    await submit.waitFor();
    await outdate();
    await submit.click();
    await page.locator("#toast", { hasText: "1 file added" }).waitFor();
    assert.deepEqual(sent.map(({ path }) => path), ["/v1/check", "/v1/check", "/v1/jobs", "/v1/jobs"]);
    assert.deepEqual(sent.map(({ token }) => token === "outdated"), [true, false, true, false]);
    assert.ok(sent[2].key && sent[2].key === sent[3].key, "the second attempt has the key of the first one");
    // A refusal that a new token does not change is told.
    await page.route("**/v1/jobs?*", (route) => (route.request().method() === "POST" ? route.fulfill({ status: 403, json: { detail: "not allowed" } }) : route.continue()));
    await drop(page, [{ name: "forbidden.csv", content: people(null) }]);
    await page.locator("dialog summary").click();
    await page.getByLabel("Send without checking").check();
    await submit.click();
    await page.locator("dialog .lost .result", { hasText: "not allowed" }).waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.context().close();
  },

  async "the focus follows a link into the view that it opens"({ browser, daemon }) {
    const { id } = await daemon.add("focused.csv", people("Focus"));
    await endsAs(daemon, id, "complete");
    const page = await open(browser, `${daemon.local}/`);
    await live(page);
    const focus = () => page.evaluate(() => document.activeElement.id || document.activeElement.tagName);
    const heading = (text) => page.getByRole("heading", { level: 1, name: text }).waitFor();
    await heading("Overview");
    assert.equal(await focus(), "BODY", "the first view leaves the focus where the browser has it");
    await row(page, id).getByRole("link").first().press("Enter");
    await heading("focused.csv");
    assert.equal(await focus(), "main");
    await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Jobs" }).press("Enter");
    await heading("Jobs");
    assert.equal(await focus(), "main");
    // A filter keeps the focus, and so does what it reads.
    await page.getByLabel("File name").pressSequentially("focused");
    await page.waitForURL(/q=focused/);
    await page.getByRole("link", { name: "Clear" }).waitFor();
    assert.equal(await focus(), "search");
    await page.getByRole("link", { name: "Clear" }).press("Enter");
    await page.getByRole("link", { name: "Clear" }).waitFor({ state: "detached" });
    assert.equal(await focus(), "main");
    // A new job is opened behind the dialog, which gives the focus back.
    await page.goto(`${daemon.local}/?job=${id}`);
    await ask(page, "Retry failed rows…", "Send them again");
    await page.locator("dd", { hasText: `failed rows of job ${id}` }).waitFor();
    assert.equal(await focus(), "main");
    await page.context().close();
  },

  async "what was done is said in an element that is always there"({ browser, daemon }) {
    const { id } = await daemon.add("said.csv", people("Said"));
    await endsAs(daemon, id, "complete");
    const page = await open(browser, `${daemon.local}/?job=${id}`);
    await live(page);
    const status = page.getByRole("status").and(page.locator("#toast"));
    assert.deepEqual([await status.count(), await status.textContent()], [1, ""]);
    // Letters are no shortcuts, which speech input could press.
    await page.keyboard.press("a");
    await ask(page, "Retry failed rows…", "Send them again");
    await status.filter({ hasText: "was made of the failed rows" }).waitFor();
    assert.equal(await page.locator("dialog").count(), 0);
    await page.context().close();
  },

  async "results are told when the dialog was closed meanwhile"({ browser, daemon }) {
    const { id } = await daemon.add("closed.csv", people("Closed"));
    await endsAs(daemon, id, "complete");
    const page = await open(browser, `${daemon.local}/?job=${id}`, { expected: ["503", "ERR_FAILED"] });
    await live(page);
    let answer;
    const held = new Promise((resolve) => (answer = resolve));
    await page.route("**/v1/jobs/*/retry*", async (route) => {
      await held;
      await route.fulfill({ status: 503, json: { detail: "the disk is full" } });
    });
    await page.getByRole("button", { name: "Retry failed rows…" }).click();
    await page.getByRole("button", { name: "Send them again" }).click();
    await page.getByRole("button", { name: "Working…" }).waitFor();
    await page.keyboard.press("Escape");
    await page.locator("dialog").waitFor({ state: "detached" });
    answer();
    await page.locator("#toast", { hasText: `Send the failed rows of job ${id} again: the disk is full` }).waitFor();
    // Closing the form for files stops the upload.
    let requested;
    const request = new Promise((resolve) => (requested = resolve));
    await page.route("**/v1/jobs?*", (route) => (route.request().method() === "POST" ? requested() : route.continue()));
    await drop(page, [{ name: "first.csv", content: people(null) }, { name: "second.csv", content: people(null) }]);
    await page.locator("dialog summary").click();
    await page.getByLabel("Send without checking").check();
    const failed = page.waitForEvent("requestfailed");
    await page.getByRole("button", { name: "Send 2 files" }).click();
    await request;
    await page.getByText("Closing this form stops it.").waitFor();
    await page.keyboard.press("Escape");
    await failed;
    await page.locator("#toast", { hasText: "Stopped: 0 of 2 files added." }).waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.context().close();
  },

  async "a cancel that gives up imports shows its command"({ browser, daemon }) {
    const { id } = await daemon.add("late.csv", "email,note\na@example.com,!lasts:1m\n");
    const page = await open(browser, `${daemon.local}/favicon.ico`, { expected: ["404"] });
    await page.route(`**/v1/jobs/${id}`, async (route) => {
      const job = await (await route.fetch()).json();
      for (const batch of job.batches) batch.overdue_at = job.created_at;
      await route.fulfill({ json: job });
    });
    await page.goto(`${daemon.local}/?job=${id}`);
    await page.getByRole("button", { name: "Cancel…" }).click();
    const dialog = page.locator("dialog[open]");
    await dialog.locator("code", { hasText: new RegExp(`^marqueue cancel ${id}$`) }).waitFor();
    await dialog.getByLabel("Also give up 1 import").check();
    await dialog.locator("code", { hasText: new RegExp(`^marqueue cancel ${id} --abandon$`) }).waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.context().close();
    await daemon.cli("cancel", String(id), "--yes").catch(() => {});
  },

  async "plots count what was imported and what failed"({ browser, daemon }) {
    const { id } = await daemon.add("plotted.csv", people("Bad country", null));
    await endsAs(daemon, id, "complete");
    const { rows, jobs, uploads } = JSON.parse(await daemon.cli("stats", "--window", "7d", "--json"));
    const total = (numbers) => numbers.reduce((sum, number) => sum + number, 0).toLocaleString("en");
    const page = await open(browser, `${daemon.local}/`);
    await page.getByRole("button", { name: "Week" }).click();
    for (const [title, text] of [["Rows", `${total(rows.failed)} failed`], ["Jobs ended", `${total(jobs.done)} complete`], ["Uploads", `${total(uploads)} uploads`]]) {
      await page.locator("figure", { hasText: title }).locator(".legend", { hasText: text }).waitFor();
    }
    assert.ok(await page.locator("figure svg rect.c3").count() > 0, "failed rows are drawn");
    const plot = page.locator("figure svg").first();
    assert.match(await plot.getAttribute("aria-label"), /^Rows: [0-9,]+ imported/);
    const box = await plot.boundingBox();
    await page.mouse.move(box.x + box.width - 2, box.y + box.height / 2);
    await page.locator(".readout", { hasText: "failed" }).waitFor();
    await page.context().close();
  },

  async "a lost connection is told, and what was missed is shown after it"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/?view=jobs`, { expected: ["ERR_", "Failed to load resource"] });
    await live(page);
    await daemon.stop();
    await page.getByText("The connection to the daemon is lost").waitFor();
    await page.locator(".live", { hasText: "Not connected" }).waitFor();
    await daemon.start();
    const { id } = await daemon.add("meanwhile.csv", people(null));
    await live(page);
    await page.locator("#connection").waitFor({ state: "hidden" });
    await row(page, id).waitFor();
    await page.context().close();
  },

  async "a page without a stream reads at intervals"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/favicon.ico`, { expected: ["404", "503"] });
    await page.route("**/v1/events", (route) => route.fulfill({ status: 503 }));
    await page.goto(`${daemon.local}/?view=jobs`);
    await page.locator(".live", { hasText: "Every 5 s" }).waitFor();
    await page.locator("#connection").waitFor({ state: "hidden" });
    const { id } = await daemon.add("polled.csv", people(null));
    await row(page, id).waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await live(page);
    await page.context().close();
  },

  async "a hidden page has no stream, and a visible one catches up"({ browser, daemon }) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.addInitScript(() => {
      window.streams = [];
      const Stream = window.EventSource;
      window.EventSource = class extends Stream {
        constructor(address) {
          super(address);
          window.streams.push(this);
        }
      };
    });
    const hide = (hidden) =>
      page.evaluate((hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
    const openStreams = () => page.evaluate(() => window.streams.filter((stream) => stream.readyState !== EventSource.CLOSED).length);
    await page.goto(`${daemon.local}/?view=jobs`);
    await live(page);
    assert.equal(await openStreams(), 1);
    await hide(true);
    assert.equal(await openStreams(), 0);
    const { id } = await daemon.add("unseen.csv", people(null));
    await endsAs(daemon, id, "complete");
    assert.equal(await row(page, id).count(), 0);
    await hide(false);
    await row(page, id).waitFor();
    assert.equal(await openStreams(), 1);
    await context.close();
  },

  async "wrong logins are refused, and a logout ends the session"({ browser, daemon }) {
    const page = await open(browser, `${daemon.url}/?view=jobs&state=failed`, { expected: ["401"] });
    await page.waitForURL(/\/ui\/login/);
    await accessible(page, "the login");
    const logIn = async (secret) => {
      await page.getByLabel("Client id").fill("crm");
      await page.getByLabel("Client secret").fill(secret);
      await page.getByRole("button", { name: "Log in" }).click();
    };
    await logIn("wrong");
    await page.getByRole("alert").filter({ hasText: "wrong" }).waitFor();
    await logIn("crm-secret");
    // The view that was asked for is opened behind the login.
    await page.waitForURL((address) => !address.pathname.includes("login") && address.search === "?view=jobs&state=failed");
    await live(page);
    const cookies = await page.context().cookies();
    assert.ok(cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Strict", JSON.stringify(cookies));
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForURL(/\/ui\/login/);
    assert.equal((await page.request.get(`${daemon.url}/v1/status`)).status(), 401);
    await page.context().close();
  },

  async "a client sees its own jobs and of others only taken places"({ browser, daemon }) {
    const page = await open(browser, `${daemon.url}/?view=jobs`);
    await page.getByLabel("Client id").fill("crm");
    await page.getByLabel("Client secret").fill("crm-secret");
    await page.getByRole("button", { name: "Log in" }).click();
    await live(page);
    await page.getByText("No job matches.").waitFor();
    await drop(page, [{ name: "own.csv", content: people(null) }]);
    await send(page);
    await page.locator(".jobs tbody tr", { hasText: "own.csv" }).waitFor();
    assert.equal(await page.locator(".jobs tbody tr").count(), 1);
    await page.context().close();
  },

  async "a client with access read sees all of it and can do none of it"({ browser, daemon }) {
    const page = await open(browser, `${daemon.url}/`, { expected: ["403"] });
    await page.getByLabel("Client id").fill("viewer");
    await page.getByLabel("Client secret").fill("viewer-secret");
    await page.getByRole("button", { name: "Log in" }).click();
    await live(page);
    await page.locator(".tile").first().waitFor();
    await page.locator("header .badge", { hasText: "read only" }).waitFor();
    assert.equal(await page.getByRole("button", { name: /Pause|Add files/ }).count(), 0);
    const status = await page.evaluate(async () => {
      const { csrf_token } = await (await fetch("ui/session")).json();
      return (await fetch("v1/instances/default/pause", { method: "POST", headers: { "X-CSRF-Token": csrf_token } })).status;
    });
    assert.equal(status, 403);
    await page.goto(`${daemon.url}/?view=jobs`);
    await live(page);
    assert.equal(await page.getByRole("button", { name: /Cancel|Retry/ }).count(), 0);
    await page.context().close();
  },

  async "files go to the instance that the form shows"({ browser, daemon }) {
    const eu = `[[api.clients]]\nclient_id = "eu"\nclient_secret = "eu-secret"\ninstance = "eu"\n[instances.eu]\nbase_url = "${daemon.simulator}"\nclient_id = "simulator"\nclient_secret = "secret"\n`;
    const two = await daemon.another(eu);
    const page = await open(browser, `${two.url}/`);
    await page.getByLabel("Client id").fill("eu");
    await page.getByLabel("Client secret").fill("eu-secret");
    await page.getByRole("button", { name: "Log in" }).click();
    await live(page);
    // The client's own instance is chosen; another is used where it is chosen instead.
    for (const [name, chosen] of [["own.csv", null], ["chosen.csv", "default"], ["own-again.csv", null]]) {
      await drop(page, [{ name, content: people(null) }]);
      const instance = page.locator("dialog[open] select[name=instance]");
      await instance.waitFor();
      if (chosen) await instance.selectOption(chosen);
      const shown = await instance.inputValue();
      await send(page);
      const { jobs } = JSON.parse(await two.cli("list", "--limit", "1", "--json"));
      assert.deepEqual([name, jobs[0].filename, jobs[0].instance, shown], [name, name, chosen ?? "eu", chosen ?? "eu"]);
    }
    await page.context().close();
    await two.close();
  },

  async "another origin can change nothing and read nothing"({ browser, daemon }) {
    const other = http.createServer((request, response) => response.setHeader("content-type", "text/html").end("<!doctype html><title>other</title>"));
    await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
    const page = await open(browser, `http://127.0.0.1:${other.address().port}/`, { expected: ["403", "421", "CORS", "ERR_FAILED", "Failed to load"] });
    for (const base of [daemon.local, daemon.url]) {
      const read = await page.evaluate(async (base) => {
        // The answer is not for this site either, but the request might have had its effect.
        await fetch(`${base}/v1/instances/default/pause`, { method: "POST", mode: "no-cors", credentials: "include" }).catch(() => {});
        return fetch(`${base}/v1/status`, { credentials: "include" }).then(() => "read", () => "refused");
      }, base);
      assert.equal(read, "refused");
    }
    // A form is sent without the checks that fetch has.
    await page.evaluate((base) => {
      const form = Object.assign(document.createElement("form"), { method: "post", action: `${base}/v1/instances/default/pause` });
      document.body.append(form);
      form.submit();
    }, daemon.local);
    await page.waitForURL(/pause/);
    // DNS rebinding: a name of another site that leads to this machine.
    for (const base of [daemon.local, daemon.url]) {
      const answer = await page.goto(base.replace("127.0.0.1", "rebound.example.com"));
      assert.ok(answer.status() >= 400 && answer.status() < 500, `${base}: ${answer.status()}`);
    }
    const { instances } = JSON.parse(await daemon.cli("status", "--json"));
    assert.equal(instances.default.pause, null);
    await page.context().close();
    other.close();
  },

  async "a path prefix works behind a proxy that keeps it and one that removes it"({ browser, daemon }) {
    const prefixed = await daemon.another('ui_prefix = "/tools/queue"\n');
    for (const keep of [true, false]) {
      const proxy = http.createServer((request, response) => {
        const path = keep ? request.url : request.url.replace(/^\/tools\/queue/, "");
        const { method, headers } = request;
        if (!request.url.startsWith("/tools/queue")) return response.writeHead(404).end();
        const onward = http.request({ host: "127.0.0.1", port: prefixed.port, path, method, headers }, (answer) => {
          response.writeHead(answer.statusCode, answer.headers);
          response.flushHeaders();
          answer.pipe(response);
          response.on("close", () => answer.destroy());
        });
        onward.on("error", () => response.destroy());
        request.pipe(onward);
      });
      await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
      const page = await open(browser, `http://127.0.0.1:${proxy.address().port}/tools/queue/?view=jobs`);
      await page.getByLabel("Client id").fill("crm");
      await page.getByLabel("Client secret").fill("crm-secret");
      await page.getByRole("button", { name: "Log in" }).click();
      await live(page);
      assert.match(page.url(), /\/tools\/queue\/\?view=jobs$/);
      await drop(page, [{ name: `kept-${keep}.csv`, content: people(null) }]);
      await send(page);
      await page.locator(".jobs tbody tr", { hasText: `kept-${keep}.csv` }).waitFor();
      await page.getByRole("link", { name: "Overview" }).click();
      await page.locator(".tile").first().waitFor();
      assert.match(page.url(), /\/tools\/queue\/$/);
      await page.context().close();
      proxy.closeAllConnections();
      proxy.close();
    }
    await prefixed.close();
  },

  async "places of others are shown as taken"({ browser, daemon }) {
    const page = await open(browser, `${daemon.local}/favicon.ico`, { expected: ["404"] });
    const others = ["other-integration", "other-instance", "queued"].map((state) => ({ state, import: null, since: null, estimated_end: null }));
    await page.route("**/v1/instances/default/queue*", async (route) => {
      const answer = await (await route.fetch()).json();
      await route.fulfill({ json: { ...answer, slots: others, queue: [{ job: null, estimated_start: null }] } });
    });
    await page.goto(`${daemon.local}/`);
    const taken = page.locator(".tile.taken");
    await taken.nth(2).waitFor();
    assert.deepEqual(await taken.locator(".clip").allInnerTexts(), ["by another program, as Marketo's error 1016 shows", "by another instance of this subscription", "by another client"]);
    assert.equal(await page.locator(".tile.free").count(), 7);
    await page.getByRole("cell", { name: "taken by another client" }).waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.context().close();
  },

  async "pictures of the page, light, dark and narrow"({ browser, daemon }) {
    const reasons = [...Array(9).fill("Value 'XX' is invalid for Country"), ...Array(5).fill("Lead is already being updated"), "Email is on the blocklist"];
    const partners = await daemon.add("partner-leads.csv", people(...reasons.flatMap((reason) => [null, reason, null, null])));
    await endsAs(daemon, partners.id, "complete");
    // Imports that last until the pictures are made.
    const lasting = (n, rows) => `email,firstName,note\n${Array.from({ length: rows }, (_, i) => `p${n}-${i}@example.com,Ada,${i ? "" : "!lasts:10m"}\n`).join("")}`;
    const names = ["webinar-registrations.csv", "newsletter-optins.csv", "trade-fair-oslo.csv", "crm-export-2026-11-26.csv"];
    const made = [];
    for (let n = 0; n < 14; n++) {
      const options = n % 4 === 1 ? ["--list-id", "1001"] : n % 4 === 2 ? ["--group", "nightly"] : [];
      made.push((await daemon.add(names[n % 4], lasting(n, 40 + 37 * n), ...options)).id);
    }
    const views = [
      ["overview-light", "/", { colorScheme: "light" }],
      ["overview-dark", "/", { colorScheme: "dark" }],
      ["overview-narrow", "/", { colorScheme: "light", viewport: { width: 390, height: 844 } }],
      ["jobs-dark", "/?view=jobs", { colorScheme: "dark" }],
      ["jobs-narrow", "/?view=jobs", { colorScheme: "dark", viewport: { width: 390, height: 844 } }],
    ];
    for (const [name, path, options] of views) {
      const page = await open(browser, daemon.local + path, options);
      await live(page);
      await page.locator(path === "/" ? ".tile.importing" : ".jobs tbody tr").first().waitFor();
      await accessible(page, name);
      const width = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(width[0] <= width[1], `${name} is wider than its window: ${width}`);
      await picture(page, name);
      await page.context().close();
    }
    // The switch overrides the system's setting, and is kept.
    const page = await open(browser, `${daemon.local}/`, { colorScheme: "dark" });
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await background();
    await page.getByRole("button", { name: "Theme: System" }).click();
    await page.getByRole("button", { name: "Theme: Light" }).waitFor();
    const light = await background();
    assert.notEqual(light, dark);
    await page.reload();
    await page.getByRole("button", { name: "Theme: Light" }).waitFor();
    assert.equal(await background(), light);
    // One job, with its rows.
    await page.goto(`${daemon.local}/?job=${partners.id}`);
    await page.getByRole("button", { name: "Show the first 50 failed rows" }).click();
    await page.locator(".rows tbody tr").first().waitFor();
    await picture(page, "job-light");
    await page.context().close();
    await daemon.cli("cancel", ...made.map(String), "--yes").catch(() => {});
  },

  async "first load and list with many jobs are quick"({ browser, daemon }) {
    const jobs = Number(process.env.JOBS);
    await daemon.cli("pause");
    await daemon.addMany(jobs, "email\na@example.com\n");
    const page = await open(browser, `${daemon.local}/`);
    await page.locator(".tile").first().waitFor();
    const load = await page.evaluate(() => {
      const [document] = performance.getEntriesByType("navigation");
      const files = performance.getEntriesByType("resource").filter(({ name }) => name.includes("/ui/") && !name.endsWith("/session"));
      return {
        bytes: [document, ...files].reduce((sum, entry) => sum + entry.encodedBodySize, 0),
        paint: Math.round(performance.getEntriesByName("first-contentful-paint")[0].startTime),
        blocking: files.filter(({ renderBlockingStatus }) => renderBlockingStatus === "blocking").map(({ name }) => name),
      };
    });
    // Nothing but the document comes before the first paint.
    assert.deepEqual(load.blocking, []);
    assert.ok(load.bytes < 100_000, `${load.bytes} bytes`);
    console.log(`      first load: ${load.bytes} bytes, first paint after ${load.paint} ms`);
    const timed = async (what, address, shown) => {
      const began = Date.now();
      await page.goto(daemon.local + address);
      await page.getByText(shown).first().waitFor();
      const took = Date.now() - began;
      console.log(`      ${what} with ${jobs} jobs: ${took} ms`);
      assert.ok(took < 2000, `${what}: ${took} ms`);
    };
    await timed("overview", "/", "Newest jobs");
    await timed("list", "/?view=jobs", `many-${jobs - 1}.csv`);
    await timed("list by state", "/?state=pending", `many-${jobs - 1}.csv`);
    await timed("list by a part of the name that none has", "/?q=nothing-has-this", "No job matches.");
    await page.context().close();
  },
};
