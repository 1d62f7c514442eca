// What the cases do with the page: opening it, dropping files, dialogs, accessibility and pictures.
import { createRequire } from "node:module";
import { strict as assert } from "node:assert";
import { statSync } from "node:fs";

const require = createRequire(`${process.env.NODE_PACKAGES}/`);
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");

/** Starts Chromium. Names of hosts that no DNS has lead to this machine, for the rebinding case. */
export async function browser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--host-resolver-rules=MAP *.example.com 127.0.0.1"],
  });
}

/** Faults that the browser reported on pages of `open`, except those that a case expects. */
export const faults = [];

/** Opens a page in a context of its own. `expected` are parts of console messages that are no faults. */
export async function open(browser, address, { expected = [], ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
  const page = await context.newPage();
  const note = (text) => expected.some((part) => text.includes(part)) || faults.push(`${address}: ${text}`);
  page.on("console", (message) => message.type() === "error" && note(message.text()));
  page.on("pageerror", (error) => note(String(error.stack)));
  await page.goto(address);
  return page;
}

export const live = (page) => page.locator(".live", { hasText: "Live" }).waitFor();

/** Drops files, each with a name and content, onto the page. */
export async function drop(page, files) {
  const data = await page.evaluateHandle((files) => {
    const data = new DataTransfer();
    for (const { name, content } of files) data.items.add(new File([content], name));
    return data;
  }, files);
  await page.dispatchEvent("main", "dragenter", { dataTransfer: data });
  await page.dispatchEvent("main", "drop", { dataTransfer: data });
  await page.locator("dialog[open] .files li").first().waitFor();
}

/** Sends the files of the open form, and returns when the form is closed. */
export async function send(page) {
  const submit = page.locator("dialog[open] button[type=submit]");
  await submit.click();
  const dialog = page.locator("dialog[open]");
  // Where the form checks first, the second click sends.
  const again = page.locator("dialog[open] button[type=submit]:not(:disabled)", { hasText: "Send" });
  await Promise.race([dialog.waitFor({ state: "detached" }), again.waitFor()]);
  if (await again.count()) await again.click();
  await dialog.waitFor({ state: "detached" });
}

/** Presses a button that asks, and answers with `answer`. */
export async function ask(page, button, answer) {
  await page.getByRole("button", { name: button, exact: true }).click();
  const dialog = page.locator("dialog[open]");
  await dialog.getByRole("button", { name: answer }).click();
  await dialog.waitFor({ state: "detached" });
}

/** Fails where axe-core finds something serious. */
export async function accessible(page, what) {
  // The policy forbids scripts of other origins, so axe is evaluated by the browser's debugger.
  await page.evaluate(require("node:fs").readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html).join(" ")}`);
  assert.deepEqual(told, [], what);
}

const output = process.env.PICTURES;

export async function picture(page, name) {
  const path = `${output}/${name}.png`;
  await page.screenshot({ path, fullPage: true });
  assert.ok(statSync(path).size > 5000, `${path} is empty`);
}
