/**
 * Names that people gave: of files, spaces and users. What cannot be seen in one is shown, so that no two look the same and none looks like what it
 * is not; and what a name must not be is said before it is sent.
 */

/** Begins and ends a stretch of text whose direction is its own (FSI, PDI). */
const [ISOLATE, END] = ["\u2068", "\u2069"];

/** Embeddings, overrides and isolates: characters that reorder what is around them. */
const REORDERING = /[\u202a-\u202e\u2066-\u2069]/;

/** A character that is not seen, or only by what it does to others. */
const UNSEEN = /[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/** Space that is not the one of the keyboard. */
const OTHER_SPACE = /[^\S ]/u;

/** Letters of scripts whose spelling needs joiners, as Persian and Hindi do. */
const JOINED = /^[\p{L}\p{M}]$/u;
const NOT_JOINED = /^[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Script=Han}\p{Script=Common}]$/u;

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** How long a name and a path may be, in bytes of UTF-8. */
const LONGEST_NAME = 255;
const LONGEST_PATH = 1024;

/**
 * A name as it is shown: characters that cannot be seen are given by their number, and so is space at its ends.
 *
 * @param {string} name
 */
export function visible(name) {
  const text = name.replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
  if (!UNSEEN.test(text) && !OTHER_SPACE.test(text)) return text;
  let shown = "";
  for (const { segment } of graphemes.segment(text)) {
    // Emoji are made of characters that are not seen by themselves.
    shown += /^\p{RGI_Emoji}$/v.test(segment) ? segment : inSegment(segment);
  }
  return shown;
}

/** @param {string} segment */
function inSegment(segment) {
  let before = "";
  let shown = "";
  for (const character of segment) {
    const joins = (character === "\u200c" || character === "\u200d") && JOINED.test(before) && !NOT_JOINED.test(before);
    const styles = character === "\ufe0f" && /^\p{Emoji}$/u.test(before);
    const hidden = UNSEEN.test(character) || OTHER_SPACE.test(character);
    shown += hidden && !joins && !styles ? `⟨U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}⟩` : character;
    before = character;
  }
  return shown;
}

/** A name within a sentence. @param {string} name */
export function quoted(name) {
  return `“${ISOLATE}${visible(name)}${END}”`;
}

/** A name for a file of this computer, whose programs may show it as it is. @param {string} name */
export function saved(name) {
  return [...graphemes.segment(name)]
    .map(({ segment }) => (/^\p{RGI_Emoji}$/v.test(segment) ? segment : segment.replaceAll(new RegExp(`${REORDERING.source}|\\p{Cc}`, "gu"), "_")))
    .join("");
}

/**
 * Why a path cannot be that of a file; empty if it can.
 *
 * @param {string} path absolute
 */
export function problemOfPath(path) {
  if (bytesOf(path) > LONGEST_PATH) return `The path is too long: with its folders it may have ${LONGEST_PATH} bytes, and has ${bytesOf(path)}.`;
  const names = path.split("/").slice(1);
  if (names.at(-1) === "") return "The path ends with a slash. Give the file a name.";
  for (const name of names) {
    if (name === "") return "Two slashes follow each other. Give the folder between them a name.";
    if (name === "." || name === "..") return `A file or folder cannot be called ${quoted(name)}.`;
    const problem = problemOfName(name, "name");
    if (problem) return problem;
  }
  return "";
}

/**
 * Why a name cannot be that of a file, folder or space; empty if it can.
 *
 * @param {string} name
 * @param {string} what it is
 */
export function problemOfName(name, what) {
  if (name === "") return `Enter a ${what}.`;
  if (bytesOf(name) > LONGEST_NAME) return `${quoted(`${name.slice(0, 20)}…`)} is too long: a ${what} may have ${LONGEST_NAME} bytes, and this one has ${bytesOf(name)}.`;
  if (REORDERING.test(name) || /\p{Cc}/u.test(name)) return `${quoted(name)} has characters that cannot be seen and change how it reads. Remove them.`;
  if ([...name].every((character) => UNSEEN.test(character) || /\s/u.test(character))) return `${quoted(name)} cannot be seen. Choose a ${what} that can.`;
  return "";
}

/** As the user pool makes them, in hexadecimal. */
const USER_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/**
 * Why a text is nobody's user id; empty if it may be one. The service takes any text, and would give access to nobody.
 *
 * @param {string} text
 */
export function problemOfUserId(text) {
  if (text === "") return "Enter their user ID. They find it under Members, as you find yours.";
  return USER_ID.test(text) ? "" : `${quoted(text)} is not a user ID, which is neither a user name nor an e-mail address. They find theirs under Members, as you find yours.`;
}

/** @param {string} text */
function bytesOf(text) {
  return new TextEncoder().encode(text).length;
}
