/** The uploads of this window: their progress and rate, and the actions on uploads that need a decision. */

import { beside, numbered, replacing } from "./adding.js";
import { byId, find, h, iconButton, keyed, setText } from "./dom.js";
import { bytes, folderOf, milliseconds, nameOf, timeLeft } from "./words.js";

/** Time in milliseconds over which a rate is averaged. */
const SMOOTHING = 3_000;

/** Maximum number of displayed uploads. Of more, only unfinished ones are shown. */
const MOST_SHOWN = 50;

/** @typedef {import("../client/index.js").Upload} Upload */

export class UploadsView {
  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.progress = find(document, "#uploads-progress", HTMLProgressElement);
    byId("uploads-clear").addEventListener("click", () => app.uploads.remove(app.uploads.all.filter((upload) => upload.ended)));
    byId("uploads-cancel").addEventListener("click", () => app.uploads.remove(app.uploads.all.filter((upload) => !upload.ended)));
  }

  show() {
    const { uploads } = this.app;
    byId("uploads-section").hidden = uploads.all.length === 0;
    byId("uploads-clear").hidden = !uploads.all.some((upload) => upload.ended);
    const several = uploads.all.filter((upload) => !upload.ended).length > 1;
    byId("uploads-cancel").hidden = !several;
    const total = uploads.total;
    const ofBytes = several ? ` · ${bytes(total.sent)} of ${bytes(total.bytes)}` : "";
    setText(byId("uploads-count"), total.uploads ? `${total.done.toLocaleString()} of ${total.uploads.toLocaleString()} done${ofBytes}` : "");
    this.progress.hidden = !several;
    this.progress.max = total.bytes || 1;
    this.progress.value = total.sent;
    const many = uploads.all.length > MOST_SHOWN;
    const shown = many ? uploads.all.filter((upload) => upload.phase !== "done").slice(0, MOST_SHOWN) : [...uploads.all].reverse();
    keyed(byId("uploads"), shown, (upload) => upload.id, (upload) => this.#row(upload));
  }

  /** @param {Upload} upload */
  #row(upload) {
    const { app } = this;
    const rate = new Rate();
    // The list remains when another space is opened.
    const space = h("span", { class: "muted" });
    const folder = h("span", { class: "muted" });
    const name = h("strong", {});
    const progress = h("progress", { max: upload.file.size || 1, "aria-label": `Upload of ${nameOf(upload.target.path)}` });
    const facts = h("span", { class: "facts muted" });
    const choices = h("div", { class: "choices" });
    const cancel = iconButton("close", `Cancel or remove the upload of ${nameOf(upload.target.path)}`, () => app.uploads.remove([upload]));
    const element = h("li", { class: "row" }, h("div", { class: "row-text" }, h("div", { class: "what" }, space, folder, name), progress, facts, choices), cancel);
    let shownPhase = "";
    return {
      element,
      update: () => {
        element.dataset.phase = upload.phase;
        setText(space, `${app.spaceOf(upload.target.spaceId)?.name ?? "Another space"} › `);
        setText(folder, folderOf(upload.target.path));
        setText(name, nameOf(upload.target.path));
        progress.hidden = upload.ended || upload.phase === "conflict";
        progress.value = upload.phase === "completing" ? progress.max : upload.progress;
        setText(facts, this.#facts(upload, rate));
        if (shownPhase !== upload.phase) {
          shownPhase = upload.phase;
          choices.replaceChildren(...this.#choices(upload));
        }
      },
    };
  }

  /**
   * @param {Upload} upload
   * @param {Rate} rate
   */
  #facts(upload, rate) {
    const { size } = upload.file;
    const of = `${bytes(upload.progress)} of ${bytes(size)}`;
    switch (upload.phase) {
      case "hashing":
        return this.app.uploads.isQueued(upload) ? `Waiting for its turn · ${bytes(size)}` : `Reading · ${of}`;
      case "opening":
        return "Opening";
      case "sending": {
        const perSecond = rate.of(upload.progress);
        const left = perSecond > 0 ? ` · ${bytes(perSecond)}/s · ${timeLeft((size - upload.progress) / perSecond)}` : "";
        return of + left;
      }
      case "completing":
        return "Completing";
      case "waiting":
        if (this.app.session.state === "expired") return `Waits until you sign in · ${of}`;
        return `Waits for the ${upload.isThrottled ? "service" : "network"} · ${of}`;
      case "done":
        return `Version ${upload.changed?.version} · ${bytes(size)}${this.#heard(upload)}`;
      case "conflict":
        if (!upload.current?.version) return "Somebody else has deleted or moved the file meanwhile.";
        return upload.target.baseVersion ? `Somebody else has made version ${upload.current.version} meanwhile.` : `A file with this name is already here, in version ${upload.current.version}.`;
      case "failed":
        return upload.error;
      case "cancelled":
        return "Cancelled";
    }
  }

  /** The time until this window received the change of the upload by a push, as other windows do. @param {Upload} upload */
  #heard(upload) {
    const happenings = this.app.spaces.get(upload.changed?.spaceId ?? "")?.happenings ?? [];
    const happening = happenings.find(({ change }) => change.eventId === upload.changed?.eventId);
    return happening?.latency == null ? "" : ` · heard of after ${milliseconds(happening.latency)}`;
  }

  /** @param {Upload} upload */
  #choices(upload) {
    const { app } = this;
    const choice = (/** @type {string} */ text, /** @type {() => void} */ onclick) => h("button", { type: "button", class: "button small", onclick }, text);
    if (upload.phase === "failed") return [choice("Try again", () => void upload.again({}))];
    if (upload.phase !== "conflict") return [];
    const { path, spaceId } = upload.target;
    const { version = 0, fileId } = upload.current ?? {};
    const space = app.spaceOf(spaceId);
    return [
      choice("Keep both", () => void upload.again(beside(numbered(path, (other) => space?.fileAt(other) !== undefined)))),
      choice(version ? "Replace" : "Put it there", () => void upload.again(version ? replacing({ path, version, fileId }) : beside(path))),
      choice("Skip", () => app.uploads.remove([upload])),
    ];
  }
}

/** The rate at which a count grows. */
class Rate {
  #at = 0;
  #count = 0;
  #perSecond = 0;

  /** Returns the increase per second, given the present count. @param {number} count */
  of(count) {
    const now = performance.now();
    const elapsed = now - this.#at;
    if (this.#at === 0 || count < this.#count) {
      [this.#at, this.#count, this.#perSecond] = [now, count, 0];
    } else if (elapsed > 200) {
      const current = ((count - this.#count) / elapsed) * 1_000;
      const weight = this.#perSecond === 0 ? 1 : 1 - Math.exp(-elapsed / SMOOTHING);
      this.#perSecond += (current - this.#perSecond) * weight;
      [this.#at, this.#count] = [now, count];
    }
    return this.#perSecond;
  }
}
