/** The view of the app. It is updated at most once per animation frame. */

import { byId, h, icon, iconButton, keyed, setText } from "./dom.js";
import { problemOfName, quoted, visible } from "./names.js";
import { AccountView } from "./view-account.js";
import { Dialogs } from "./view-dialogs.js";
import { FilesView } from "./view-files.js";
import { MembersView } from "./view-members.js";
import { TrashView } from "./view-trash.js";
import { UploadsView } from "./view-uploads.js";
import { deed, folderOf, milliseconds, nameOf, shortId, when } from "./words.js";

/** Time in milliseconds over which announcements for screen readers are combined: ten files at once are one sentence. */
const GATHER = 1_000;

export class View {
  #planned = false;
  /** @type {string[]} */ #toSay = [];
  /** @type {"files" | "activity" | "members" | "trash"} */ #view = "files";

  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.wide = matchMedia("(min-width: 64rem)");
    this.dialogs = new Dialogs();
    this.parts = [new UploadsView(app), new FilesView(app, this.dialogs), new MembersView(app, this.dialogs), new TrashView(app, this.dialogs), new AccountView(app, this.dialogs)];
    app.addEventListener("change", () => this.#plan());
    app.addEventListener("heard", (event) => this.#hear(/** @type {CustomEvent} */ (event).detail));
    this.wide.addEventListener("change", () => this.#plan());
    // Updates the seconds until the next attempt.
    setInterval(() => {
      if (app.connection.phase === "waiting") this.#plan();
    }, 1_000);
    this.#listen();
  }

  #listen() {
    const { app } = this;
    for (const button of document.querySelectorAll(".view-button")) {
      button.addEventListener("click", () => {
        this.#view = /** @type {any} */ (button.getAttribute("data-view"));
        this.#show();
      });
    }
    byId("new-space").addEventListener("click", () => {
      // One key per name, so that a retry after a failure creates no second space.
      const keys = new Map();
      this.dialogs.ask({ title: "New space", text: "A space is what you share: its members see the same files.", label: "Name", ok: "Create" }, async (name) => {
        const wanted = name.normalize("NFC").trim();
        const problem = problemOfName(wanted, "name");
        if (problem) throw new Error(problem);
        if (!keys.has(wanted)) keys.set(wanted, crypto.randomUUID());
        const space = await app.api.createSpace(wanted, keys.get(wanted));
        app.select(space.spaceId);
      });
    });
    byId("sign-out").addEventListener("click", () => {
      if (!app.uploads.busy) {
        void app.session.signOut();
        return;
      }
      this.dialogs.ask({ title: "Sign out?", text: "Uploads that have not finished are given up.", ok: "Sign out" }, async () => {
        await app.session.signOut();
      });
    });
    window.addEventListener("beforeunload", (event) => {
      if (app.uploads.busy) event.preventDefault();
    });
  }

  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => {
      this.#planned = false;
      this.#show();
    });
  }

  #show() {
    const { app } = this;
    if (app.session.state === "signed-out") return;
    const view = this.wide.matches && this.#view === "files" ? "activity" : this.#view;
    byId("app").dataset.view = view;
    for (const button of document.querySelectorAll(".view-button")) {
      button.setAttribute("aria-current", String(button.getAttribute("data-view") === view));
    }
    this.#showConnection();
    this.#showSpaces();
    this.#showActivity();
    this.#showNotices();
    for (const part of this.parts) part.show();
  }

  #showConnection() {
    const { connection, latency, session } = this.app;
    const offline = !navigator.onLine;
    const phase = session.state === "expired" ? "expired" : connection.phase;
    const words = {
      connecting: "Connecting",
      "catching-up": "Catching up",
      live: "Live",
      polling: "Updated each minute",
      waiting: offline ? "Offline" : "Reconnecting",
      expired: "Signed out",
    };
    byId("status").dataset.phase = phase;
    setText(byId("status-text"), words[phase]);
    setText(byId("status-latency"), phase === "live" && latency !== null ? milliseconds(latency) : "");
  }

  #showSpaces() {
    const { app } = this;
    const spaces = [...app.spaces.values()].sort(
      (a, b) => Number(b.space.kind === "personal") - Number(a.space.kind === "personal") || a.name.localeCompare(b.name),
    );
    keyed(byId("spaces"), spaces, (space) => space.id, (space) => {
      const name = h("span", { class: "space-name" });
      const button = h("button", { type: "button", class: "space", onclick: () => app.select(space.id) }, icon(space.space.kind === "personal" ? "person" : "people"), name);
      return {
        element: h("li", {}, button),
        update: (space) => {
          setText(name, space.name);
          button.setAttribute("aria-current", String(space.id === app.selected));
        },
      };
    });
    keyed(byId("invitations"), app.invitations, (invitation) => invitation.invitationId, (invitation) => {
      const { spaceName, inviterName, inviterId } = invitation;
      const answer = (/** @type {"accept" | "decline" | "block"} */ given) => void app.answerInvitation(invitation, given);
      const decline = () => {
        const from = inviterName ? visible(inviterName) : shortId(inviterId);
        const question = {
          title: `Decline ${quoted(spaceName)}?`,
          text: `${from} can invite you again. If you block them, you see no more invitations of theirs, and they do not learn of it.`,
          ok: "Decline",
          others: { "Decline and block": () => answer("block") },
        };
        this.dialogs.ask(question, async () => answer("decline"));
      };
      const text = h("span", {});
      return {
        element: h("li", { class: "invitation", title: inviterId }, text, h("div", {}, h("button", { type: "button", class: "button small primary", onclick: () => answer("accept") }, "Accept"), h("button", { type: "button", class: "button small", onclick: decline }, "Decline"))),
        update: (invitation) => setText(text, `${invitation.inviterName ? visible(invitation.inviterName) : shortId(inviterId)} invites you to ${quoted(invitation.spaceName)} (${invitation.role})`),
      };
    });
    setText(byId("space-name"), app.space?.name ?? "Opening…");
    setText(byId("space-role"), app.space?.space.role ?? "");
    document.title = `${app.space?.name ?? "Files"} – SyncSphere`;
  }

  #showActivity() {
    const { app } = this;
    const happenings = app.space?.happenings ?? [];
    keyed(byId("activity"), happenings, ({ change }) => change.eventId, ({ change, latency, past }) => {
      const who = change.userId === app.userId ? (change.deviceId === app.deviceId ? "You, in this window," : "You") : change.userName ? visible(change.userName) : shortId(change.userId);
      const path = change.path;
      const heard =
        latency !== null
          ? h("span", { class: "latency", title: "From the commit to this window" }, milliseconds(latency))
          : past ? null : h("span", { title: "Read from the feed, because this window was away" }, "caught up");
      return {
        element: h(
          "li",
          { class: latency === null ? "" : "fresh", "data-sequence": change.sequence },
          h("div", { class: "what" }, path ? h("span", { class: "muted" }, folderOf(path)) : null, h("strong", {}, path ? nameOf(path) : (app.spaceName(change.subjectSpaceId ?? "") ?? "Spaces"))),
          h("div", { class: "muted" }, `${who} ${deed(change, (id) => app.spaceName(id))}`),
          h("div", { class: "meta muted" }, h("span", { class: "sequence" }, `#${change.sequence}`), h("time", { datetime: change.occurredAt }, when(change.occurredAt)), heard),
        ),
        update: () => {},
      };
    });
    setText(byId("activity-note"), happenings.length ? "" : "What happens in this space appears here, as it happens.");
  }

  #showNotices() {
    const { app } = this;
    /** @type {{ id: string, kind: string, text: string, button: Node, undo?: HTMLElement }[]} */
    const notices = app.notices.map((notice) => {
      const button = iconButton("close", "Dismiss", () => this.#dismiss(notice));
      return { ...notice, button, undo: notice.undo && h("button", { type: "button", class: "button small notice-action", onclick: () => void this.#undo(notice) }, "Undo") };
    });
    if (app.connection.phase === "waiting" && app.session.state === "active") {
      const button = h("button", { type: "button", class: "button small", onclick: () => app.reconnect() }, "Reconnect now");
      notices.push({ id: "connection", kind: "waiting", text: this.#away(app.connection.until), button });
    }
    /** @type {HTMLElement | undefined} */
    let added;
    keyed(byId("notices"), notices, (notice) => notice.id, ({ kind, button, undo }) => {
      const text = h("p", {});
      added = undo;
      return {
        element: h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : undo ? "status" : null }, text, undo ?? null, button),
        update: (notice) => setText(text, notice.text),
      };
    });
    // The element that had the focus disappears or moves with what was done, and the notice is the last element of the page.
    if (!document.querySelector("dialog[open]")) added?.focus();
  }

  /** @param {import("./app.js").Notice} notice */
  async #undo(notice) {
    this.#dismiss(notice);
    try {
      await notice.undo?.();
      setText(byId("announcer"), "Undone.");
    } catch (error) {
      this.app.fail(error, "It could not be undone. ");
    }
  }

  /** Removes a notice. The focus would be lost with its button. @param {import("./app.js").Notice} notice */
  #dismiss(notice) {
    if (byId("notices").contains(document.activeElement)) byId("main").focus();
    this.app.dismiss(notice);
  }

  /** @param {number} until */
  #away(until) {
    const { currentAt } = this.app;
    const asOf = currentAt === null ? "" : ` What you see is as of ${when(new Date(currentAt).toISOString())}.`;
    if (!navigator.onLine) return `You are offline.${asOf} Uploads go on when the network is back.`;
    return `The connection was lost.${asOf} Next attempt in ${Math.max(0, Math.ceil((until - Date.now()) / 1_000))} s.`;
  }

  /** @param {{ change: import("../client/index.js").Change, latency: number }} heard */
  #hear({ change, latency }) {
    const what = quoted(change.path ? nameOf(change.path) : (this.app.spaceName(change.spaceId) ?? "A space"));
    if (this.#toSay.length === 0) setTimeout(() => this.#say(), GATHER);
    this.#toSay.push(`${what}: ${deed(change, (id) => this.app.spaceName(id))}, heard of after ${milliseconds(latency)}.`);
  }

  #say() {
    const said = this.#toSay.splice(0);
    setText(byId("announcer"), said.length > 2 ? `${said.length} changes by others.` : said.join(" "));
  }
}

