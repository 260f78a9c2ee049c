/** The prose of an e-mail: its plain-text body without addresses, signature, list footer and quoted headers. */
import PostalMime from "postal-mime";
import { normalizeLineEnds, stripWhitespace } from "../document.ts";

/** What Dolma's PII masking writes for an address; a token of its own in the OLMoE tokenizer. */
export const EMAIL_ADDRESS_MASK = "|||EMAIL_ADDRESS|||";

// Bounded repetitions keep the time linear on hostile text.
const ADDRESS = /[A-Za-z0-9._%+=-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}/g;
const RULE = /^(?:[-_=*~]{10,}|-{5,} )/;
const FOOTER =
  /unsubscribe|mailing list|mailman\/listinfo|sponsored by|yahoo! groups|do you yahoo|you are receiving this mail/i;
const UNSUBSCRIBE = /^To unsubscribe from this (?:group|list)/i;
const QUOTED_HEADER = /^[>| \t]*(?:From|Sent|To|Cc|Subject|Date|Reply-To|Message-Id|Organization): /i;
const ORIGINAL_MESSAGE = /^[>| \t]*-+ ?(?:Original|Forwarded) Message ?-+/i;
const PGP_LINE = /^-----BEGIN PGP SIGNED MESSAGE-----|^Hash: [A-Z0-9]+$/;
const PGP_SIGNATURE = /^-----BEGIN PGP SIGNATURE-----/;

/** Lines a signature or footer may have; a mark with more after it stands inside the text, as in a digest. */
const MAX_TRAILER_LINES = 30;

/** Whether everything from this line on is signature or footer. */
function startsTrailer(lines: readonly string[], index: number): boolean {
  const line = lines[index] as string;
  if (PGP_SIGNATURE.test(line)) return true;
  if (lines.length - index > MAX_TRAILER_LINES) return false;
  if (/^-- ?$/.test(line) || UNSUBSCRIBE.test(line)) return true;
  return RULE.test(line) && lines.slice(index, index + 8).some((next) => FOOTER.test(next));
}

/** Drops blocks of two or more header lines, as a forwarded or quoted message starts with. */
function dropQuotedHeaders(lines: readonly string[]): string[] {
  const isHeader = (index: number) => QUOTED_HEADER.test(lines[index] ?? "");
  return lines.filter((line, index) => {
    if (ORIGINAL_MESSAGE.test(line) || PGP_LINE.test(line)) return false;
    return !(isHeader(index) && (isHeader(index - 1) || isHeader(index + 1)));
  });
}

/** Cleans the text of a plain-text body; "" where nothing is left. */
export function cleanEmailBody(body: string): string {
  const lines = normalizeLineEnds(body)
    .split("\n")
    .map((line) => line.trimEnd() + (/^-- $/.test(line) ? " " : ""));
  const end = lines.findIndex((_, index) => startsTrailer(lines, index));
  const kept = dropQuotedHeaders(end === -1 ? lines : lines.slice(0, end));
  return stripWhitespace(
    kept
      .join("\n")
      .replace(ADDRESS, EMAIL_ADDRESS_MASK)
      .replace(/\n{3,}/g, "\n\n"),
  );
}

/**
 * The cleaned plain-text body of one raw RFC 822 message; "" for a message that has only HTML or attachments.
 * @returns undefined where the body's bytes do not fit its declared character set.
 */
export async function emailText(message: Uint8Array): Promise<string | undefined> {
  const { text } = await PostalMime.parse(message);
  if (text?.includes("\ufffd")) return undefined;
  return cleanEmailBody(text ?? "");
}
