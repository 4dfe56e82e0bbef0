/** Questions: one dialog that asks for a yes, for a line of text or for a choice. */

import { byId, find, h, setText } from "./dom.js";
import { submits } from "./view-sign-in.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} ok what the button says; of a choice, the first
 * @property {boolean} [danger] whether it takes something away
 * @property {string} [cancel] what the button says that does nothing
 * @property {Record<string, () => void>} [others] what other buttons say, and what they do
 * @property {string} [label] of the text to enter; without it, it is a yes-or-no question
 * @property {string} [value] to begin with
 */

export class Dialogs {
  /** @type {(answer: string) => Promise<void>} */ #act = async () => {};
  /** What is asked after the question that is shown. @type {(() => void)[]} */ #next = [];

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
   * Asks, after what is asked already, and acts on the answer. What fails is said in the dialog, which stays.
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
      // The name without its folder and its extension is what is usually changed.
      const [from, dot] = [value.lastIndexOf("/") + 1, value.lastIndexOf(".")];
      this.input.setSelectionRange(from, dot > from ? dot : value.length);
    }
  }
}
