/**
 * Builds llama.cpp when it is first needed, in bench/peers/.cache: from the source in PyPI's sdist of llama-cpp-python,
 * for this processor, with the options it has by default.
 */
import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { access, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { InstructionSet } from "../../../src/backend/backend.ts";
import { UnsupportedError } from "../../../src/errors.ts";

const PACKAGE = "llama_cpp_python";
const VERSION = "0.3.36";
const SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";
const FOLDER = fileURLToPath(new URL("../.cache/llamacpp/", import.meta.url));
/** What the benchmarks run: rates of prompts and tokens, of sequences together, and a whole generation. */
const PROGRAMS = ["llama-bench", "llama-batched-bench", "llama-completion"] as const;

const run = promisify(execFile);

/** Paths of the programs of one build. */
export type LlamaCpp = Readonly<Record<(typeof PROGRAMS)[number], string>> & {
  /** The package's version, for notices. */
  readonly version: string;
};

export interface LlamaCppOptions {
  /** Is told before anything is downloaded or compiled. */
  readonly notice: (text: string) => void;
  readonly signal?: AbortSignal | undefined;
  /** A build for plainer processors; default: for this one. */
  readonly isa?: InstructionSet | undefined;
}

/**
 * Options of ggml's build. By default it takes all that the processor has; a plainer instruction set has to be spelt out.
 * @throws UnsupportedError for a set that ggml has no option for.
 */
export function buildFlags(isa: InstructionSet | undefined): string[] {
  switch (isa) {
    case undefined:
    case "amx":
    case "neon":
      return ["-DGGML_NATIVE=ON"];
    case "avx2":
      return [
        "-DGGML_NATIVE=OFF",
        ...["SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C"].map((name) => `-DGGML_${name}=ON`),
      ];
    case "avx512":
      return [
        ...buildFlags("avx2"),
        ...["AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16"].map((name) => `-DGGML_${name}=ON`),
      ];
    default:
      throw new UnsupportedError(`peer llama.cpp: no build for ${isa}, expected amx, avx512, avx2 or neon`, {
        hint: "pass --no-peers to measure without it",
      });
  }
}

/**
 * The programs, fetched and compiled if they are not there yet: 70 MB and about ten minutes.
 * @throws UnsupportedError when pip, cmake, a compiler or the network is missing.
 */
export async function ensureLlamaCpp(options: LlamaCppOptions): Promise<LlamaCpp> {
  const flags = buildFlags(options.isa);
  const source = await ensureSource(options);
  const build = join(FOLDER, `build-${VERSION}-${options.isa ?? "native"}`);
  const programs = Object.fromEntries(PROGRAMS.map((name) => [name, join(build, "bin", name)]));
  const marker = join(build, "built.txt");
  if ((await readFile(marker, "utf8").catch(() => "")) !== flags.join(" ")) {
    await compile(source, build, flags, options);
    await writeFile(marker, flags.join(" "));
  }
  return { ...(programs as Record<(typeof PROGRAMS)[number], string>), version: `${PACKAGE} ${VERSION}` };
}

/** The folder of llama.cpp's source. */
async function ensureSource({ notice, signal }: LlamaCppOptions): Promise<string> {
  const unpacked = join(FOLDER, `${PACKAGE}-${VERSION}`);
  const source = join(unpacked, "vendor", "llama.cpp");
  if (await exists(join(source, "CMakeLists.txt"))) return source;
  notice(`fetching the sdist of ${PACKAGE} ${VERSION} from PyPI into ${FOLDER}`);
  await mkdir(FOLDER, { recursive: true });
  const options = { maxBuffer: 2 ** 26, ...(signal ? { signal } : {}) };
  const python = process.platform === "win32" ? "python" : "python3";
  const pip = [
    "-m",
    "pip",
    "download",
    "--disable-pip-version-check",
    "--no-deps",
    "--no-binary",
    PACKAGE,
    "-d",
    FOLDER,
  ];
  const archive = join(FOLDER, `${PACKAGE}-${VERSION}.tar.gz`);
  if (!(await exists(archive))) {
    await attempt("pip download failed", "install Python 3 with pip and check the network", signal, () =>
      run(python, [...pip, `${PACKAGE}==${VERSION}`], options),
    );
  }
  const digest = await sha256(archive);
  if (digest !== SHA256) {
    await rm(archive);
    throw new UnsupportedError(`peer llama.cpp: ${archive} has the SHA-256 ${digest}, expected ${SHA256}`, {
      hint: "try again, or pass --no-peers",
    });
  }
  const temporary = join(FOLDER, `unpacking-${process.pid}`);
  await mkdir(temporary, { recursive: true });
  await attempt("tar failed", "check the free disk space", signal, () =>
    run("tar", ["-xzf", archive, "-C", temporary], options),
  );
  const [top] = await readdir(temporary);
  await mendTiles(join(temporary, top as string, "vendor", "llama.cpp"));
  await rename(join(temporary, top as string), unpacked);
  await rm(temporary, { recursive: true });
  return source;
}

/** What the tile instructions' header of GCC 12 leaves out: that they read memory. */
const TILES_READ_MEMORY = `
#if defined(__GNUC__) && !defined(__clang__)
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg (%0)" : : "r"(config) : "memory")
#undef _tile_loadd
#define _tile_loadd(dst, base, stride) OLMOE_TILE_LOAD(dst, base, stride)
#define OLMOE_TILE_LOAD(dst, base, stride) \\
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #dst : : "r"((const void *) (base)), "r"((long) (stride)) : "memory")
#endif

`;

/**
 * With GCC 12, which takes the stores before them for useless, llama.cpp's kernels for AMX end in a general protection
 * fault. Other compilers compute the same with this as without it.
 */
async function mendTiles(source: string): Promise<void> {
  const path = join(source, "ggml", "src", "ggml-cpu", "amx", "mmq.cpp");
  const text = await readFile(path, "utf8");
  const place = "inline void ggml_tile_config_init(void) {";
  if (!text.includes(place)) {
    throw new UnsupportedError(`peer llama.cpp: ${path} is not as expected: it has no ${place}`, {
      hint: "pass --no-peers to measure without it",
    });
  }
  await writeFile(
    path,
    text.replace(place, () => TILES_READ_MEMORY + place),
  );
}

/** At a low priority, and with the compiler's last lines in the error. */
async function compile(
  source: string,
  build: string,
  flags: readonly string[],
  { notice, signal }: LlamaCppOptions,
): Promise<void> {
  notice(`compiling llama.cpp (${flags.join(" ")}): about ten minutes`);
  const configure = [
    ...["-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", ...flags],
    ...["OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_SERVER", "BUILD_APP"].map((name) => `-DLLAMA_${name}=OFF`),
    "-DLLAMA_BUILD_TOOLS=ON",
    // The programs find their libraries beside them, so that the folder can be moved.
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",
  ];
  const targets = PROGRAMS.flatMap((name) => ["--target", name]);
  const jobs = String(availableParallelism());
  const hint = "install cmake and a C++ compiler";
  await attempt("cmake failed", hint, signal, () => nice(["cmake", ...configure], signal));
  await attempt("the build failed", hint, signal, () =>
    nice(["cmake", "--build", build, ...targets, "-j", jobs], signal),
  );
}

const LAST_CHARACTERS = 2000;

/** Runs a command below other programs. @throws an error that carries the last of what it wrote. */
function nice(command: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("nice", ["-n", "10", ...command], {
      stdio: ["ignore", "pipe", "pipe"],
      ...(signal ? { signal } : {}),
    });
    let last = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        last = (last + text).slice(-LAST_CHARACTERS);
      });
    }
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve() : reject(Object.assign(new Error(), { stderr: last }))));
  });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest("hex");
}

/** Does a step of the set-up; its failure is an error that names the step and shows the end of its output. */
async function attempt(
  fault: string,
  hint: string,
  signal: AbortSignal | undefined,
  step: () => Promise<unknown>,
): Promise<void> {
  try {
    await step();
  } catch (cause) {
    signal?.throwIfAborted();
    const { stderr = "", message = "" } = cause as { stderr?: string; message?: string };
    const reason = (stderr.trim() || message).split("\n").slice(-5).join("\n");
    throw new UnsupportedError(`peer llama.cpp: ${fault}: ${reason}`, { hint: `${hint}, or pass --no-peers`, cause });
  }
}
