/** The files of the selected space: the list, adding files, and the actions on a file. */

import { pathOf } from "../client/index.js";
import { beside, numbered, replacing, sorted } from "./adding.js";
import { problemOfPath, quoted, visible } from "./names.js";
import { byId, find, h, icon, iconButton, keyed, setText } from "./dom.js";
import { restore } from "./trash.js";
import { bytes, folderOf, nameOf, shortId, when } from "./words.js";

/** Maximum number of files in one drop. More files are probably a dropped disk. */
const MOST_DROPPED = 10_000;

/** @typedef {import("../client/index.js").FileView} FileView */

export class FilesView {
  /** The space and the text of the last search in unread pages. */ #searched = "";
  /** The inputs of the displayed list, so that progress of an upload does not update it. @type {unknown[]} */ #shown = [];

  /**
   * @param {import("./app.js").App} app
   * @param {import("./view-dialogs.js").Dialogs} dialogs
   */
  constructor(app, dialogs) {
    this.app = app;
    this.dialogs = dialogs;
    this.filter = find(document, "#filter", HTMLInputElement);
    this.choose = find(document, "#choose", HTMLInputElement);
    this.versions = find(document, "#versions", HTMLDialogElement);
    this.filter.addEventListener("input", () => this.show());
    this.choose.addEventListener("change", () => {
      this.#add([...(this.choose.files ?? [])].map((file) => ({ file, path: pathOf(file.name) })));
      this.choose.value = "";
    });
    byId("list-more").addEventListener("click", () => {
      if (this.#wanted) this.#search();
      else app.load();
    });
    byId("versions-close").addEventListener("click", () => this.versions.close());
    this.#acceptDrops();
  }

  show() {
    const { app } = this;
    const space = app.space;
    if (!space) {
      // The space was created a moment ago, and its change has not arrived yet.
      this.#shown = [];
      keyed(byId("list"), [], () => "", (file) => this.#row(file));
      return;
    }
    byId("drop").hidden = !space.mayWrite;
    byId("read-only").hidden = space.mayWrite;
    const wanted = this.#wanted;
    // Unread pages may contain matches too. After a failed read the user starts the next one.
    if (wanted && space.nextPage && space.listing === "loaded" && this.#searched !== `${space.id} ${wanted}`) this.#search();
    const all = space.sorted;
    const files = wanted ? all.filter((file) => file.path.toLowerCase().includes(wanted)) : all;
    setText(byId("count"), space.listing === "loaded" && all.length ? `${files.length}${space.nextPage ? "+" : ""}` : "");
    const shown = [all, wanted, space.mayWrite, [...app.downloads.arrived].join()];
    if (shown.some((part, index) => part !== this.#shown[index])) {
      this.#shown = shown;
      keyed(byId("list"), files, (file) => `${file.fileId} ${space.mayWrite}`, (file) => this.#row(file));
    }
    setText(byId("list-note"), this.#note(space, all.length, files.length));
    byId("list-more").hidden = !space.nextPage || space.listing === "loading" || space.listing === "new";
    setText(byId("list-more"), wanted ? "Search the rest" : "Show more");
  }

  get #wanted() {
    return this.filter.value.normalize("NFC").toLowerCase();
  }

  #search() {
    const searched = `${this.app.selected} ${this.#wanted}`;
    this.#searched = searched;
    this.app.search(() => `${this.app.selected} ${this.#wanted}` === searched);
  }

  /**
   * @param {import("./spaces.js").SpaceModel} space
   * @param {number} there
   * @param {number} shown
   */
  #note(space, there, shown) {
    if (space.listing === "loading" && this.#wanted) return `Searching… ${there.toLocaleString()} files so far`;
    if (space.listing === "loading" || space.listing === "new") return "Reading the files…";
    if (space.listing === "failed") return "The files could not be read.";
    if (there === 0) return space.mayWrite ? "Nothing here yet. Add the first file." : "Nothing here yet.";
    if (shown > 0) return "";
    return space.nextPage ? `None of the first ${there.toLocaleString()} files has that in its path.` : "No path contains that.";
  }

  /** @param {FileView} first */
  #row(first) {
    const { app } = this;
    let file = first;
    const folder = h("span", { class: "muted" });
    const name = h("strong", {});
    const what = h("div", { class: "what" }, folder, name);
    const facts = h("span", { class: "muted facts" });
    const progress = h("progress", { class: "download", "aria-label": "Downloading", hidden: true });
    const actions = h(
      "div",
      { class: "row-actions" },
      iconButton("download", "Download", () => void app.downloads.save(file, file)),
      iconButton("history", "Versions", () => void this.#showVersions(file)),
    );
    if (app.space?.mayWrite) {
      actions.append(
        iconButton("move", "Move or rename", () => this.#move(file)),
        iconButton("delete", "Delete", () => this.#delete(file)),
      );
    }
    // On a phone they are shown on request.
    const more = iconButton("more", "Actions", () => {
      const open = actions.classList.toggle("open");
      more.setAttribute("aria-expanded", String(open));
    });
    more.classList.add("row-more");
    more.setAttribute("aria-expanded", "false");
    const element = h("li", { class: "row" }, icon("file"), h("div", { class: "row-text" }, what, facts, progress), more, actions);
    let version = first.version;
    return {
      element,
      update: (/** @type {FileView} */ now) => {
        file = now;
        element.dataset.path = now.path;
        setText(folder, folderOf(now.path));
        setText(name, nameOf(now.path));
        what.title = visible(now.path.slice(1));
        setText(facts, `${bytes(now.size)} · version ${now.version} · ${when(now.updatedAt)}`);
        for (const button of [more, ...actions.children]) {
          button.setAttribute("aria-label", `${button.getAttribute("title")} ${nameOf(now.path)}`);
        }
        const arrived = app.downloads.arrivedOf(now.fileId, now.version);
        progress.hidden = arrived === undefined;
        if (arrived !== undefined) {
          progress.max = now.size || 1;
          progress.value = arrived;
        }
        if (version !== now.version) {
          version = now.version;
          flash(element);
        }
      },
    };
  }

  /** @param {FileView} file */
  async #showVersions(file) {
    const { app, versions } = this;
    setText(byId("versions-title"), `Versions of ${quoted(nameOf(file.path))}`);
    setText(find(versions, ".error", HTMLElement), "");
    byId("versions-more").hidden = true;
    byId("versions-list").replaceChildren(h("li", { class: "muted" }, "Reading…"));
    versions.showModal();
    try {
      const detail = await app.api.showFile(file.fileId);
      byId("versions-list").replaceChildren();
      this.#addVersions(detail, detail.version);
    } catch (error) {
      versions.close();
      app.fail(error);
    }
  }

  /**
   * Adds a page of versions to the dialog.
   *
   * @param {import("../client/index.js").FileDetail} detail
   * @param {number} newest
   */
  #addVersions(detail, newest) {
    const { app } = this;
    const mayWrite = app.spaces.get(detail.spaceId)?.mayWrite ?? false;
    byId("versions-list").append(
      ...detail.versions.map((version) => {
        const who = version.userId === app.userId ? "you" : version.userName ? visible(version.userName) : shortId(version.userId);
        const { version: number } = version;
        const bring = iconButton("restore", `Restore version ${number}`, () => void this.#try(() => this.#restoreVersion(detail, number, newest)));
        return h(
          "li",
          { class: "row" },
          h("div", { class: "row-text" }, h("strong", {}, `Version ${number}`), h("span", { class: "muted facts" }, `${bytes(version.size)} · ${when(version.createdAt)} · by ${who}`)),
          mayWrite && number !== newest ? bring : null,
          iconButton("download", `Download version ${number}`, () => void app.downloads.save(detail, version)),
        );
      }),
    );
    const more = byId("versions-more");
    const { fileId, nextPageToken } = detail;
    more.hidden = nextPageToken === undefined;
    more.onclick = () => void this.#try(async () => {
      more.hidden = true;
      this.#addVersions(await app.api.showFile(fileId, nextPageToken), newest);
    });
  }

  /**
   * Makes an old version the newest one, unless the file has changed since its versions were read.
   *
   * @param {FileView} file
   * @param {number} version
   * @param {number} newest
   */
  async #restoreVersion({ fileId, path }, version, newest) {
    const restored = await this.app.api.restoreVersion(fileId, version, newest);
    this.versions.close();
    const name = quoted(nameOf(path));
    const same = restored.version === newest;
    this.app.notify("info", same ? `${name} has the content of version ${version} already.` : `Version ${version} of ${name} is restored, as version ${restored.version}.`);
  }

  /** Shows a failure in the dialog of versions, which covers the notices. @param {() => Promise<void>} act */
  async #try(act) {
    const error = find(this.versions, ".error", HTMLElement);
    setText(error, "");
    try {
      await act();
    } catch (failure) {
      setText(error, String(/** @type {Error} */ (failure).message));
    }
  }

  /** @param {FileView} file */
  #move(file) {
    this.dialogs.ask({ title: "Move or rename", text: "Folders are part of the path, and are there with their first file.", label: "Path", value: file.path, ok: "Move" }, async (entered) => {
      const path = pathOf(entered.trim());
      const problem = problemOfPath(path);
      if (problem) throw new Error(problem);
      const { api } = this.app;
      const moved = await api.moveFile(file, path);
      if (path === file.path) return;
      this.app.offerUndo(`${quoted(nameOf(file.path))} is now ${quoted(path.slice(1))}.`, () => api.moveFile(moved, file.path));
    });
  }

