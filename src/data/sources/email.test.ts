import { describe, expect, it } from "vitest";
import { cleanEmailBody, emailText } from "./email.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("cleanEmailBody", () => {
  it("masks addresses, also those without a dot", () => {
    expect(cleanEmailBody("Mail jo.do+x@example.org, or root@localhost.\r\n")).toBe(
      "Mail |||EMAIL_ADDRESS|||, or |||EMAIL_ADDRESS|||.",
    );
  });

  it("cuts a signature and what follows it", () => {
    expect(cleanEmailBody("Hello,\nyes.\n-- \nJo Do\nExample Ltd\n")).toBe("Hello,\nyes.");
  });

  it("cuts the footer of a mailing list", () => {
    expect(cleanEmailBody(`Yes.\n\n${"_".repeat(47)}\nUsers mailing list\nUsers@example.org\n`)).toBe("Yes.");
    expect(cleanEmailBody(`Yes.\n\n${"-".repeat(55)}\nThis sf.net email is sponsored by: nobody\n`)).toBe("Yes.");
    expect(cleanEmailBody("Yes.\n\nTo unsubscribe from this group, send an email to:\nx@y.z\n")).toBe("Yes.");
  });

  it("keeps a rule inside the text", () => {
    const text = `Title\n${"=".repeat(20)}\nfirst\n${"-".repeat(20)}\nsecond`;
    expect(cleanEmailBody(text)).toBe(text);
  });

  it("drops blocks of quoted headers and keeps a lone word with a colon", () => {
    expect(
      cleanEmailBody(
        "See below.\n\n-----Original Message-----\nFrom: Jo\nSent: Monday\nSubject: hats\n\nDate: tomorrow?\n",
      ),
    ).toBe("See below.\n\nDate: tomorrow?");
  });

  it("drops the armour of a signed message", () => {
    expect(
      cleanEmailBody(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA1\n\nYes.\n-----BEGIN PGP SIGNATURE-----\nabc\n-----END PGP SIGNATURE-----\n",
      ),
    ).toBe("Yes.");
  });

  it("takes linear time on a long run of address characters", () => {
    expect(cleanEmailBody("a".repeat(200_000)).length).toBe(200_000);
  });
});

describe("emailText", () => {
  it("decodes the plain part of a multipart message", async () => {
    const message = [
      "From jo Thu Aug 22 13:52:59 2002",
      "From: Jo <jo@example.org>",
      "MIME-Version: 1.0",
      'Content-Type: multipart/alternative; boundary="x"',
      "",
      "--x",
      "Content-Type: text/plain; charset=iso-8859-1",
      "Content-Transfer-Encoding: quoted-printable",
      "",
      "Caf=E9 at ten.",
      "--x",
      "Content-Type: text/html",
      "",
      "<p>Coffee</p>",
      "--x--",
      "",
    ].join("\r\n");
    expect(await emailText(bytes(message))).toBe("Caf\u00e9 at ten.");
  });

  it("has no text for a message of HTML only", async () => {
    expect(await emailText(bytes("Content-Type: text/html\n\n<p>Hello</p>\n"))).toBe("");
  });

  it("gives nothing for bytes outside the declared character set", async () => {
    expect(await emailText(Uint8Array.from([...bytes("Subject: x\n\ncaf"), 0xe9]))).toBeUndefined();
  });
});
