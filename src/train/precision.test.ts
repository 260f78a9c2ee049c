import { describe, expect, it } from "vitest";
import { tinyRecipe } from "../../test/tinyRecipe.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { parseRecipe } from "../config/recipe.ts";
import { checkPrecision } from "./precision.ts";

describe("checkPrecision", () => {
  const f32 = createReferenceBackend();
  const bf16 = { ...f32, precision: "bf16" as const };
  const recipe = (precision: "f32" | "bf16" | "auto") => parseRecipe(tinyRecipe({ train: { precision } }));

  it("takes a backend of the recipe's precision, and any where the recipe leaves it open", () => {
    for (const [wanted, backend] of [
      ["f32", f32],
      ["bf16", bf16],
      ["auto", f32],
      ["auto", bf16],
    ] as const) {
      expect(() => checkPrecision(recipe(wanted), backend)).not.toThrow();
    }
  });

  it.each([
    ["bf16", f32],
    ["f32", bf16],
  ] as const)("refuses %s on a backend of the other", (wanted, backend) => {
    expect(() => checkPrecision(recipe(wanted), backend)).toThrow(
      expect.objectContaining({
        message: `train.precision: "${wanted}", and the backend's products are ${backend.precision}`,
        hint: `open it with openBackend({ precision: "${wanted}" })`,
      }),
    );
  });
});
