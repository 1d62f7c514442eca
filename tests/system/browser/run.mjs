// Runs the cases, one after the other, and prints each with its time. The exit status is 1 if one fails.
import { cases } from "./cases.mjs";
import { Daemon } from "./daemon.mjs";
import { browser as start, faults } from "./pages.mjs";

const only = process.argv[2];
const daemon = new Daemon({ marqueue: process.env.MARQUEUE, folder: process.env.WORK, simulator: process.env.SIMULATOR });
await daemon.open();
const browser = await start();
let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  if (only && !name.includes(only)) continue;
  const began = Date.now();
  faults.length = 0;
  try {
    await run({ browser, daemon });
    if (faults.length) throw new Error(`the browser reports: ${faults.join("\n")}`);
    console.log(`ok    ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}\n${error.stack}`);
    for (const context of browser.contexts()) {
      for (const page of context.pages()) await page.screenshot({ path: `${process.env.PICTURES}/failed-${failed}.png` }).catch(() => {});
      await context.close();
    }
  }
}
await browser.close();
await daemon.close();
console.log(failed ? `${failed} failed` : "all cases are ok");
process.exit(failed ? 1 : 0);
