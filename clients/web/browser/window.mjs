// Windows of the page in Chromium, and the actions of a user in them. Each window records forbidden events: console errors, requests to other
// origins, layout shifts.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { require, settings } from "./settings.mjs";

const { chromium } = require("playwright-core");

/** Timeout in milliseconds of events that users see within a second. Test machines are slower. */
export const SOON = 20_000;

/** Windows that the page must fit, by name. */
export const SHAPES = [["desktop", { width: 1280, height: 800 }], ["phone", { width: 390, height: 844 }], ["small-phone", { width: 360, height: 640 }]];

/** No sandbox, because containers run as root, and no background services of Chromium that use the network. */
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--disable-dev-shm-usage",
];

export class Browser {
  windows = [];

  async start() {
    this.folder = mkdtempSync(join(tmpdir(), "syncsphere-page-"));
    this.chromium = await chromium.launch({ executablePath: settings.browser, args: FLAGS });
  }

  /** Opens a separate window, as on another device. */
  async open(options = {}) {
    const context = await this.chromium.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const window = new Window(await context.newPage(), context);
    this.windows.push(window);
    await window.prepare();
    return window;
  }

  /** Opens a window of a shape in a colour scheme. */
  openAs(shape, viewport, colorScheme) {
    const narrow = shape !== "desktop";
    return this.open({ viewport, colorScheme, hasTouch: narrow, isMobile: narrow, reducedMotion: "reduce", deviceScaleFactor: shape === "phone" ? 2 : 1 });
  }

