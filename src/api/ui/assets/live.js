// The connection to the daemon: one stream of events for the page. It is closed while the page is hidden.

/**
 * Follows the events. `onChange(data)` is called for each event, `onOpen()` when the stream is (again) open, so that the
 * page is read anew, and `onLost()` when it breaks or cannot be opened.
 */
export class Live {
  #stream = null;
  #retry = null;
  #wait = 1000;

  constructor({ onChange, onOpen, onLost }) {
    this.handlers = { onChange, onOpen, onLost };
  }

  start() {
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#rest() : this.#open()));
    // A page in the back-forward cache must not keep a connection.
    addEventListener("pagehide", () => this.#rest());
    addEventListener("pageshow", (event) => event.persisted && this.#open());
    if (!document.hidden) this.#open();
  }

  #rest() {
    clearTimeout(this.#retry);
    this.#stream?.close();
    this.#stream = null;
  }

  #open() {
    this.#rest();
    const stream = (this.#stream = new EventSource("v1/events"));
    stream.onopen = () => {
      this.#wait = 1000;
      this.handlers.onOpen();
    };
    for (const name of ["job", "instance", "missed"]) {
      stream.addEventListener(name, (event) => this.handlers.onChange(JSON.parse(event.data)));
    }
    // The browser's own attempts end at an answer such as 503, so each attempt is made here.
    stream.onerror = () => {
      this.#rest();
      this.handlers.onLost();
      this.#retry = setTimeout(() => this.#open(), this.#wait);
      this.#wait = Math.min(this.#wait * 1.5, 5000);
    };
  }
}