  /** @param {FileView} file */
  #delete(file) {
    this.dialogs.ask({ title: `Delete ${quoted(nameOf(file.path))}?`, text: "It moves to the trash, for all members, and can be restored from there for a time.", ok: "Delete", danger: true }, async () => {
      const { app, dialogs } = this;
      const { space } = app;
      await app.api.deleteFile(file);
      app.offerUndo(`${quoted(nameOf(file.path))} is in the trash.`, () => restore(app, dialogs, file, (path) => space?.fileAt(path) !== undefined));
    });
  }

  // ------------------------------------------------------------------------------------------------ Adding

  /** @param {{ file: File, path: string }[]} files */
  #add(files) {
    if (files.length > MOST_DROPPED) {
      this.app.notify("error", `That is more than ${MOST_DROPPED.toLocaleString()} files at once. Add them in parts.`);
      return;
    }
    const { app, dialogs } = this;
    const { space } = app;
    if (!space) return;
    if (!space.mayWrite) {
      app.notify("error", `You can only view the files of ${quoted(space.name)}. Ask one of its owners to let you add some.`);
      return;
    }
    const { free, taken, impossible } = sorted(files, space.files.values());
    const [refused] = impossible;
    if (refused) {
      const more = impossible.length > 1 ? ` ${impossible.length - 1} more cannot be added either.` : "";
      app.notify("error", `${quoted(nameOf(refused.path))} cannot be added. ${refused.problem}${more}`);
    }
    for (const { file, path } of free) app.upload(space, file, beside(path));
    const [first] = taken;
    if (!first) return;
    const used = new Set(files.map(({ path }) => path));
    const keepBoth = () => {
      for (const { file, path } of taken) {
        const found = numbered(path, (other) => used.has(other) || space.fileAt(other) !== undefined);
        used.add(found);
        app.upload(space, file, beside(found));
      }
    };
    const replace = () => {
      for (const { file, there } of taken) app.upload(space, file, replacing(there));
    };
    const one = taken.length === 1;
    const title = one ? `${quoted(nameOf(first.path))} is already here` : `${taken.length} of these files are already here`;
    const text = one
      ? `${quoted(space.name)} has version ${first.there.version} of it, of ${when(first.there.updatedAt)}. Replacing it makes version ${first.there.version + 1}.`
      : `${quoted(space.name)} has ${quoted(nameOf(first.path))} and ${taken.length - 1} more. Replacing them makes a new version of each.`;
    dialogs.ask({ title, text, ok: "Keep both", cancel: "Skip", others: { Replace: replace } }, async () => keepBoth());
  }

  #acceptDrops() {
    const drop = byId("drop");
    let depth = 0;
    const over = (/** @type {number} */ change) => {
      depth += change;
      drop.classList.toggle("over", depth > 0);
    };
    const carriesFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
    window.addEventListener("dragenter", (event) => carriesFiles(event) && over(1));
    window.addEventListener("dragleave", (event) => carriesFiles(event) && over(-1));
    // Anywhere in the window: by default a browser leaves the page and opens the dropped file.
    window.addEventListener("dragover", (event) => {
      if (carriesFiles(event)) event.preventDefault();
    });
    window.addEventListener("drop", (event) => {
      if (!carriesFiles(event) || !event.dataTransfer) return;
      event.preventDefault();
      over(-depth);
      if (this.app.session.state !== "active") return;
      // Entries exist only while the event is handled.
      const files = Promise.all([...event.dataTransfer.items].map((item) => filesOf(item)));
      files.then((found) => this.#add(found.flat())).catch((error) => this.app.fail(error));
    });
  }
}

/**
 * @param {DataTransferItem} item
 * @returns {Promise<{ file: File, path: string }[]>}
 */
async function filesOf(item) {
  const entry = item.webkitGetAsEntry();
  if (entry) return filesBelow(entry);
  // Not from a file system, such as an image from another page.
  const file = item.getAsFile();
  return file ? [{ file, path: pathOf(file.name) }] : [];
}

/**
 * Returns the files of a dropped entry, including those in folders.
 *
 * @param {FileSystemEntry} entry
 * @returns {Promise<{ file: File, path: string }[]>}
 */
async function filesBelow(entry) {
  if (isFile(entry)) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file: /** @type {File} */ (file), path: pathOf(entry.fullPath) }];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const found = [];
  // The reader returns a part of the entries at a time, and none at the end.
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return found;
    for (const below of some) found.push(...(await filesBelow(below)));
  }
}

/** @param {FileSystemEntry} entry @returns {entry is FileSystemFileEntry} */
function isFile(entry) {
  return entry.isFile;
}

/** Highlights an element for a moment after a change. @param {HTMLElement} element */
function flash(element) {
  element.classList.remove("flash");
  void element.offsetWidth;
  element.classList.add("flash");
}