  async close() {
    await this.chromium?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class Window {
  /** Errors on the console. */
  complaints = [];
  /** Console errors that a test causes on purpose. */
  expected = [];
  strangers = new Set();

  constructor(page, context) {
    this.page = page;
    this.context = context;
  }

  async prepare() {
    const { page } = this;
    page.setDefaultTimeout(SOON);
    page.on("pageerror", (error) => this.complaints.push(String(error.stack ?? error)));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()) && !this.expected.some((pattern) => pattern.test(message.text()))) {
        this.complaints.push(message.text());
      }
    });
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (protocol !== "blob:" && ![settings.page, settings.aws].includes(origin)) this.strangers.add(origin);
    });
    await page.addInitScript(() => {
      globalThis.shifts = 0;
      globalThis.moved = [];
      // Lists grow when others add files, and notices appear above the lower edge. Nothing else may move by itself.
      const grows = ".files, .panel, .notices";
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
          const moved = entry.sources.filter(({ node }) => !(node instanceof Element ? node : node?.parentElement)?.closest(grows));
          if (entry.hadRecentInput || moved.length === 0) continue;
          globalThis.shifts += entry.value;
          for (const { node, previousRect, currentRect } of moved) {
            const element = node instanceof Element ? node : node?.parentElement;
            globalThis.moved.push(`${element?.tagName}#${element?.id} ${element?.className}: y ${previousRect.y} to ${currentRect.y}`);
          }
        }
      }).observe({ type: "layout-shift", buffered: true });
      // The next announcement replaces the last one.
      globalThis.announced = [];
      new MutationObserver((mutations) => {
        if (mutations.some(({ target }) => target.id === "announcer")) globalThis.announced.push(document.getElementById("announcer").textContent);
      }).observe(document, { childList: true, subtree: true });
    });
    await page.goto(settings.page);
    await page.waitForSelector("#signin-form", { state: "visible" });
  }

  async signIn(user) {
    const { page } = this;
    await page.fill("#signin-form input[name=name]", user);
    await page.fill("#signin-form input[name=password]", settings.password);
    await page.keyboard.press("Enter");
    await this.live();
    return this;
  }

  async live() {
    await this.page.waitForSelector("#status[data-phase=live]");
  }

  /** Waits until the page has announced something to screen readers, which may have been before. @param {RegExp} what */
  async announced(what) {
    await this.page.waitForFunction(({ source }) => globalThis.announced.some((text) => new RegExp(source).test(text)), { source: what.source });
  }

  async phase(phase) {
    await this.page.waitForSelector(`#status[data-phase=${phase}]`);
  }

  /** Drops files of this machine on the page, like the desktop. */
  async drop(paths) {
    const { page } = this;
    await page.locator("#drop").scrollIntoViewIfNeeded();
    const box = await page.locator("#drop").boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const devtools = await this.context.newCDPSession(page);
    const data = { items: [], files: paths, dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"]) await devtools.send("Input.dispatchDragEvent", { type, x, y, data });
    await devtools.detach();
  }

  /** Adds a file with the button. */
  async choose(name, content, mimeType = "text/plain") {
    await this.page.setInputFiles("#choose", { name, mimeType, buffer: Buffer.from(content) });
  }

  /** Adds a file whose name is taken, and answers the question. */
  async chooseTaken(name, content, answer) {
    await this.choose(name, content);
    await this.page.locator("#ask[open]", { hasText: `${name}\u2069” is already here` }).waitFor();
    await this.page.locator("#ask").getByRole("button", { name: answer }).click();
    await this.page.waitForSelector("#ask:not([open])", { state: "attached" });
  }

  file(path) {
    return this.page.locator(`#list li[data-path="${path}"]`);
  }

  async has(path) {
    await this.file(path).waitFor();
  }

  async hasNot(path) {
    await this.file(path).waitFor({ state: "detached" });
  }

  /** Returns the sequence numbers of the selected space's changes, oldest first. */
  async sequences() {
    const numbers = await this.page.locator("#activity li").evaluateAll((items) => items.map((item) => Number(item.dataset.sequence)));
    return numbers.reverse();
  }

  /** Returns the newest displayed latency in milliseconds. */
  async latency() {
    const text = await this.page.locator("#status-latency").textContent();
    const [, number, unit] = /^([\d.]+) (ms|s)$/.exec(text) ?? assert.fail(`no latency: ${text}`);
    return Number(number) * (unit === "s" ? 1_000 : 1);
  }

  /** Opens a view in a narrow window. A wide window shows the files in any case. */
  async view(name) {
    await this.page.click(`.view-button[data-view=${name}]`);
  }

  async select(name) {
    await this.page.locator("#spaces .space", { hasText: name }).click();
    await this.page.locator("#space-name", { hasText: name }).waitFor();
  }

  async accept(name) {
    await this.page.locator("#invitations li", { hasText: name }).locator("button", { hasText: "Accept" }).click();
    await this.page.locator("#spaces .space", { hasText: name }).waitFor();
  }

  async createSpace(name) {
    await this.page.click("#new-space");
    await this.answer(name);
    await this.page.locator("#space-name", { hasText: name }).waitFor();
  }

  /** Answers the open dialog. */
  async answer(text) {
    if (text !== undefined) await this.page.fill("#ask input", text);
    await this.page.click("#ask-ok");
    await this.page.waitForSelector("#ask:not([open])", { state: "attached" });
  }

  async act(path, action) {
    await this.file(path).hover();
    await this.file(path).locator(`button[title="${action}"]`).click();
  }

  /** A file in the open trash. */
  deleted(path) {
    return this.page.locator(`#trash li[data-path="${path}"]`);
  }

  /** The newest notice with a text. */
  notice(text) {
    return this.page.locator("#notices .notice", { hasText: text });
  }

  /** Dismisses all notices, which cover the end of the list. */
  async dismiss() {
    await this.page.locator("#notices").getByRole("button", { name: "Dismiss" }).evaluateAll((buttons) => buttons.forEach((button) => button.click()));
    await this.page.waitForSelector("#notices .notice", { state: "detached" });
  }

  async ownId() {
    return this.page.locator("#own-id").textContent();
  }

  upload(path) {
    return this.page.locator("#uploads li", { hasText: path });
  }

  async uploaded(name) {
    await this.page.locator("#uploads li[data-phase=done]", { hasText: name }).first().waitFor();
  }

  async screenshot(name) {
    // The state after all animations: new rows are tinted for seconds.
    await this.page.screenshot({ path: join(settings.screenshots, `${name}.png`), animations: "disabled" });
  }

  /** Asserts that axe finds no violation of WCAG 2.2 AA. */
  async assertAccessible(what) {
    await this.page.evaluate(readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"));
    const { violations } = await this.page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]), [], what);
  }

  /** Asserts that nothing has to be scrolled sideways. */
  async assertFits(what) {
    const [width, available] = await this.page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
    assert.ok(width <= available, `${what}: ${width} px wide`);
  }

  /** Asserts that no forbidden event was recorded. */
  async assertQuiet() {
    assert.deepEqual(this.complaints, []);
    assert.deepEqual([...this.strangers], []);
    const [shifts, moved] = await this.page.evaluate(() => [globalThis.shifts, globalThis.moved]);
    assert.ok(shifts < 0.01, `the layout shifted by ${shifts}: ${moved.join("; ")}`);
  }
}
