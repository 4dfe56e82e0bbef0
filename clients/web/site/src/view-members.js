/** The members of the selected space, and invitations to it. */

import { byId, find, h, icon, iconButton, keyed, setText } from "./dom.js";
import { person, quoted, visible } from "./names.js";
import { submits } from "./view-sign-in.js";
import { shortId } from "./words.js";

/** @typedef {import("../client/index.js").Member} Member */
/** @typedef {import("../client/index.js").Invitation} Invitation */
/** @typedef {import("../client/index.js").Role} Role */

export class MembersView {
  /** @type {Member[]} */ #members = [];
  /** The pending invitations, which only owners see. @type {Invitation[]} */ #pending = [];
  /** The displayed or loading members: the key of a space and its state. */ #shown = "";
  #reading = false;
  #failed = false;

  /**
   * @param {import("./app.js").App} app
   * @param {import("./view-dialogs.js").Dialogs} dialogs
   */
  constructor(app, dialogs) {
    this.app = app;
    this.dialogs = dialogs;
    this.form = find(document, "#invite", HTMLFormElement);
    submits(this.form, () => this.#invite());
    byId("delete-space-button").addEventListener("click", () => this.#deleteSpace());
    byId("copy-id").addEventListener("click", () => {
      navigator.clipboard.writeText(app.userId).then(
        () => app.notify("info", "Your user ID is copied."),
        () => getSelection()?.selectAllChildren(byId("own-id")),
      );
    });
  }

  show() {
    const { app } = this;
    const space = app.space;
    if (!space) return;
    setText(byId("own-id"), app.userId);
    const shared = space.space.kind === "shared";
    const owner = shared && space.space.role === "owner";
    this.form.hidden = !owner;
    byId("delete-space").hidden = !owner;
    // The members are read when the panel is opened, after each catch-up, and after each change of a member.
    const changed = space.happenings.find(({ change }) => change.eventType.startsWith("MEMBER_"))?.change.sequence;
    const open = byId("app").dataset.view === "members";
    // Opening the panel again retries a failed read.
    if (!open && this.#failed) this.#shown = "";
    const wanted = `${space.id} ${space.space.role} ${app.currentAt} ${changed}`;
    if (open && shared && wanted !== this.#shown && !this.#reading) void this.#read(space.id, wanted);
    const members = shared ? this.#members.filter((member) => member.spaceId === space.id) : [];
    keyed(byId("members"), members, (member) => `${member.userId} ${owner}`, (member) => this.#row(member, owner));
    const pending = owner ? this.#pending.filter((invitation) => invitation.spaceId === space.id) : [];
    keyed(byId("pending"), pending, (invitation) => invitation.invitationId, (invitation) => this.#pendingRow(invitation));
    const missing = this.#failed ? "The members could not be read. Open this list again to try once more." : "Reading the members…";
    setText(byId("members-note"), shared ? (members.length ? "" : missing) : "This space is yours alone. Make a new space to share files.");
  }

  /**
   * @param {string} spaceId
   * @param {string} wanted
   */
  async #read(spaceId, wanted) {
    this.#reading = true;
    this.#failed = false;
    this.#shown = wanted;
    try {
      const owner = this.app.spaces.get(spaceId)?.space.role === "owner";
      const { api } = this.app;
      [this.#members, this.#pending] = await Promise.all([api.listMembers(spaceId), owner ? api.listInvitations(spaceId) : []]);
    } catch (error) {
      this.#failed = true;
      this.app.fail(error);
    } finally {
      this.#reading = false;
    }
    this.app.tell();
  }

  async #readAgain() {
    const space = this.app.space;
    if (space) await this.#read(space.id, this.#shown);
  }

  /**
   * @param {Member} first
   * @param {boolean} owner
   */
  #row(first, owner) {
    const { app } = this;
    const { userId, spaceId } = first;
    const you = userId === app.userId;
    const name = you ? `${visible(first.userName ?? app.session.user?.name ?? "")} (you)` : first.userName ? visible(first.userName) : shortId(userId);
    const roles = /** @type {Role[]} */ (["owner", "editor", "viewer"]);
    const select = h("select", { "aria-label": `Role of ${name}` }, ...roles.map((role) => h("option", { value: role }, role)));
    const badge = h("span", { class: "badge" });
    select.addEventListener("change", () => {
      this.#act(() => app.api.setMember(spaceId, userId, /** @type {Role} */ (select.value)));
    });
    const leave = you ? "Leave this space" : `Remove ${name}`;
    const remove = iconButton("close", leave, () => {
      const owners = this.#members.filter((member) => member.spaceId === spaceId && member.role === "owner");
      if (owners.length === 1 && owners[0]?.userId === userId) {
        app.notify("error", you ? "You are the only owner of this space. Make somebody else an owner before you leave." : "They are the only owner of this space.");
        return;
      }
      const text = you ? "You see it no more, until an owner invites you again and you accept." : "They see it no more. What they have downloaded, they keep.";
      this.dialogs.ask({ title: `${leave}?`, text, ok: you ? "Leave" : "Remove", danger: true }, async () => {
        await app.api.removeMember(spaceId, userId);
        if (!you) await this.#readAgain();
      });
    });
    return {
      element: h("li", { class: "row", title: userId }, icon("person"), h("div", { class: "row-text" }, h("strong", {}, name)), owner ? select : badge, owner || you ? remove : null),
      update: (/** @type {Member} */ member) => {
        setText(badge, member.role);
        if (document.activeElement !== select) select.value = member.role;
      },
    };
  }

  /** @param {Invitation} first */
  #pendingRow({ invitationId, spaceId, email, userId }) {
    const name = visible(email ?? shortId(userId ?? ""));
    const badge = h("span", { class: "badge" });
    const withdraw = iconButton("close", `Withdraw the invitation of ${name}`, () => this.#act(() => this.app.api.withdrawInvitation(spaceId, invitationId)));
    return {
      element: h("li", { class: "row", title: userId ?? "" }, icon("person"), h("div", { class: "row-text" }, h("strong", {}, name), h("span", { class: "muted" }, "invited")), badge, withdraw),
      update: (/** @type {Invitation} */ invitation) => setText(badge, invitation.role),
    };
  }

  /** @param {() => Promise<unknown>} act */
  async #act(act) {
    try {
      await act();
    } catch (error) {
      this.app.fail(error);
    }
    await this.#readAgain();
  }

  #deleteSpace() {
    const { app } = this;
    const { space } = app;
    if (!space) return;
    const name = quoted(space.name);
    const text = "Nobody sees it any more, with all of its files. Its owners can restore it from the trash for a time.";
    this.dialogs.ask({ title: `Delete ${name}?`, text, ok: "Delete", danger: true }, async () => {
      await app.api.deleteSpace(space.id);
      app.offerUndo(`${name} is deleted.`, () => app.api.restoreSpace(space.id));
    });
  }

  async #invite() {
    const space = this.app.space;
    const invited = find(this.form, "input", HTMLInputElement);
    const role = find(this.form, "select", HTMLSelectElement);
    if (!space) return;
    await this.app.api.invite(space.id, person(invited.value.trim()), /** @type {Role} */ (role.value));
    invited.value = "";
    await this.#readAgain();
  }
}
