// Prints random scenarios for the watchers of all clients: node generate.mjs > watcher-generated.json

import { fileURLToPath } from "node:url";

/** Reproducible random numbers from 0 to 1 (mulberry32). */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A scenario of 20 to 60 steps. */
export function scenario(seed) {
  const random = randomFrom(seed);
  const below = (limit) => Math.floor(random() * limit);
  const fates = (letters, harm) =>
    Array.from({ length: 5 + below(20) }, () => (random() < harm ? letters[below(letters.length)] : ".")).join("");
  const harm = random() * 0.6;
  const visible = new Set([0, 1]);
  const steps = [{ faults: { frames: fates("lddoob", harm), requests: fates("ba", harm), pings: fates("n", harm / 2) } }];
  const length = 20 + below(40);
  while (steps.length < length) {
    const choice = random();
    if (choice < 0.03) steps.push("drop");
    else if (choice < 0.05) steps.push("kill");
    else if (choice < 0.09) steps.push("restart");
    else if (choice < 0.11) steps.push("wake");
    else if (choice < 0.13) steps.push({ restore: { keep: below(101), forget: random() < 0.5 } });
    else if (choice < 0.18) {
      const space = 1 + below(5);
      if (visible.delete(space)) steps.push({ leave: space });
      else {
        visible.add(space);
        steps.push({ share: space });
      }
    } else if (choice < 0.6) steps.push({ commit: [[...visible][below(visible.size)], 1 + below(8)] });
    // Mostly seconds, sometimes hours, so that heartbeats, idle limits and rotations occur.
    else steps.push({ wait: random() < 0.04 ? below(3 * 3_600_000) : Math.floor(random() * random() * 60_000) });
  }
  return { name: `random ${seed}`, steps };
}

export const text = `[\n${Array.from({ length: 200 }, (_, index) => JSON.stringify(scenario(index + 1))).join(",\n")}\n]\n`;

if (process.argv[1] === fileURLToPath(import.meta.url)) process.stdout.write(text);
