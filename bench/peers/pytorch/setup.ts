/** Makes the virtual environment of the PyTorch peer when it is first needed, in bench/peers/.cache. */
import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { UnsupportedError } from "../../../src/errors.ts";
import { PeerProcess } from "../process.ts";

const REQUIREMENTS = ["torch==2.15.0", "transformers==5.23.0", "numpy==2.4.6"];
/** Holds builds without CUDA, which are 200 MB instead of 3 GB; PyPI has only builds with CUDA for Linux. */
const CPU_INDEX = "https://download.pytorch.org/whl/cpu";

const run = promisify(execFile);

/**
 * @param notice is told before anything is downloaded.
 * @returns the path of a Python that has the pinned PyTorch and transformers.
 * @throws UnsupportedError when Python or the network is missing.
 */
export async function ensurePyTorch(notice: (text: string) => void, signal?: AbortSignal): Promise<string> {
  const folder = fileURLToPath(new URL("../.cache/python", import.meta.url));
  const windows = process.platform === "win32";
  const python = windows ? join(folder, "Scripts", "python.exe") : join(folder, "bin", "python");
  const marker = join(folder, "installed.txt");
  const wanted = `${REQUIREMENTS.join("\n")}\n`;
  if ((await readFile(marker, "utf8").catch(() => "")) === wanted) return python;

  notice(`installing ${REQUIREMENTS.join(", ")} into ${folder}: 200 MB, or 3 GB where only PyPI can be reached`);
  const options = { maxBuffer: 2 ** 26, ...(signal ? { signal } : {}) };
  await mkdir(folder, { recursive: true });
  try {
    await run(windows ? "python" : "python3", ["-m", "venv", folder], options);
  } catch (cause) {
    signal?.throwIfAborted();
    throw unavailable("python3 -m venv failed", "install Python 3.11 or later with its venv module", cause);
  }
  const pip = (...args: string[]) =>
    run(python, ["-m", "pip", "install", "--disable-pip-version-check", ...args], options);
  if (process.platform === "linux") {
    await pip("--retries", "0", "--index-url", CPU_INDEX, REQUIREMENTS[0]!).catch(() => signal?.throwIfAborted());
  }
  try {
    await pip(...REQUIREMENTS);
  } catch (cause) {
    signal?.throwIfAborted();
    throw unavailable("pip install failed", "check the network and the free disk space", cause);
  }
  await writeFile(marker, wanted);
  return python;
}

/**
 * Starts one of the scripts of this folder.
 * @throws UnsupportedError when Python or the network is missing.
 */
export async function startPyTorch(
  script: "gemm.py" | "train_step.py",
  notice: (text: string) => void,
  signal?: AbortSignal,
): Promise<PeerProcess> {
  const command = await ensurePyTorch(notice, signal);
  const path = fileURLToPath(new URL(script, import.meta.url));
  return new PeerProcess({ name: "pytorch", command, args: [path], ...(signal ? { signal } : {}) });
}

function unavailable(fault: string, hint: string, cause: unknown): UnsupportedError {
  const { stderr = "", message = "" } = cause as { stderr?: string; message?: string };
  const reason = (stderr.trim() || message).split("\n").slice(-3).join("\n");
  return new UnsupportedError(`peer pytorch: ${fault}: ${reason}`, { hint: `${hint}, or pass --no-peers`, cause });
}
