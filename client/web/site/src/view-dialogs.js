/** Questions: one dialog that asks for a yes, or for a line of text. */

import { byId, find, setText } from "./dom.js";
import { submits } from "./view-sign-in.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} ok what the button says
 * @property {string} [label] of the text to enter; without it, it is a yes-or-no question
 * @property {string} [value] to begin with
 */

export class Dialogs {
  /** @type {(answer: string) => Promise<void>} */ #act = async () => {};

  constructor() {
    this.dialog = find(document, "#ask", HTMLDialogElement);
    this.input = find(this.dialog, "input", HTMLInputElement);
    const form = find(this.dialog, "form", HTMLFormElement);
    submits(form, async () => {
      await this.#act(this.input.value);
      this.dialog.close();
    });
    find(this.dialog, "button[value=cancel]", HTMLButtonElement).addEventListener("click", () => this.dialog.close());
  }

  /**
   * Asks, and acts on the answer. What fails is said in the dialog, which stays.
   *
   * @param {Question} question
   * @param {(answer: string) => Promise<void>} act
   */
  ask({ title, text, ok, label, value = "" }, act) {
    this.#act = act;
    setText(byId("ask-title"), title);
    setText(byId("ask-text"), text);
    setText(byId("ask-label"), label ?? "");
    setText(byId("ask-ok"), ok);
    setText(find(this.dialog, ".error", HTMLElement), "");
    byId("ask-field").hidden = label === undefined;
    this.input.value = value;
    this.dialog.showModal();
    if (label !== undefined) {
      this.input.focus();
      // The name without its folder and its extension is what is usually changed.
      const [from, dot] = [value.lastIndexOf("/") + 1, value.lastIndexOf(".")];
      this.input.setSelectionRange(from, dot > from ? dot : value.length);
    }
  }
}
