/** Signing in, at first and again. */

import { Unreachable } from "./errors.js";
import { byId, find, setText } from "./dom.js";
import { SignInError } from "./session.js";

export class SignIn {
  /** @type {import("./session.js").NewPassword | null} */ #newPassword = null;

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.form = find(document, "#signin-form", HTMLFormElement);
    this.expired = find(document, "#expired", HTMLDialogElement);
    submits(this.form, () => this.#signIn());
    submits(find(this.expired, "form", HTMLFormElement), () => this.#signInAgain());
    find(this.expired, "button[value=other]", HTMLButtonElement).addEventListener("click", () => void session.signOut());
    // It is answered, not closed.
    this.expired.addEventListener("cancel", (event) => event.preventDefault());
    session.addEventListener("change", () => this.#show());
  }

  #show() {
    const { state, user } = this.session;
    byId("signin").hidden = state !== "signed-out";
    byId("app").hidden = state === "signed-out";
    if (state === "expired" && !this.expired.open) {
      setText(byId("expired-name"), user?.name ?? "");
      find(this.expired, "input[name=username]", HTMLInputElement).value = user?.name ?? "";
      this.expired.showModal();
      find(this.expired, "input[name=password]", HTMLInputElement).focus();
    }
    if (state !== "expired" && this.expired.open) this.expired.close();
  }

  async #signIn() {
    const value = (/** @type {string} */ name) => find(this.form, `input[name=${name}]`, HTMLInputElement).value;
    const name = value("name").trim();
    if (!name || !value("password")) throw new SignInError("Your user name and password, please.");
    this.#newPassword = this.#newPassword
      ? await this.#newPassword.answer(value("newPassword"))
      : await this.session.signIn(name, value("password"));
    const asks = byId("signin-new");
    asks.hidden = this.#newPassword === null;
    if (this.#newPassword) find(asks, "input", HTMLInputElement).focus();
    else this.form.reset();
  }

  async #signInAgain() {
    const password = find(this.expired, "input[name=password]", HTMLInputElement);
    const next = await this.session.signIn(this.session.user?.name ?? "", password.value);
    if (next) throw new SignInError("A new password is asked for. Choose “Somebody else” and sign in with it.");
    password.value = "";
  }
}

/**
 * Calls `act` when a form is submitted, once at a time, and shows why it failed.
 *
 * @param {HTMLFormElement} form
 * @param {() => Promise<void>} act
 */
export function submits(form, act) {
  const message = find(form, ".error", HTMLElement);
  const button = find(form, "button.primary", HTMLButtonElement);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    // Not `disabled`, which would take the focus away.
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    setText(message, "");
    try {
      await act();
    } catch (error) {
      const unreachable = error instanceof Unreachable ? " Is the network there?" : "";
      setText(message, String(/** @type {Error} */ (error).message) + unreachable);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}
