/** The dialog of the account: who is signed in, the use of each limit, and erasing the account. */

import { CONFIRMATION, consequences, loss, needsOwner } from "./account.js";
import { byId, find, h, setText } from "./dom.js";
import { visible } from "./names.js";
import { bytes } from "./words.js";

export class AccountView {
  /**
   * @param {import("./app.js").App} app
   * @param {import("./view-dialogs.js").Dialogs} dialogs
   */
  constructor(app, dialogs) {
    this.app = app;
    this.dialogs = dialogs;
    this.dialog = find(document, "#account", HTMLDialogElement);
    byId("account-name").addEventListener("click", () => void this.#open());
    byId("account-close").addEventListener("click", () => this.dialog.close());
    byId("account-erase").addEventListener("click", () => void this.#erase());
  }

  show() {
    setText(byId("account-name"), visible(this.app.session.user?.name ?? "") || "Account");
  }

  async #open() {
    this.#say("");
    byId("account-facts").replaceChildren(...fact("User ID", this.app.userId));
    this.dialog.showModal();
    try {
      const { name, email, userId, usage } = await this.app.api.showAccount();
      const facts = [...(name ? fact("Name", visible(name)) : []), ...(email ? fact("E-mail address", visible(email)) : []), ...fact("User ID", userId)];
      byId("account-facts").replaceChildren(...facts, ...(usage ? usageFacts(usage) : []));
    } catch (error) {
      this.#say(String(/** @type {Error} */ (error).message));
    }
  }

  async #erase() {
    const { app } = this;
    this.#say("");
    byId("account-erase").setAttribute("aria-busy", "true");
    try {
      const { erased, ownerless } = await consequences(app.spaces.values(), (spaceId) => app.api.listMembers(spaceId));
      if (ownerless.length > 0) {
        this.#say(needsOwner(ownerless));
        return;
      }
      this.dialog.close();
      const question = {
        title: "Erase your account?",
        text: `${loss(erased)} Nothing brings it back.`,
        label: `Enter “${CONFIRMATION}”`,
        ok: "Erase for good",
        danger: true,
      };
      this.dialogs.ask(question, async (entered) => {
        if (entered.trim().toLowerCase() !== CONFIRMATION) throw new Error(`Nothing is erased yet. Enter “${CONFIRMATION}” to go on.`);
        await app.api.eraseAccount();
        await app.session.signOut();
      });
    } catch (error) {
      this.#say(String(/** @type {Error} */ (error).message));
    } finally {
      byId("account-erase").removeAttribute("aria-busy");
    }
  }

  /** @param {string} text */
  #say(text) {
    setText(find(this.dialog, ".error", HTMLElement), text);
  }
}

/**
 * @param {string} term
 * @param {string} text
 * @param {Node | null} more
 */
function fact(term, text, more = null) {
  return [h("dt", {}, term), h("dd", {}, text, more)];
}

/** @param {import("../client/index.js").Usage} usage */
function usageFacts({ spaceBytes, spaces, pendingUploads, changesPerMinute, invitationsPerDay }) {
  const bar = h("progress", { max: spaceBytes.maximum || 1, value: spaceBytes.used, "aria-label": "Used storage of My files" });
  const of = (/** @type {import("../client/index.js").LimitUse} */ { used, maximum }) => `${used.toLocaleString()} of ${maximum.toLocaleString()}`;
  return [
    ...fact("Storage of My files, with old versions and the trash", `${bytes(spaceBytes.used)} of ${bytes(spaceBytes.maximum)}`, bar),
    ...fact("Shared spaces", of(spaces)),
    ...fact("Unfinished uploads", of(pendingUploads)),
    ...fact("Changes in this minute", of(changesPerMinute)),
    ...fact("Invitations in this day", of(invitationsPerDay)),
  ];
}
