/**
 * Names chosen by users, of files, spaces and users. Invisible characters are made visible, so that two names never look the same and no name
 * imitates another. Invalid names are reported before they are sent.
 */

/** The characters that begin and end text with its own direction (FSI, PDI). */
const [ISOLATE, END] = ["\u2068", "\u2069"];

/** Embeddings, overrides and isolates: characters that reorder the surrounding text. */
const REORDERING = /[\u202a-\u202e\u2066-\u2069]/;

/** A character that is invisible, or visible only by its effect on others. */
const UNSEEN = /[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/** White space other than U+0020. */
const OTHER_SPACE = /[^\S ]/u;

/** Letters of scripts whose spelling needs joiners, such as those of Persian and Hindi. */
const JOINED = /^[\p{L}\p{M}]$/u;
const NOT_JOINED = /^[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Script=Han}\p{Script=Common}]$/u;

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** Maximum length of a name and of a path, in bytes of UTF-8. */
const LONGEST_NAME = 255;
const LONGEST_PATH = 1024;

/**
 * Returns a name for display: invisible characters, and spaces at the ends, are replaced by their code points.
 *
 * @param {string} name
 */
export function visible(name) {
  const text = name.replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
  if (!UNSEEN.test(text) && !OTHER_SPACE.test(text)) return text;
  let shown = "";
  for (const { segment } of graphemes.segment(text)) {
    // Emoji contain characters that are invisible by themselves.
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

/** Returns a name for use within a sentence. @param {string} name */
export function quoted(name) {
  return `“${ISOLATE}${visible(name)}${END}”`;
}

/** Returns a name for a file on this computer, without reordering and control characters. @param {string} name */
export function saved(name) {
  return [...graphemes.segment(name)]
    .map(({ segment }) => (/^\p{RGI_Emoji}$/v.test(segment) ? segment : segment.replaceAll(new RegExp(`${REORDERING.source}|\\p{Cc}`, "gu"), "_")))
    .join("");
}

/**
 * Returns the reason why a path is invalid for a file, or an empty string if it is valid.
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
 * Returns the reason why a name is invalid for a file, folder or space, or an empty string if it is valid.
 *
 * @param {string} name
 * @param {string} what the kind of thing, for the message
 */
export function problemOfName(name, what) {
  if (name === "") return `Enter a ${what}.`;
  if (bytesOf(name) > LONGEST_NAME) return `${quoted(`${name.slice(0, 20)}…`)} is too long: a ${what} may have ${LONGEST_NAME} bytes, and this one has ${bytesOf(name)}.`;
  if (REORDERING.test(name) || /\p{Cc}/u.test(name)) return `${quoted(name)} has characters that cannot be seen and change how it reads. Remove them.`;
  if ([...name].every((character) => UNSEEN.test(character) || /\s/u.test(character))) return `${quoted(name)} cannot be seen. Choose a ${what} that can.`;
  return "";
}

/** The format of the user pool's ids, in hexadecimal. */
const USER_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The form of an e-mail address. The service decides whether it is one. */
const EMAIL = /^[^\s@]+@[^\s@.]+(\.[^\s@.]+)*$/;

/**
 * Reads the e-mail address or the user ID of a person. Throws an error with the reason if the text is neither.
 *
 * @param {string} text
 * @returns {{ email: string } | { userId: string }}
 */
export function person(text) {
  if (text === "") throw new Error("Enter their e-mail address or their user ID. They find their ID under Members, as you find yours.");
  if (EMAIL.test(text)) return { email: text };
  if (USER_ID.test(text)) return { userId: text };
  throw new Error(`${quoted(text)} is neither an e-mail address nor a user ID. They find their ID under Members, as you find yours.`);
}

/** @param {string} text */
function bytesOf(text) {
  return new TextEncoder().encode(text).length;
}
