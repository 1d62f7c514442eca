// The dialog that asks before a change, and the line that says what was done.

import { h, render } from "./dom.js";
import { notice } from "./widgets.js";

/**
 * Opens a dialog. `content(dialog)` describes what is in it, and is called again by `dialog.draw()`; `dialog.close()`
 * closes it. Returns the dialog.
 */
export function openDialog(title, content, { wide = false, onClose } = {}) {
  const element = document.createElement("dialog");
  element.className = wide ? "wide" : "";
  element.setAttribute("aria-labelledby", "dialog-title");
  document.body.append(element);
  const dialog = {
    element,
    draw: () => render(element, h("h2", { id: "dialog-title" }, title), content(dialog)),
    close: () => element.close(),
  };
  element.addEventListener("close", () => {
    element.remove();
    // What had the focus before may have gone meanwhile.
    if (document.activeElement === document.body) document.querySelector("main").focus({ preventScroll: true });
    onClose?.();
  });
  dialog.draw();
  element.showModal();
  return dialog;
}

/**
 * Asks, and does it if the answer is yes. `text` is what will happen: sentences, or a function of them; `command` the
 * command line that does the same, or a function of it; `ready()` tells whether one can begin. `run(report)` does it, may
 * report its progress as text, and returns the sentence that says what was done. It goes on when the dialog is closed, and the
 * result is told then too.
 */
export function confirm({ title, text, command, button, ready = () => true, danger, run }) {
  let state = { busy: false };
  const start = async (dialog) => {
    const set = (next) => {
      state = { ...state, ...next };
      if (dialog.element.open) dialog.draw();
    };
    set({ busy: true, error: null });
    try {
      const done = await run((progress) => set({ progress }));
      dialog.close();
      say(done);
    } catch (error) {
      if (dialog.element.open) set({ busy: false, progress: null, error: error.message });
      else say(`${title.replace(/\?$/, "")}: ${error.message}`);
    }
  };
  openDialog(title, (dialog) => [
    (typeof text === "function" ? text(dialog) : text).map((sentence) => (typeof sentence === "string" ? h("p", {}, sentence) : sentence)),
    command && h("p", { class: "muted" }, "The same on the command line: ", h("code", {}, typeof command === "function" ? command() : command)),
    state.progress && h("p", { role: "status" }, state.progress),
    state.error && notice(state.error),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", onClick: dialog.close, autofocus: true }, "Close"),
      h("button", { type: "button", class: danger ? "danger" : "primary", disabled: state.busy || !ready(), onClick: () => start(dialog) }, state.busy ? "Working…" : typeof button === "function" ? button() : button),
    ),
  ]);
}

let forget;

/** Says what was done, for some seconds. */
export function say(text) {
  // The element is always there, even empty: screen readers say what changes in it, not that it appears.
  const place = document.getElementById("toast");
  place.textContent = text;
  clearTimeout(forget);
  forget = setTimeout(() => (place.textContent = ""), 8000);
}
