// Runs the scenarios that all clients share: clients/vectors. Each change is delivered once and in order, by the iterator that callers use.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ChangeStream } from "../src/changes.js";
import { text } from "../../vectors/generate.mjs";
import { VirtualTime, randomFrom } from "./stand-in.mjs";
import { VectorService } from "./vector-service.mjs";

const HOUR = 3_600_000;

const file = (name) => readFileSync(new URL(`../../vectors/${name}`, import.meta.url), "utf8");
const vectors = (name) => JSON.parse(file(name));

/** A caller that stores the epoch and the cursors, as the documents tell. */
class Caller {
  epoch;
  received = new Map();
  resets = 0;
  #stream = null;

  constructor(service, time, random) {
    Object.assign(this, { service, time, random });
    this.start();
  }

  start() {
    this.#stream?.close();
    const cursors = Object.fromEntries([...this.received].map(([spaceId, changes]) => [spaceId, changes.length]));
    const world = { timers: this.time.timers, random: this.random, source: this.service.source() };
    this.#stream = new ChangeStream(null, (url) => this.service.open(url), { epoch: this.epoch, cursors }, world);
    void this.#listen(this.#stream);
  }

  wake() {
    this.#stream.reconnectNow();
  }

  close() {
    this.#stream.close();
  }

  async #listen(stream) {
    for await (const update of stream) {
      if (update.type === "change") {
        const { spaceId } = update.change;
        this.received.set(spaceId, [...(this.received.get(spaceId) ?? []), update.change]);
      } else if (update.type === "cursor-reset") {
        this.resets += 1;
        this.received.delete(update.spaceId);
      } else if (update.type === "epoch") {
        this.epoch = update.epoch;
      }
    }
  }
}

async function run({ name, steps }, seed) {
  const time = new VirtualTime();
  const service = new VectorService(time);
  const caller = new Caller(service, time, randomFrom(seed));
  for (const step of steps) {
    const [[what, value]] = typeof step === "string" ? [[step]] : Object.entries(step);
    switch (what) {
      case "commit": service.commit(String(value[0]), value[1]); break;
      case "share": service.share(String(value)); break;
      case "leave": service.leave(String(value)); break;
      case "wait": await time.pass(value); break;
      case "drop": service.drop(); break;
      case "kill": service.kill(); break;
      case "restore": service.restore(value); break;
      case "restart": caller.start(); break;
      case "wake": caller.wake(); break;
      case "faults": service.setFaults(value); break;
      default: assert.fail(`unknown step ${what}`);
    }
  }
  service.setFaults({ frames: ".", requests: ".", pings: "." });
  await time.pass(2 * HOUR);
  caller.close();

  assert.equal(caller.epoch, service.epoch, name);
  for (const [spaceId, changes] of caller.received) {
    const committed = service.feed(spaceId).slice(0, changes.length);
    assert.deepEqual(changes.map(({ eventId }) => eventId), committed.map(({ eventId }) => eventId), `${name}, space ${spaceId}`);
  }
  for (const spaceId of service.visible) {
    assert.equal(caller.received.get(spaceId)?.length ?? 0, service.feed(spaceId).length, `${name}, space ${spaceId}`);
  }
  if (!steps.some((step) => step.restore)) assert.equal(caller.resets, 0, name);
}

for (const scenario of vectors("watcher.json")) test(scenario.name, () => run(scenario, 1));

test("200 random scenarios", async () => {
  for (const [index, scenario] of vectors("watcher-generated.json").entries()) await run(scenario, index);
});

test("the random scenarios are those of the generator", () => {
  assert.equal(file("watcher-generated.json"), text);
});
