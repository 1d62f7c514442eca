// Files that are dropped anywhere on the page.

import { mayWrite } from "./api.js";
import { say } from "./dialog.js";

/** Opens the form for new files. It is loaded when it is first needed. */
export async function addFiles(files) {
  try {
    const form = await import("./add.js");
    form.addFiles(files);
  } catch {
    say("The form can't be loaded: no daemon answers.");
  }
}

/** Lets files be dropped anywhere on the page. */
export function acceptDrops() {
  let depth = 0;
  const hasFiles = (event) => mayWrite() && event.dataTransfer?.types.includes("Files") && !document.querySelector("dialog[open]:not(.add)");
  const mark = (on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth++;
    mark(true);
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) mark(false);
  });
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    depth = 0;
    mark(false);
    // Without this, the browser would leave the page for the file.
    event.preventDefault();
    if (hasFiles(event)) addFiles([...event.dataTransfer.files]);
  });
}
