/** Makes the virtual environment of the dolma peer when it is first needed, in bench/peers/.cache. */
import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { UnsupportedError } from "../../../src/errors.ts";
import { PeerProcess } from "../process.ts";

/** It pins tokenizers 0.19.1 itself; of the others pip would try hundreds of versions. */
const REQUIREMENTS = ["dolma==1.2.1", "s3fs==2023.6.0", "aiobotocore==2.5.4", "boto3==1.28.17", "botocore==1.31.17"];

const run = promisify(execFile);

async function ensureDolma(notice: (text: string) => void, signal?: AbortSignal): Promise<string> {
  const folder = fileURLToPath(new URL("../.cache/dolma", import.meta.url));
  const windows = process.platform === "win32";
  const python = windows ? join(folder, "Scripts", "python.exe") : join(folder, "bin", "python");
  const marker = join(folder, "installed.txt");
  const wanted = REQUIREMENTS.join("\n");
  if ((await readFile(marker, "utf8").catch(() => "")) === wanted) return python;

  notice(`installing ${REQUIREMENTS[0]} into ${folder}: 300 MB`);
  const options = { maxBuffer: 2 ** 26, ...(signal ? { signal } : {}) };
  await mkdir(folder, { recursive: true });
  try {
    await run(windows ? "python" : "python3", ["-m", "venv", folder], options);
    await run(python, ["-m", "pip", "install", "--disable-pip-version-check", ...REQUIREMENTS], options);
  } catch (cause) {
    signal?.throwIfAborted();
    const { stderr = "", message = "" } = cause as { stderr?: string; message?: string };
    const reason = (stderr.trim() || message).split("\n").slice(-3).join("\n");
    const hint = "install Python 3.9 to 3.12 with its venv module and check the network, or pass --no-peers";
    throw new UnsupportedError(`peer dolma: ${REQUIREMENTS[0]} can not be installed: ${reason}`, { hint, cause });
  }
  await writeFile(marker, wanted);
  return python;
}

/**
 * Starts the script that answers requests to tokenise.
 * @param notice is told before anything is downloaded.
 * @throws UnsupportedError when Python or the network is missing.
 */
export async function startDolma(notice: (text: string) => void, signal?: AbortSignal): Promise<PeerProcess> {
  const command = await ensureDolma(notice, signal);
  const path = fileURLToPath(new URL("tokens.py", import.meta.url));
  return new PeerProcess({ name: "dolma", command, args: [path], ...(signal ? { signal } : {}) });
}
