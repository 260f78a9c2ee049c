/** Chromium of this machine, for tests of pages. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

export const EXECUTABLE = [
  process.env.CHROMIUM_PATH,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
].find((file) => file !== undefined && existsSync(file));

/** For the name of a suite that is skipped without it. */
export const PLACE =
  EXECUTABLE ?? "Chromium, which is missing (Debian: apt install chromium; or its path in CHROMIUM_PATH)";

export function launch(): Promise<Browser> {
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: EXECUTABLE!, args });
}
