/** The sign-in form, also for an expired session. */

import { ChallengeEndedError, CognitoSession, SignInError, ThrottledError, UnreachableError } from "../client/index.js";
import { visible } from "./names.js";
import { byId, find, setText } from "./dom.js";

export class SignIn {
  /** The challenge that the form shows. @type {import("../client/index.js").Challenge | null} */ #challenge = null;

  /**
   * @param {import("./app.js").SignedSession} session
   * @param {(() => Promise<void>) | null} begin opens the provider's page, if users do not sign in by the form
   */
  constructor(session, begin) {
    this.session = session;
    this.begin = begin;
    this.form = find(document, "#signin-form", HTMLFormElement);
    this.expired = find(document, "#expired", HTMLDialogElement);
    submits(this.form, () => this.#signIn());
    submits(this.#expiredForm, () => this.#signInAgain());
    find(this.expired, "button[value=other]", HTMLButtonElement).addEventListener("click", () => void session.signOut());
    for (const form of [this.form, this.#expiredForm]) {
      // Another name or password starts another attempt.
      for (const input of form.querySelectorAll("input[name=name], input[name=password]")) input.addEventListener("input", () => this.#ask(form, null));
    }
    if (begin) this.#leaveToSignIn();
    // Escape does not close the dialog: the user signs in again or signs out.
    this.expired.addEventListener("cancel", (event) => event.preventDefault());
    session.addEventListener("change", () => this.#show());
  }

  /** Shows buttons that leave for the provider's page, in place of the forms. */
  #leaveToSignIn() {
    for (const field of document.querySelectorAll("#signin .field, #expired .field")) if (field instanceof HTMLElement) field.hidden = true;
    setText(byId("expired-text"), "For that this page is left for a while. Uploads that have not finished go on when you add their files again.");
  }

  #show() {
    const { state, user } = this.session;
    byId("signin").hidden = state !== "signed-out";
    byId("app").hidden = state === "signed-out";
    if (state === "expired" && !this.expired.open) {
      setText(byId("expired-name"), visible(user?.name ?? ""));
      find(this.expired, "input[name=username]", HTMLInputElement).value = user?.name ?? "";
      this.expired.showModal();
      if (this.begin) find(this.expired, "button.primary", HTMLButtonElement).focus();
      else find(this.expired, "input[name=password]", HTMLInputElement).focus();
    }
    if (state !== "expired" && this.expired.open) this.expired.close();
  }

  get #expiredForm() {
    return find(this.expired, "form", HTMLFormElement);
  }

  async #signIn() {
    if (this.begin) return this.begin();
    const value = (/** @type {string} */ name) => find(this.form, `input[name=${name}]`, HTMLInputElement).value;
    const name = value("name").trim();
    if (!name || !value("password")) throw new SignInError("Your user name and password, please.");
    await this.#answer(this.form, name);
  }

  async #signInAgain() {
    if (this.begin) return this.begin();
    await this.#answer(this.#expiredForm, this.session.user?.name ?? "");
  }

  /**
   * Answers the challenge, or starts with the password, and shows the next challenge if there is one.
   *
   * @param {HTMLFormElement} form
   * @param {string} name
   */
  async #answer(form, name) {
    const { session } = this;
    if (!(session instanceof CognitoSession)) return;
    const asked = this.#challenge;
    try {
      const text = find(form, `input[name=${asked ? FIELDS[asked.kind] : "password"}]`, HTMLInputElement).value;
      if (!text) throw new SignInError(asked?.kind === "code" ? "The code, please." : "The password, please.");
      this.#ask(form, asked ? await asked.answer(text) : await session.signIn(name, text));
    } catch (error) {
      if (error instanceof ChallengeEndedError) this.#ask(form, null);
      throw error;
    }
    if (!this.#challenge) form.reset();
  }

  /**
   * Shows the field of the challenge.
   *
   * @param {HTMLFormElement} form
   * @param {import("../client/index.js").Challenge | null} challenge
   */
  #ask(form, challenge) {
    const before = this.#challenge;
    this.#challenge = challenge;
    for (const [kind, name] of Object.entries(FIELDS)) {
      const input = find(form, `input[name=${name}]`, HTMLInputElement);
      const field = input.closest(".field");
      if (field instanceof HTMLElement) field.hidden = challenge?.kind !== kind;
      if (challenge?.kind === kind) input.focus();
      else input.value = "";
    }
    if (before && !challenge && this.session.state !== "active" && document.activeElement?.getAttribute("name") !== "name") {
      find(form, "input[name=password]", HTMLInputElement).focus();
    }
  }
}

/** The field for each kind of challenge. */
const FIELDS = { "new-password": "newPassword", code: "code" };

/**
 * Calls `act` when a form is submitted, one call at a time, and shows the reason of a failure.
 *
 * @param {HTMLFormElement} form
 * @param {() => Promise<void>} act
 */
export function submits(form, act) {
  const message = find(form, ".error", HTMLElement);
  const button = find(form, "button.primary", HTMLButtonElement);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    // Not `disabled`, which would remove the focus.
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    setText(message, "");
    try {
      await act();
    } catch (error) {
      const unreachable = error instanceof UnreachableError && !(error instanceof ThrottledError) ? " Is the network there?" : "";
      setText(message, String(/** @type {Error} */ (error).message) + unreachable);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}
