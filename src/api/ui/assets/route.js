// The address of a view: its query. The path stays, so that a prefix of a proxy works.

let onChange = () => {};

/** Calls `listener(parameters)` whenever the address has changed. */
export function listen(listener) {
  onChange = () => listener(new URLSearchParams(location.search));
  addEventListener("popstate", onChange);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    const address = link?.getAttribute("href");
    if (!plain || event.defaultPrevented || !(address === "./" || address?.startsWith("?"))) return;
    event.preventDefault();
    history.pushState(null, "", address);
    onChange();
    scrollTo(0, 0);
  });
}

const address = (parameters) => `?${new URLSearchParams(parameters)}`;

/** Opens a view, as a new entry of the browser's history. */
export function go(parameters) {
  history.pushState(null, "", address(parameters));
  onChange();
}

/** Opens a view in place of the present one. */
export function replace(parameters) {
  history.replaceState(null, "", address(parameters));
  onChange();
}
