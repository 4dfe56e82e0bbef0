/** The trash of the selected space, and the deleted spaces that this user can restore. */

import { byId, h, icon, iconButton, keyed, setText } from "./dom.js";
import { quoted, visible } from "./names.js";
import { Trash, restore } from "./trash.js";
import { bytes, folderOf, nameOf, shortId, when } from "./words.js";

/** Minimum time in milliseconds between two reads of the trash, while somebody deletes many files. */
const READ_PAUSE = 2_000;

/**
 * @typedef {import("../client/index.js").DeletedFile} DeletedFile
 * @typedef {import("../client/index.js").DeletedSpace} DeletedSpace
 */

export class TrashView {
  #trash = new Trash("");
  /** The names of the members, by user id. @type {Map<string, string>} */ #names = new Map();
  /** @type {DeletedSpace[]} */ #spaces = [];
  /** The read state of the service: a space and its newest change of the trash. */ #shown = "";
  /** The number of the newest change that concerns the trash. */ #changed = 0;
  #reading = false;
  #readAt = 0;
  #timer = 0;

  /**
   * @param {import("./app.js").App} app
   * @param {import("./view-dialogs.js").Dialogs} dialogs
   */
  constructor(app, dialogs) {
    this.app = app;
    this.dialogs = dialogs;
    byId("trash-more").addEventListener("click", () => void this.#act(() => this.#trash.readOn((spaceId, token) => app.api.listTrash(spaceId, token))));
  }

  show() {
    const { app } = this;
    const space = app.space;
    if (!space) return;
    const open = byId("app").dataset.view === "trash";
    if (this.#trash.spaceId !== space.id) {
      this.#trash = new Trash(space.id);
      this.#names = new Map();
      this.#shown = "";
      this.#changed = 0;
    }
    const trash = this.#trash;
    // Opening the panel again retries a failed read.
    if (!open && trash.state === "failed") this.#shown = "";
    const changed = space.happenings.find(({ change }) => trash.isOutdatedBy(change))?.change.sequence ?? 0;
    this.#changed = Math.max(this.#changed, changed);
    const wanted = `${space.id} ${app.currentAt} ${this.#changed}`;
    if (open && wanted !== this.#shown && !this.#reading) this.#plan(wanted);
    const { mayWrite } = space;
    const owner = space.space.role === "owner";
    keyed(byId("trash"), trash.files, ({ fileId, deletedAt }) => `${fileId} ${deletedAt} ${space.space.role} ${this.#names.size}`, (file) => this.#row(file, mayWrite, owner));
    setText(byId("trash-note"), this.#note(trash));
    byId("trash-more").hidden = !trash.nextPage || trash.state === "reading";
    byId("deleted-spaces-section").hidden = this.#spaces.length === 0;
    keyed(byId("deleted-spaces"), this.#spaces, ({ spaceId }) => spaceId, (space) => this.#spaceRow(space));
  }

  /** @param {Trash} trash */
  #note({ state, files }) {
    if (state === "failed") return "The trash could not be read. Open it again to try once more.";
    if (files.length > 0) return "";
    if (state !== "read") return "Reading the trash…";
    return "The trash is empty. Files that are deleted stay here for a time, and can be restored.";
  }

  /**
   * Reads the trash now, or looks again after a pause.
   *
   * @param {string} wanted
   */
  #plan(wanted) {
    const pause = this.#trash.state === "new" ? 0 : this.#readAt + READ_PAUSE - performance.now();
    if (pause <= 0) {
      void this.#read(wanted);
    } else if (this.#timer === 0) {
      this.#timer = setTimeout(() => {
        this.#timer = 0;
        this.app.tell();
      }, pause);
    }
  }

  /** @param {string} wanted */
  async #read(wanted) {
    const { app } = this;
    const { api } = app;
    const trash = this.#trash;
    this.#reading = true;
    this.#shown = wanted;
    this.#readAt = performance.now();
    try {
      const shared = app.spaces.get(trash.spaceId)?.space.kind === "shared";
      const [members, spaces] = await Promise.all([
        shared ? api.listMembers(trash.spaceId) : [],
        api.deletedSpaces(),
        trash.readAgain(async (spaceId, token) => (spaceId ? api.listTrash(spaceId, token) : { files: [] })),
      ]);
      this.#spaces = spaces;
      if (trash === this.#trash) this.#names = new Map(members.map(({ userId, userName }) => [userId, userName ? visible(userName) : shortId(userId)]));
    } catch (error) {
      trash.state = "failed";
      app.fail(error);
    } finally {
      this.#reading = false;
    }
    app.tell();
  }

  /**
   * @param {DeletedFile} file
   * @param {boolean} mayWrite
   * @param {boolean} owner
   */
  #row(file, mayWrite, owner) {
    const { app } = this;
    const { path, deletedBy, deletedAt, purgedAt, size } = file;
    const name = nameOf(path);
    const who = deletedBy === undefined ? "" : ` by ${deletedBy === app.userId ? "you" : (this.#names.get(deletedBy) ?? shortId(deletedBy))}`;
    const what = h("div", { class: "what", title: visible(path.slice(1)) }, h("span", { class: "muted" }, folderOf(path)), h("strong", {}, name));
    const facts = h("span", { class: "muted facts" }, `Deleted ${when(deletedAt)}${who} · ${bytes(size)}`);
    const until = h("span", { class: "muted facts" }, `Kept until ${when(purgedAt)}`);
    const isTaken = (/** @type {string} */ other) => app.space?.fileAt(other) !== undefined;
    const bring = iconButton("restore", `Restore ${name}`, () => void this.#act(() => restore(app, this.dialogs, file, isTaken)));
    const erase = iconButton("delete", `Erase ${name} for good`, () => this.#erase(file));
    return {
      element: h("li", { class: "row", "data-path": path }, icon("file"), h("div", { class: "row-text" }, what, facts, until), mayWrite ? bring : null, owner ? erase : null),
      update: () => {},
    };
  }

  /** @param {DeletedFile} file */
  #erase(file) {
    const question = {
      title: `Erase ${quoted(nameOf(file.path))} for good?`,
      text: "It is erased with all of its versions, for all members. Nothing brings it back.",
      ok: "Erase",
      danger: true,
    };
    this.dialogs.ask(question, async () => {
      await this.app.api.eraseFile(file);
      // No change tells of it, because for the devices the file was gone before.
      this.#trash.forget(file.fileId);
      this.app.tell();
    });
  }

  /** @param {DeletedSpace} space */
  #spaceRow({ spaceId, name = "", deletedAt, purgedAt }) {
    const bring = iconButton("restore", `Restore the space ${visible(name)}`, () => {
      void this.#act(async () => {
        await this.app.api.restoreSpace(spaceId);
        this.#spaces = this.#spaces.filter((space) => space.spaceId !== spaceId);
      });
    });
    return {
      element: h(
        "li",
        { class: "row" },
        icon("people"),
        h("div", { class: "row-text" }, h("strong", {}, visible(name)), h("span", { class: "muted facts" }, `Deleted ${when(deletedAt)}`), h("span", { class: "muted facts" }, `Kept until ${when(purgedAt)}`)),
        bring,
      ),
      update: () => {},
    };
  }

  /** @param {() => Promise<unknown>} act */
  async #act(act) {
    try {
      await act();
    } catch (error) {
      this.app.fail(error);
    }
    this.app.tell();
  }
}
