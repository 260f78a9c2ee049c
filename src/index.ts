/// <reference lib="esnext.disposable" preserve="true" />
/** The public surface of the package. Anything not exported here may change without notice. */

// Models: open, build, run forward with the routing in view, save.
export { Graph, type Variable } from "./autograd/graph.ts";
export type { Routing } from "./autograd/ops/moe.ts";

// Backends: kernels and the memory they work on.
export type { Backend, BackendName, InstructionSet } from "./backend/backend.ts";
export { type BackendOptions, openBackend } from "./backend/io.ts";
export { type Profile, Profiler, type ProfilerOptions } from "./backend/profile.ts";
// Data: sources to token files to batches.
export { type DataRecipe, parseDataRecipe } from "./config/data.ts";
export { readDataRecipe } from "./config/dataRecipe.io.ts";
// Model configs and recipes.
export { configFromHuggingFace, configToHuggingFace } from "./config/huggingface.ts";
export {
  checkInterventions,
  type Intervention,
  type InterventionInput,
  type RecordedRoute,
} from "./config/intervention.ts";
export { type ModelConfig, type ModelConfigInput, parseModelConfig } from "./config/model.ts";
export { PRESETS, type PresetName, resolveModel } from "./config/presets.ts";
export { parseRecipe, type Recipe } from "./config/recipe.ts";
export { readSweep, type Sweep, type SweepRun } from "./config/sweep.io.ts";
export { type MergeOptions, mergePlan } from "./data/build/merge.io.ts";
export { makePlan, type PlanOptions } from "./data/build/plan.io.ts";
export { PHASES, type Phase, type Plan } from "./data/build/plan.ts";
export { type RunPlanOptions, type RunProgress, runPlan } from "./data/build/run.io.ts";
export type { Document } from "./data/document.ts";
export type { Filter, Replacement, Verdict } from "./data/filters/filter.ts";
export { bitsPerByte, type HeldOutText } from "./data/heldOut.ts";
export { type IndexOptions, indexTokens } from "./data/indexTokens.io.ts";
export { type Batch, type LoaderCursor, type LoaderOptions, TokenLoader, type TokenSource } from "./data/loader.ts";
export { openHeldOut, openPreparedData, openTrainingSources } from "./data/open.io.ts";
export {
  type PreparedData,
  type PrepareOptions,
  type PrepareProgress,
  prepareData,
  writePlan,
} from "./data/prepare.io.ts";
export { dataStats, type SourceStats } from "./data/stats.io.ts";
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
export { newestCheckpoint } from "./formats/runFolder.io.ts";
export { openStored } from "./formats/stored.io.ts";
export { openStoredGguf, type StoredModel, type StoredOptions } from "./formats/stored.ts";
// Routing traces.
export { openTrace, type TraceFile, TraceWriter, type WriteTraceOptions } from "./formats/trace.io.ts";
export {
  memoryTrace,
  NO_EXPERT,
  TRACE_COLUMNS,
  type Trace,
  type TraceChunk,
  type TraceColumn,
  type TraceHeader,
  type TraceRows,
  type TraceRun,
  type TraceSelection,
} from "./formats/trace.ts";
export { TraceEncoder, type TraceRowsOf } from "./formats/traceEncoder.ts";
export { type ByteSource, type OpenTraceOptions, openTraceBlob, openTraceSource } from "./formats/traceReader.ts";
// A model opened for use: text in, text and numbers out.
export { type ChatAnswer, ChatSession } from "./infer/chatSession.ts";
// Generation and scoring.
export type {
  Engine,
  EngineStats,
  FinishReason,
  GeneratedToken,
  Generation,
  GenerationRequest,
  RoutingOptions,
  ScoreOptions,
  TokenLogprob,
  TokenLogprobs,
  TraceOptions,
} from "./infer/engine.ts";
export {
  type GenerateOptions,
  generate,
} from "./infer/generate.ts";
export { type IntervenedModel, readInterventions } from "./infer/interventions.io.ts";
export { type EngineHooks, type EngineOptions, LocalEngine } from "./infer/localEngine.ts";
export { OlmoeModel, type OpenOptions } from "./infer/model.io.ts";
export { LanguageModel, type ModelInfo, type OpenProgress, type TextScore } from "./infer/model.ts";
export type { Perplexity, WindowOptions, WindowProgress } from "./infer/perplexity.ts";
export type { RouterColumn, TokenRouting, TokensRouting } from "./infer/routes.ts";
export { type SamplingOptions, sampleToken, TokenHistory } from "./infer/sampling.ts";
export { tokenLogProbs } from "./infer/score.ts";
export type { TextPiece, TextToken, TokenChoice } from "./infer/textAssembler.ts";
export { type TextFinishReason, TextGeneration, type TextOptions, type TextResult } from "./infer/textGeneration.ts";
export { type OpenWorkerOptions, openWorkerEngine, type WorkerEngine } from "./infer/worker.io.ts";
export type { OpenContext, OpenEngine } from "./infer/workerProtocol.ts";
export {
  type CachedSequence,
  type CacheType,
  PagePool,
  type PagePoolOptions,
  type SequenceCache,
} from "./model/cache.ts";
export { countParameters, flopsPerToken, forwardFlops, type ParameterCounts, type TokenFlops } from "./model/counts.ts";
export {
  Decoder,
  type DecoderOptions,
  type ForwardOptions,
  type ForwardResult,
  type Observer,
} from "./model/decoder.ts";
export { type NamedTensor, Parameters } from "./model/parameters.ts";
export type { RopeScaling } from "./model/ropeScaling.ts";
export { InterventionPlan } from "./nn/intervention.ts";
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
// Interventions: what each expert is worth, and what tells texts apart.
export {
  type AblatedExpert,
  type Ablation,
  type AblationResult,
  ablationResult,
  type ExpertPlace,
  type LossChange,
  withoutExpert,
} from "./routing/ablation.ts";
// Routing analyses: statistics of traces, each with its definition.
export { type AnalysisName, analyseTraces } from "./routing/allAnalyses.ts";
export {
  type AnalyseOptions,
  type Analysis,
  analyse,
  type Counter,
  type Counting,
  type LayerOptions,
  type ResultHead,
} from "./routing/analysis.ts";
export { type CoactivationResult, coactivation, coactivationShares } from "./routing/coactivation.ts";
export { countOverlaps, type NamedTrace } from "./routing/compare.ts";
export { crossLayerRouting, type PathResult, pathShares } from "./routing/crossLayer.ts";
export {
  type DomainResult,
  domainShares,
  domainSpecialisation,
  type SpecialisationTest,
  shuffledLabels,
  specialisationTest,
} from "./routing/domains.ts";
export { type ExpertCounts, expertCounting } from "./routing/expertCounts.ts";
export { type Figure, figuresOf } from "./routing/figures.ts";
export { type LoadChangeResult, type LoadResult, loadBalance, loadChange, loadShares } from "./routing/load.ts";
export { lossesUnder, scoredTokens } from "./routing/losses.ts";
export { type MassResult, massShares, weightMass } from "./routing/mass.ts";
// Texts as sequences, and their traces.
export { type RecordOptions, recordTrace, type Sequence, type TraceSink } from "./routing/recordTrace.ts";
export { readReleasedCounts } from "./routing/released.io.ts";
export { analyseReleased } from "./routing/releasedResults.ts";
export type { ResampleOptions } from "./routing/resample.ts";
export type { RoutingResult } from "./routing/results.ts";
export {
  type ChurnResult,
  routerSaturation,
  routingChurn,
  type SaturationResult,
} from "./routing/saturation.ts";
export {
  heldOutSequences,
  type SequenceOptions,
  type Sequences,
  sourceOf,
  sourceSequences,
} from "./routing/sequences.io.ts";
export {
  type ExpertUse,
  expertUse,
  steeringInterventions,
  type UseDifference,
  useDifferences,
} from "./routing/steering.ts";
export { type TokenIdResult, tokenIdHistograms, tokenIdRouting } from "./routing/tokenIds.ts";
export { type TraceHeaderOptions, traceHeader } from "./routing/traceHeader.io.ts";
export { type VocabularyResult, vocabularyShares, vocabularySpecialisation } from "./routing/vocabulary.ts";
export { Arena } from "./tensor/arena.ts";
export { type DType, Tensor } from "./tensor/tensor.ts";
export { type ChatMessage, ChatTemplate, type TemplateTokens } from "./tokenizer/chatTemplate.ts";
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
export { train } from "./train/train.io.ts";
export { type TrainingMemory, type TrainingMemoryOptions, trainingMemory } from "./train/trainingMemory.ts";
