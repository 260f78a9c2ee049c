/**
 * Compiles the kernels: native libraries with the machine's C++ compiler, wasm with npm's @yowasp/clang. Results lie in a
 * cache folder named after a digest of sources, flags and compiler, so that nothing is built twice or used stale.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { access, constants, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { UnsupportedError } from "../errors.ts";
import { PACKAGE_ROOT } from "../util/packageRoot.io.ts";
import type { InstructionSet, Precision } from "./backend.ts";
import { INITIAL_PAGES, MAXIMUM_PAGES, PAGE_BYTES, STACK_BYTES, WASM_FILES, type WasmVariant } from "./wasm/library.ts";

const run = promisify(execFile);
const SOURCES = join(PACKAGE_ROOT, "kernels");
const COMPILER = "c++";

const COMMON_FLAGS = [
  "-std=c++17",
  "-O3",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-ffp-contract=fast",
  "-fno-exceptions",
  "-fno-rtti",
  "-fvisibility=hidden",
];

/** AVX-512 is used where it has products of bytes (VNNI), as all processors with it have but the first. */
const AVX512_FLAGS = [
  "-mavx512f",
  "-mavx512bw",
  "-mavx512dq",
  "-mavx512vl",
  "-mavx512vnni",
  "-mfma",
  "-mf16c",
  "-mtune=skylake-avx512",
];

/** Flags of each native instruction set. */
const NATIVE_FLAGS: Partial<Record<InstructionSet, readonly string[]>> = {
  "x86-64": [],
  avx2: ["-mavx2", "-mfma", "-mf16c", "-mtune=haswell"],
  avx512: AVX512_FLAGS,
  amx: [...AVX512_FLAGS, "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
  neon: [],
};

/** What is added for products of bf16. */
const BF16_FLAGS: Partial<Record<InstructionSet, readonly string[]>> = {
  avx512: ["-mavx512bf16", "-DOLMOE_BF16"],
  amx: ["-DOLMOE_BF16"],
};

/** Instruction sets that are built for this kind of processor, plainest first. */
export const NATIVE_VARIANTS: readonly InstructionSet[] =
  process.arch === "x64" ? ["x86-64", "avx2", "avx512", "amx"] : process.arch === "arm64" ? ["neon"] : [];

async function sourceDigest(extra: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const name of (await readdir(SOURCES)).sort()) {
    if (/\.(h|cpp)$/.test(name)) hash.update(name).update(await readFile(join(SOURCES, name)));
  }
  return hash.update(JSON.stringify(extra)).digest("hex").slice(0, 16);
}

/** build/ in the package where it can be written, else the user's cache folder. */
async function cacheDirectory(): Promise<string> {
  const local = join(PACKAGE_ROOT, "build", "kernels");
  try {
    await mkdir(local, { recursive: true });
    await access(local, constants.W_OK);
    return local;
  } catch {
    const user = join(homedir(), ".cache", "olmoe", "kernels");
    await mkdir(user, { recursive: true });
    return user;
  }
}

/** First line of the compiler's version, or undefined where there is no compiler. */
export async function compilerVersion(): Promise<string | undefined> {
  try {
    return (await run(COMPILER, ["--version"])).stdout.split("\n")[0];
  } catch {
    return undefined;
  }
}

