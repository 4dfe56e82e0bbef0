/** Paths of files. */

/** Returns a path in the service's form: absolute, and in Unicode normalization form C. @param {string} name */
export function pathOf(name) {
  return `/${name.normalize("NFC").replace(/^\/+/, "")}`;
}
