/// <reference lib="esnext.disposable" preserve="true" />
/** The public surface for pages, `olmoe/browser`: what of the package runs without Node, and nothing else. */

// Models: build, run forward with the routing in view.
export { Graph, type Variable } from "./autograd/graph.ts";
export type { Routing } from "./autograd/ops/moe.ts";

// The wasm backend: kernels and the memory they work on.
export type { Backend, BackendName, InstructionSet } from "./backend/backend.ts";
export { type BrowserBackendOptions, openBackend } from "./backend/browser.ts";
export { type Profile, Profiler, type ProfilerOptions } from "./backend/profile.ts";

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
// Batches of tokens.
export { type Batch, type LoaderCursor, type LoaderOptions, TokenLoader, type TokenSource } from "./data/loader.ts";
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
// Model files in memory: GGUF, opened with its weights as the file holds them.
export { type GgufHeader, type GgufTensorInfo, type GgufValue, parseGguf } from "./formats/gguf.ts";
export { openStoredGguf, type StoredModel, type StoredOptions } from "./formats/stored.ts";
// Routing traces.
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
export { type FileSource, type ModelSource, OlmoeModel, type OpenOptions } from "./infer/browser.ts";
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
export { type EngineHooks, type EngineOptions, LocalEngine } from "./infer/localEngine.ts";
export { LanguageModel, type ModelInfo, type OpenProgress, type TextScore } from "./infer/model.ts";
export type { Perplexity, WindowOptions, WindowProgress } from "./infer/perplexity.ts";
export type { RouterColumn, TokenRouting, TokensRouting } from "./infer/routes.ts";
export { type SamplingOptions, sampleToken, TokenHistory } from "./infer/sampling.ts";
export { tokenLogProbs } from "./infer/score.ts";
export type { TextPiece, TextToken, TokenChoice } from "./infer/textAssembler.ts";
export { type TextFinishReason, TextGeneration, type TextOptions, type TextResult } from "./infer/textGeneration.ts";
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
export { type MassResult, massShares, weightMass } from "./routing/mass.ts";
export type { ResampleOptions } from "./routing/resample.ts";
export type { RoutingResult } from "./routing/results.ts";
export {
  type ChurnResult,
  routerSaturation,
  routingChurn,
  type SaturationResult,
} from "./routing/saturation.ts";
export { type TokenIdResult, tokenIdHistograms, tokenIdRouting } from "./routing/tokenIds.ts";
export { type VocabularyResult, vocabularyShares, vocabularySpecialisation } from "./routing/vocabulary.ts";
export { Arena } from "./tensor/arena.ts";
export { type DType, Tensor } from "./tensor/tensor.ts";
// Tokenizers.
export { tokenizerFromJson } from "./tokenizer/browser.ts";
export { type ChatMessage, ChatTemplate, type TemplateTokens } from "./tokenizer/chatTemplate.ts";
export { StreamDecoder, Tokenizer } from "./tokenizer/tokenizer.ts";
// Training, step by step; what it will take.
export { type EstimateOptions, estimateRun, type RunEstimate } from "./train/estimate.ts";
export { type EvaluateOptions, type Evaluation, evaluate } from "./train/evaluate.ts";
export { type StepBatch, type StepOptions, type StepResult, TrainStep } from "./train/step.ts";
export { type TrainingMemory, type TrainingMemoryOptions, trainingMemory } from "./train/trainingMemory.ts";
