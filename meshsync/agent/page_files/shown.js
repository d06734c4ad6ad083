// Text from outside, made safe to look at, as meshsync/cli/escape.py does for a terminal: what comes out reorders
// nothing and is one line, and two different names never look alike because of characters that cannot be seen.

const UNSEEN = /[\p{C}\p{Z}\\]/gu;

export function shown(text) {
  return String(text).replace(UNSEEN, (character) => {
    const code = character.codePointAt(0);
    if (character === " ") return character;
    if (character === "\\") return "\\\\";
    if (code >= 0xdc80 && code <= 0xdcff) return "\\x" + hex(code - 0xdc00, 2); // a byte that is not UTF-8 (PEP 383)
    if (code < 0x80) return "\\x" + hex(code, 2);
    return code < 0x10000 ? "\\u" + hex(code, 4) : "\\U" + hex(code, 8);
  });
}

export function percent(text) {
  // Percent-encode for a query; a surrogate escape becomes the byte that it stands for.
  let out = "";
  for (const character of String(text)) {
    const code = character.codePointAt(0);
    out += code >= 0xdc80 && code <= 0xdcff ? "%" + hex(code - 0xdc00, 2) : encodeURIComponent(character);
  }
  return out;
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes, unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return (unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)) + " " + units[unit];
}

export function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

export function when(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? "-" : time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

function hex(code, digits) {
  return code.toString(16).padStart(digits, "0");
}
