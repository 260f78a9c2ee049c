import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    setupFiles: ["test/setup.ts"],
    reporters: ["default", "./test/summaryReporter.ts"],
    testTimeout: 60_000,
    hookTimeout: 180_000,
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        // These share what they import, which would otherwise take a third of their time; none of them changes it.
        test: { name: "rooms", include: ["{src,bench,explorer}/**/*.test.ts"], isolate: false },
      },
      {
        extends: true,
        // These have a process each: some of them measure its memory.
        test: { name: "whole", include: ["test/**/*.test.ts"] },
      },
    ],
  },
});