/** Runs `make` for a file that is not in the cache yet; the file appears whole or not at all. */
async function cached(name: string, make: (temporary: string) => Promise<void>): Promise<string> {
  const target = join(await cacheDirectory(), name);
  if (existsSync(target)) return target;
  const temporary = `${target}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  try {
    await make(temporary);
    await rename(temporary, target);
  } finally {
    await rm(temporary, { force: true });
  }
  return target;
}

/** A native library of some of the sources, compiled if it is not there. @throws UnsupportedError where it can not be. */
async function buildLibrary(name: string, files: readonly string[], flags: readonly string[]): Promise<string> {
  const version = await compilerVersion();
  if (version === undefined) {
    throw new UnsupportedError(`kernels: no C++ compiler (${COMPILER} is not on the path)`, {
      hint: "install one (Debian: apt install g++, macOS: xcode-select --install), or use the wasm backend",
    });
  }
  const headers = createRequire(import.meta.url)("node-api-headers").include_dir as string;
  const link =
    process.platform === "darwin"
      ? ["-undefined", "dynamic_lookup"]
      : ["-static-libstdc++", "-static-libgcc", "-Wl,-z,nodelete"];
  const options = [...COMMON_FLAGS, ...flags, "-shared", "-fPIC", "-pthread", ...link];
  const digest = await sourceDigest([version, process.platform, process.arch, ...options]);
  return cached(`${name}-${digest}.node`, async (temporary) => {
    const sources = files.map((file) => join(SOURCES, file));
    try {
      await run(COMPILER, [...options, `-I${headers}`, ...sources, "-o", temporary]);
    } catch (cause) {
      const stderr = (cause as { stderr?: string }).stderr?.split("\n").slice(0, 5).join("\n") ?? String(cause);
      throw new UnsupportedError(`kernels: ${version} can not build the ${name} library\n${stderr}`, {
        cause,
        hint: "use the wasm backend (--backend wasm), and please report this",
      });
    }
  });
}

/**
 * Path of the native library for one instruction set, compiled if needed (about half a minute).
 * @throws UnsupportedError where there is no such library or no compiler, or where it fails.
 */
export async function buildNative(isa: InstructionSet, precision: Precision = "f32"): Promise<string> {
  const added = precision === "bf16" ? BF16_FLAGS[isa] : [];
  const flags = NATIVE_FLAGS[isa];
  const name = precision === "f32" ? isa : `${isa}-${precision}`;
  if (flags === undefined || added === undefined || !NATIVE_VARIANTS.includes(isa)) {
    throw new UnsupportedError(`kernels: no native build for ${name} on ${process.platform} ${process.arch}`);
  }
  return buildLibrary(name, ["kernels.cpp", "napi.cpp"], [...flags, ...added]);
}

/**
 * Path of the library that is nothing but the processor's features, compiled if needed (a second).
 * @throws as `buildNative`.
 */
export async function buildFeatures(): Promise<string> {
  return buildLibrary("features", ["features.cpp"], []);
}

/** -O3 would take twice as long and make files half as long again, whose products run no faster, and some slower. */
const WASM_FLAGS = [...COMMON_FLAGS, "-O2", "--target=wasm32-wasip1", "-msimd128", "-mbulk-memory"];

const LINK_FLAGS = [
  "--no-entry",
  "--export-dynamic",
  "-z",
  `stack-size=${STACK_BYTES}`,
  "-L/usr/lib/wasm32-wasip1",
  "-lc",
];

/**
 * The memory is made by the host, so that workers share it; each worker sets its stack and its thread-local memory by
 * itself. libc was compiled for one thread, which the linker is told to allow: kernels.cpp takes only its heap and
 * memory functions, and locks the heap.
 */
const WASM_THREAD_FLAGS = ["-matomics"];
const WASM_THREAD_LINK_FLAGS = [
  "--shared-memory",
  "--import-memory",
  "--no-check-features",
  `--initial-memory=${INITIAL_PAGES * PAGE_BYTES}`,
  `--max-memory=${MAXIMUM_PAGES * PAGE_BYTES}`,
  ...["__stack_pointer", "__wasm_init_tls", "__tls_size", "__tls_align"].map((name) => `--export=${name}`),
];

const WASM_VARIANTS: Readonly<Record<WasmVariant, { readonly compile: string[]; readonly link: string[] }>> = {
  simd128: { compile: WASM_FLAGS, link: LINK_FLAGS },
  "simd128-threads": {
    compile: [...WASM_FLAGS, ...WASM_THREAD_FLAGS],
    link: [...LINK_FLAGS, ...WASM_THREAD_LINK_FLAGS],
  },
};

/** Compiles and links the kernels inside @yowasp/clang's own file system. */
async function compileWasm(variant: WasmVariant): Promise<Uint8Array> {
  const { runLLVM, Exit } = await import("@yowasp/clang");
  const { compile, link } = WASM_VARIANTS[variant];
  const names = (await readdir(SOURCES)).filter((name) => /\.(h|cpp)$/.test(name));
  const tree = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(SOURCES, name), "utf8")] as const)),
  );
  let messages = "";
  const collect = (bytes: Uint8Array | null) => {
    if (bytes) messages += new TextDecoder().decode(bytes);
  };
  const options = { stdout: collect, stderr: collect, fetchProgress: () => {} };
  try {
    const compiled = await runLLVM(["clang++", ...compile, "-c", "kernels.cpp", "-o", "kernels.o"], tree, options);
    const object = compiled?.["kernels.o"] as Uint8Array;
    const linked = await runLLVM(
      ["wasm-ld", "kernels.o", ...link, "-o", "kernels.wasm"],
      { "kernels.o": object },
      options,
    );
    return linked?.["kernels.wasm"] as Uint8Array;
  } catch (error) {
    if (!(error instanceof Exit)) throw error;
    throw new UnsupportedError(`kernels: clang can not build the wasm library (${variant})\n${messages}`);
  }
}

/**
 * Path of the wasm library: the one that was shipped with the package, or compiled here.
 * @throws UnsupportedError where it is not there and @yowasp/clang is not installed.
 */
export async function buildWasm(variant: WasmVariant): Promise<string> {
  const shipped = join(PACKAGE_ROOT, "dist", WASM_FILES[variant]);
  const development = existsSync(join(PACKAGE_ROOT, "node_modules", "@yowasp", "clang"));
  if (!development) {
    if (existsSync(shipped)) return shipped;
    throw new UnsupportedError(`kernels: dist/${WASM_FILES[variant]} is missing`, { hint: "reinstall the package" });
  }
  const { compile, link } = WASM_VARIANTS[variant];
  const digest = await sourceDigest([...compile, ...link]);
  return cached(`${variant}-${digest}.wasm`, async (temporary) => writeFile(temporary, await compileWasm(variant)));
}
