/** The trash of a space: its deleted files, and how they are restored. */

import { ProblemError, pathOf } from "../client/index.js";
import { numbered } from "./adding.js";
import { problemOfPath, quoted } from "./names.js";
import { nameOf } from "./words.js";

/**
 * @typedef {import("../client/index.js").DeletedFile} DeletedFile
 * @typedef {(spaceId: string, pageToken: string | undefined) => Promise<{ files: DeletedFile[], nextPageToken?: string }>} ListTrash
 */

/** The deleted files of one space, newest deletion first, which are read page by page. */
export class Trash {
  /** @type {DeletedFile[]} */ files = [];
  /** @type {"new" | "reading" | "read" | "failed"} */ state = "new";
  /** @type {string | undefined} */ nextPage;

  /** @param {string} spaceId */
  constructor(spaceId) {
    this.spaceId = spaceId;
  }

  /**
   * Reads the trash from its beginning, and as far as it was read before.
   *
   * @param {ListTrash} listTrash
   */
  async readAgain(listTrash) {
    await this.#read(async () => {
      const most = this.files.length;
      /** @type {DeletedFile[]} */
      const files = [];
      /** @type {string | undefined} */
      let pageToken;
      do {
        const page = await listTrash(this.spaceId, pageToken);
        files.push(...page.files);
        pageToken = page.nextPageToken;
      } while (pageToken && files.length < most);
      [this.files, this.nextPage] = [files, pageToken];
    });
  }

  /**
   * Reads the next page.
   *
   * @param {ListTrash} listTrash
   */
  async readOn(listTrash) {
    await this.#read(async () => {
      const page = await listTrash(this.spaceId, this.nextPage);
      const known = new Set(this.files.map(({ fileId }) => fileId));
      this.files = [...this.files, ...page.files.filter(({ fileId }) => !known.has(fileId))];
      this.nextPage = page.nextPageToken;
    });
  }

  /** @param {() => Promise<void>} read */
  async #read(read) {
    this.state = "reading";
    try {
      await read();
      this.state = "read";
    } catch (error) {
      this.state = "failed";
      throw error;
    }
  }

  /**
   * Whether a change of the space makes what was read outdated: a deletion, or the return of a file. Other changes are far more frequent.
   *
   * @param {import("../client/index.js").Change} change
   */
  isOutdatedBy({ eventType, fileId }) {
    return eventType === "FILE_DELETED" || (eventType === "FILE_UPDATED" && this.files.some((file) => file.fileId === fileId));
  }

  /** @param {string} fileId */
  forget(fileId) {
    this.files = this.files.filter((file) => file.fileId !== fileId);
  }
}

/**
 * Restores a file from the trash to its former path. If another file has that now, the user is asked for another path.
 *
 * @param {Pick<import("./app.js").App, "api">} app
 * @param {Pick<import("./view-dialogs.js").Dialogs, "ask">} dialogs
 * @param {{ fileId: string, path: string }} file
 * @param {(path: string) => boolean} isTaken as far as this window knows
 */
export async function restore({ api }, dialogs, { fileId, path }, isTaken) {
  try {
    await api.restoreFile(fileId);
  } catch (error) {
    if (!(error instanceof ProblemError && error.code === "path-taken")) throw error;
    const question = {
      title: `Restore ${quoted(nameOf(path))} under another name`,
      text: "Another file or folder has its name now.",
      label: "Path",
      value: numbered(path, isTaken),
      ok: "Restore",
    };
    dialogs.ask(question, async (entered) => {
      const wanted = pathOf(entered.trim());
      const problem = problemOfPath(wanted);
      if (problem) throw new Error(problem);
      await api.restoreFile(fileId, wanted);
    });
  }
}
