/** Questions: one dialog that asks for a confirmation, a line of text or a choice. */

import { byId, find, h, setText } from "./dom.js";
import { submits } from "./view-sign-in.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} ok label of the confirming button, or of the first choice
 * @property {boolean} [danger] whether the action deletes something
 * @property {string} [cancel] label of the cancelling button
 * @property {Record<string, () => void>} [others] labels and actions of further buttons
 * @property {string} [label] label of the text field; without it, the question is a confirmation
 * @property {string} [value] initial text
 */

export class Dialogs {
  /** @type {(answer: string) => Promise<void>} */ #act = async () => {};
  /** The questions after the displayed one. @type {(() => void)[]} */ #next = [];

  constructor() {
    this.dialog = find(document, "#ask", HTMLDialogElement);
    this.input = find(this.dialog, "input", HTMLInputElement);
    const form = find(this.dialog, "form", HTMLFormElement);
    submits(form, async () => {
      await this.#act(this.input.value);
      this.dialog.close();
    });
    find(this.dialog, "button[value=cancel]", HTMLButtonElement).addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => this.#next.shift()?.());
  }

  /**
   * Asks a question after the earlier ones, and acts on the answer. A failure is shown in the dialog, which stays open.
   *
   * @param {Question} question
   * @param {(answer: string) => Promise<void>} act
   */
  ask(question, act) {
    if (this.dialog.open) this.#next.push(() => this.ask(question, act));
    else this.#show(question, act);
  }

  /**
   * @param {Question} question
   * @param {(answer: string) => Promise<void>} act
   */
  #show({ title, text, ok, label, value = "", others = {}, cancel = "Cancel", danger = false }, act) {
    byId("ask-ok").classList.toggle("danger", danger);
    this.#act = act;
    setText(find(this.dialog, "button[value=cancel]", HTMLButtonElement), cancel);
    byId("ask-others").replaceChildren(
      ...Object.entries(others).map(([text, act]) => {
        const onclick = () => {
          act();
          this.dialog.close();
        };
        return h("button", { type: "button", class: "button", onclick }, text);
      }),
    );
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
      // Selects the part that is usually changed: the name without folder and extension.
      const [from, dot] = [value.lastIndexOf("/") + 1, value.lastIndexOf(".")];
      this.input.setSelectionRange(from, dot > from ? dot : value.length);
    }
  }
}
