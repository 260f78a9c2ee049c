/** The public surface of the package. Anything not exported here may change without notice. */

// Models: open, build, run forward with the routing in view, save.
export { Graph, type Variable } from "./autograd/graph.ts";
export type { Routing } from "./autograd/ops/moe.ts";

// Backends: kernels and the memory they work on.
export type { Backend, BackendName, InstructionSet } from "./backend/backend.ts";
export { type BackendOptions, openBackend } from "./backend/io.ts";
export { type Profile, Profiler, type ProfilerOptions } from "./backend/profile.ts";

// Model configs and recipes.
export { configFromHuggingFace, configToHuggingFace } from "./config/huggingface.ts";
export { type ModelConfig, type ModelConfigInput, parseModelConfig } from "./config/model.ts";
export { PRESETS, type PresetName, resolveModel } from "./config/presets.ts";
export { parseRecipe, type Recipe } from "./config/recipe.ts";
export { readSweep, type Sweep, type SweepRun } from "./config/sweep.io.ts";
// Data: sources to token files to batches.
export { bitsPerByte, type HeldOutText } from "./data/heldOut.ts";
export { type Batch, type LoaderCursor, type LoaderOptions, TokenLoader, type TokenSource } from "./data/loader.ts";
export { openHeldOut, openPreparedData, openTrainingSources } from "./data/open.io.ts";
export { type PreparedData, type PrepareOptions, type PrepareProgress, prepareData } from "./data/prepare.io.ts";
// Errors: every deliberate one is an OlmoeError with a stable code.
export {
  CheckpointError,
  ConfigError,
  DataError,
  type ErrorDetails,
  OlmoeError,
  ResourceError,
  ShapeError,
  TokenizerError,
  TrainingError,
  UnsupportedError,
  UsageError,
} from "./errors.ts";
// Sweeps: variants of a recipe, trained and compared.
export { runSweep, type SweepEvent, type SweepOptions, type SweepOutcome } from "./experiments/sweep.io.ts";
export type { SweepResult } from "./experiments/sweepResult.ts";
// Model files: GGUF, conversion, models opened with their weights as files hold them.
export { type Conversion, type ConvertOptions, convertModel } from "./formats/convert.io.ts";
export {
  GgufFile,
  type GgufTensor,
  type GgufTensorToWrite,
  type WriteGgufOptions,
  writeGguf,
} from "./formats/gguf.io.ts";
export { type GgufHeader, type GgufTensorInfo, type GgufValue, parseGguf } from "./formats/gguf.ts";
export { type OpenModelOptions, openModel, readParameters, saveModel } from "./formats/model.io.ts";
export {
  type Quantization,
  type QuantizedTensor,
  type QuantizeOptions,
  type QuantizeProgress,
  quantizeModel,
} from "./formats/quantize.io.ts";
export { QUANTIZE_PRESETS, type QuantizePreset } from "./formats/quantizePresets.ts";
export { openStored } from "./formats/stored.io.ts";
export { openStoredGguf, type StoredModel, type StoredOptions } from "./formats/stored.ts";
// Generation and scoring.
export {
  type FinishReason,
  type GeneratedText,
  type GenerateOptions,
  generate,
  generateText,
} from "./infer/generate.ts";
export { type SamplingOptions, sampleToken } from "./infer/sampling.ts";
export { tokenLogProbs } from "./infer/score.ts";
export { KeyValueCache } from "./model/cache.ts";
export { countParameters, flopsPerToken, forwardFlops, type ParameterCounts, type TokenFlops } from "./model/counts.ts";
export { Decoder, type ForwardOptions, type ForwardResult, type Observer } from "./model/decoder.ts";
export { type NamedTensor, Parameters } from "./model/parameters.ts";
// Reports: charts as vega-lite specs, as pictures, and in one self-contained page.
export {
  type BarChartOptions,
  barChart,
  type HeatMapGridOptions,
  type HeatMapOptions,
  heatMap,
  heatMapGrid,
  type LineChartOptions,
  lineChart,
} from "./report/charts.ts";
export { htmlReport, type Report, type ReportSection } from "./report/html.ts";
export { renderPng, renderSvg } from "./report/render.io.ts";
export { Arena } from "./tensor/arena.ts";
export { type DType, Tensor } from "./tensor/tensor.ts";
// Tokenizers.
export { loadTokenizer, type TrainTokenizerOptions, tokenizerFromJson, trainTokenizer } from "./tokenizer/io.ts";
export { StreamDecoder, Tokenizer } from "./tokenizer/tokenizer.ts";
// Training: a whole run, or step by step; what it will take, and where its time goes.
export { type EstimateOptions, estimateRun, type RunEstimate } from "./train/estimate.ts";
export type { EvalContext, EvalHook } from "./train/evalHooks.ts";
export { type EvaluateOptions, type Evaluation, evaluate } from "./train/evaluate.ts";
export { type Metrics, readMetrics } from "./train/metrics.io.ts";
export type { TrainEvent, TrainOptions, TrainOutcome } from "./train/run.io.ts";
export { type StepBatch, type StepOptions, type StepResult, TrainStep } from "./train/step.ts";
export { newestCheckpoint, train } from "./train/train.io.ts";
export { type TrainingMemory, type TrainingMemoryOptions, trainingMemory } from "./train/trainingMemory.ts";
