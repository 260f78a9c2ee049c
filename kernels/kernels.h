// The plain C ABI of the kernel library: every function TypeScript may call, and nothing else.
//
// The same source is built as a native library (one per instruction set) and as wasm. Both bind these names by the
// list at the end of this file; src/backend/kernels.ts is the same list in TypeScript, and src/backend/reference holds
// a plain implementation of each, which the tests take as the oracle.
//
// Rules that hold for all of them:
//   - pointers are f32 unless typed otherwise; matrices are row-major; `ld*` is a row stride in elements;
//   - callers have checked shapes, ids and bounds: kernels do not check, allocate results or fail;
//   - a null pointer is allowed only where a comment says so; counts may be zero;
//   - results do not depend on the number of threads: each output is computed by one task, and sums over rows are
//     split in chunks of a fixed size that are added in order.
//
// Letters: T tokens (rows), D width, E experts, K experts per token, F expert inner width, V vocabulary,
// R routed rows (at most T*K), H heads, C channels of one head.
#pragma once
#include <stdint.h>

typedef float f32;
typedef double f64;
typedef int32_t i32;
typedef intptr_t isize;

#define OLMOE_API extern "C" __attribute__((visibility("default")))

// ---- machine -------------------------------------------------------------------------------------------------------

// Bits: 1 AVX2+FMA, 2 AVX-512 (F, BW, DQ, VL), 4 AVX512-BF16, 8 AVX512-VNNI, 16 NEON, 32 wasm SIMD128, 64 AMX-BF16
// and AMX-INT8 (with AVX512-BF16 and VNNI, and with the system's leave, which asking for them gets), 128 AVX512-BF16 that
// multiplies faster than f32 multiply-adds do (measured).
OLMOE_API isize olmoe_cpu_features(void);
// Sets the number of threads, the caller included; returns the number in force (1 where threads do not exist).
OLMOE_API isize olmoe_set_threads(isize count);
// Zero-filled, 64-byte aligned memory, or 0 when there is none.
OLMOE_API void* olmoe_allocate(isize bytes);
OLMOE_API void olmoe_release(void* block);
#if defined(__wasm_atomics__)
// The life of worker `index`, from 0; does not return. The host has given the worker a stack and thread-local memory.
OLMOE_API void olmoe_worker(isize index);
// To be called when a worker has ended by a fault: the kernel that waits for it then ends by one, too.
OLMOE_API void olmoe_worker_failed(void);
#endif
// Runs multiply-adds in registers on every thread and returns how many floating-point operations that were.
OLMOE_API f64 olmoe_fma_burst(isize iterations);
// Reads `count` floats on every thread in turn, `repeats` times; returns a sum so that nothing is left out.
OLMOE_API f64 olmoe_read_burst(const f32* x, isize count, isize repeats);

// ---- elementwise ---------------------------------------------------------------------------------------------------

OLMOE_API void olmoe_fill(f32* x, isize count, f32 value);
// out = a + b; out may be a or b.
OLMOE_API void olmoe_add(const f32* a, const f32* b, f32* out, isize count);
// y = min(max(x, -limit), limit) over `rows` rows of `cols`; y may be x.
OLMOE_API void olmoe_clamp_forward(const f32* x, isize ldx, f32* y, isize ldy, isize rows, isize cols, f32 limit);
// dx = dy where |x| <= limit, else 0; dx may be dy. x is the input of the forward.
OLMOE_API void olmoe_clamp_backward(const f32* x, isize ldx, const f32* dy, isize lddy, f32* dx, isize lddx, isize rows,
                                    isize cols, f32 limit);
// Sum of squares in f64, in chunks of a fixed size.
OLMOE_API f64 olmoe_sum_squares(const f32* x, isize count);
// Index of the first element that is not finite, or -1.
OLMOE_API isize olmoe_first_nonfinite(const f32* x, isize count);

// ---- dense products ------------------------------------------------------------------------------------------------

// C[m, n] = op(A)[m, k] * op(B)[k, n], or += when `accumulate`. op transposes when its flag is set, so that A is stored
// [k, m] and B [n, k]. k = 0 gives zeros (or leaves C when accumulating).
OLMOE_API void olmoe_gemm(isize transpose_a, isize transpose_b, isize m, isize n, isize k, const f32* a, isize lda,
                          const f32* b, isize ldb, f32* c, isize ldc, isize accumulate);

// The same with all arithmetic in f32, in a library too whose products round their inputs to bf16 (built with OLMOE_BF16):
// routers choose by small differences.
OLMOE_API void olmoe_gemm_f32(isize transpose_a, isize transpose_b, isize m, isize n, isize k, const f32* a, isize lda,
                              const f32* b, isize ldb, f32* c, isize ldc, isize accumulate);

// ---- embedding -----------------------------------------------------------------------------------------------------

// out[t] = table[ids[t]].
OLMOE_API void olmoe_embedding_forward(const f32* table, const i32* ids, f32* out, isize tokens, isize width);
// dtable[ids[t]] += dout[t], in the order of t.
OLMOE_API void olmoe_embedding_backward(f32* dtable, const i32* ids, const f32* dout, isize tokens, isize width);

// ---- RMSNorm -------------------------------------------------------------------------------------------------------

// y = x * rstd * weight with rstd[t] = 1 / sqrt(mean(x[t]^2) + epsilon).
OLMOE_API void olmoe_rmsnorm_forward(const f32* x, isize ldx, const f32* weight, f32* y, isize ldy, f32* rstd, isize rows,
                                     isize width, f32 epsilon);
// dx = d/dx (added to dx when `accumulate`), dweight += sum over rows; dweight may be null. dx may be dy.
OLMOE_API void olmoe_rmsnorm_backward(const f32* x, isize ldx, const f32* weight, const f32* rstd, const f32* dy,
                                      isize lddy, f32* dx, isize lddx, f32* dweight, isize rows, isize width,
                                      isize accumulate);

// ---- LayerNorm -----------------------------------------------------------------------------------------------------

// y = (x - mean) * rstd * weight + bias with rstd[t] = 1 / sqrt(mean((x[t] - mean[t])^2) + epsilon). weight (ones) and
// bias (zeros) may be null.
OLMOE_API void olmoe_layernorm_forward(const f32* x, isize ldx, const f32* weight, const f32* bias, f32* y, isize ldy,
                                       f32* mean, f32* rstd, isize rows, isize width, f32 epsilon);
// dx = d/dx (added to dx when `accumulate`), dweight and dbias += sums over rows; weight, dweight and dbias may be null.
// dx may be dy.
OLMOE_API void olmoe_layernorm_backward(const f32* x, isize ldx, const f32* weight, const f32* mean, const f32* rstd,
                                        const f32* dy, isize lddy, f32* dx, isize lddx, f32* dweight, f32* dbias,
                                        isize rows, isize width, isize accumulate);

// ---- rotary positions ----------------------------------------------------------------------------------------------

// Rotates each head of x[T, heads * C] in place: dimension i pairs with i + C/2. cosine and sine are [positions, C/2];
// row positions[t] of them belongs to token t. `inverse` rotates back, which is the backward pass.
OLMOE_API void olmoe_rope(f32* x, isize ldx, const i32* positions, const f32* cosine, const f32* sine, isize tokens,
                          isize heads, isize channels, isize inverse);

// ---- attention -----------------------------------------------------------------------------------------------------

// Softmax attention, tiled: memory grows with `keys`, not its square. Row b * queries + i of q is query i of sequence b,
// whose absolute position is keys - queries + i; row b * kv_stride + j of k and v is its key j. Query i sees the keys
// from kv_start[b * queries + i] (0 where kv_start is null) to its own position. kv_heads divides heads; head h reads
// kv head h / (heads / kv_heads). lse[b, h, i] = log of the sum of exp of the scaled scores; may be null.
OLMOE_API void olmoe_attention_forward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv, f32* out,
                                       isize ldo, f32* lse, const i32* kv_start, isize batch, isize queries, isize keys,
                                       isize kv_stride, isize heads, isize kv_heads, isize channels, f32 scale);
// Gradients of the above with queries = keys = kv_stride = length. Overwrites dq, dk and dv.
OLMOE_API void olmoe_attention_backward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv,
                                        const f32* out, isize ldo, const f32* lse, const i32* kv_start, const f32* dout,
                                        isize lddo, f32* dq, isize lddq, f32* dk, isize lddk, f32* dv, isize lddv,
                                        isize batch, isize length, isize heads, isize kv_heads, isize channels,
                                        f32 scale);

// ---- cache of keys and values ----------------------------------------------------------------------------------------

// The cache is cut into pages of 32 tokens; `pages` is one layer's part of it. `type` is GGML's number of how they hold
// values: 0 F32, 1 F16, 8 Q8_0 (a scale for each token and 32 channels of a head). For each kv head a page has its keys,
// [C, 32], then its values, [32, C]; with Q8_0 each of the two is 8-bit values and then scales in f16 (kernels/pages.h). A
// part of one head takes b = 4, 2 or 1 bytes a value and, with Q8_0, 64 * ceil(C / 32) bytes more; a page 2 * kv_heads such
// parts. Kernels may read, and never use, up to 64 bytes beyond the last page.

// Row t of k and v, [T, kv_heads * C], goes to the place `slots[t]`, 32 * page + token.
OLMOE_API void olmoe_cache_store(const f32* k, isize ldk, const f32* v, isize ldv, void* pages, const i32* slots,
                                 isize tokens, isize kv_heads, isize channels, isize type);
// Attention as above of `count` sequences, whose queries are the last of their positions, over cached keys and values.
// sequences[count, 4]: the first row of q, the number of queries, of keys, and the first entry in page_table; page i of a
// sequence, with its keys 32 i .. 32 i + 31, is page_table[first + i]. `queries` and `keys` are the sums over all sequences.
// A row's bits follow from its own query, keys and values alone; with F32 they are olmoe_attention_forward's.
OLMOE_API void olmoe_paged_attention(const f32* q, isize ldq, const void* pages, const i32* page_table,
                                     const i32* sequences, f32* out, isize ldo, isize count, isize queries, isize keys,
                                     isize heads, isize kv_heads, isize channels, isize type, f32 scale);

// ---- SwiGLU --------------------------------------------------------------------------------------------------------

// gate_up[T, 2F] holds gate then up: y[T, F] = silu(gate) * up.
OLMOE_API void olmoe_swiglu_forward(const f32* gate_up, f32* y, isize rows, isize inner);
// Overwrites dgate_up; dgate_up may be gate_up.
OLMOE_API void olmoe_swiglu_backward(const f32* gate_up, const f32* dy, f32* dgate_up, isize rows, isize inner);

// ---- router --------------------------------------------------------------------------------------------------------

// probs = softmax(logits) over E, lse[t] = logsumexp(logits[t]); expert_ids[T, K] the K most probable, most probable
// first, ties to the lower id; expert_weights their probabilities, divided by their sum when `normalise`. With K = 0 it is
// the softmax alone, and both may be null.
OLMOE_API void olmoe_router_forward(const f32* logits, f32* probs, f32* lse, i32* expert_ids, f32* expert_weights,
                                    isize tokens, isize experts, isize top_k, isize normalise);
// dlogits[T, E] from the gradient of the chosen weights and of the two router losses:
//   dweights[T, K] (null: none); prob_grad[E], the gradient of a loss with respect to every token's probs row (null:
//   none), times token_mask[t] (null: 1); z_coef, so that each token adds z_coef * token_mask[t] * d(lse^2).
OLMOE_API void olmoe_router_backward(const f32* probs, const f32* lse, const i32* expert_ids, const f32* expert_weights,
                                     const f32* dweights, const f32* prob_grad, const f32* token_mask, f32 z_coef,
                                     f32* dlogits, isize tokens, isize experts, isize top_k, isize normalise);
// stats[2E + 2] in f64: E counts of (token, slot) pairs sent to each expert, E sums of probabilities, the sum of lse^2
// and the sum of the chosen experts' probabilities; each token weighed by token_mask[t] (null: 1). Ids below 0 count
// for nothing.
OLMOE_API void olmoe_router_stats(const f32* probs, const f32* lse, const i32* expert_ids, const f32* token_mask,
                                  f64* stats, isize tokens, isize experts, isize top_k);

// ---- routing choices ------------------------------------------------------------------------------------------------

// Expert choice: in each of `groups` runs of `length` tokens, each expert takes the `capacity` (at most length) tokens
// with its largest probs[T, E], ties to the earlier token; T = groups * length. Slot t * E + e is of token t and expert e:
// expert_ids holds e and expert_weights the probability where the expert took the token, -1 and 0 elsewhere.
OLMOE_API void olmoe_expert_choice(const f32* probs, i32* expert_ids, f32* expert_weights, isize groups, isize length,
                                   isize experts, isize capacity);
// Copies chosen_ids[T, K] to expert_ids with -1 in the slots that find their expert full: each expert keeps the first
// `capacity` slots in the order of t * K + k. Ids below 0 take no room. Returns how many slots were dropped.
OLMOE_API isize olmoe_drop_overflow(const i32* chosen_ids, i32* expert_ids, isize tokens, isize experts, isize top_k,
                                    isize capacity);
// y = x, and 0 in the slots whose id is below 0; y may be x.
OLMOE_API void olmoe_mask_slots(const i32* expert_ids, const f32* x, f32* y, isize slots);

// ---- mixture of experts --------------------------------------------------------------------------------------------

// Sorts the slots (t * K + k) by expert, keeping token order within one: rows offsets[e] .. offsets[e + 1] belong to
// expert e, row_slot[row] is a row's slot, slot_row[slot] a slot's row. A slot whose id is below 0 gets no row (-1).
OLMOE_API void olmoe_moe_plan(const i32* expert_ids, i32* offsets, i32* row_slot, i32* slot_row, isize tokens,
                              isize experts, isize top_k);
// out[t] = sum over k of weights[t, k] * down_e * (silu(gate_e x[t]) * up_e x[t]), e = expert_ids[t, k].
// gate_up[E, 2F, D] (gate rows first), down[E, D, F]. Keeps hidden[R, 2F], the products before the activation, for the
// backward pass; rows[R, D] is scratch. Cost follows R, not E.
OLMOE_API void olmoe_moe_forward(const f32* x, const f32* gate_up, const f32* down, const f32* weights, const i32* offsets,
                                 const i32* row_slot, const i32* slot_row, f32* hidden, f32* rows, f32* out, isize tokens,
                                 isize experts, isize top_k, isize width, isize inner);
// Gradients of the above. Overwrites dx[T, D] and dweights[T, K], and dgate_up and ddown (each may be null) or, where their
// flags are set, adds to them; uses `hidden` up (it holds its own gradient afterwards); rows[R, D] and activation[R, F] are
// scratch.
OLMOE_API void olmoe_moe_backward(const f32* x, const f32* gate_up, const f32* down, const f32* weights,
                                  const i32* offsets, const i32* row_slot, const i32* slot_row, const f32* dout, f32* hidden,
                                  f32* rows, f32* activation, f32* dx, f32* dweights, f32* dgate_up, f32* ddown,
                                  isize accumulate_gate_up, isize accumulate_down, isize tokens, isize experts, isize top_k, isize width, isize inner);

// ---- stored weights --------------------------------------------------------------------------------------------------

// out[count, columns] = the values of `count` rows that follow each other, in blocks of GGML's type `type` (storage.h);
// a row ends with a block. `rows` may lie anywhere.
OLMOE_API void olmoe_decode_rows(isize type, const void* rows, f32* out, isize count, isize columns);
// The way back: rows = the blocks of x[count, columns], which is finite, as GGML's reference quantisers make them.
OLMOE_API void olmoe_encode_rows(isize type, const f32* x, void* rows, isize count, isize columns);
// out[4] in f64 compares b with a, `count` values each: the sum of (b - a)^2, the sum of a^2, the largest |b - a|, and how
// many of b are not finite.
OLMOE_API void olmoe_difference(const f32* a, const f32* b, f64* out, isize count);

// ---- products with stored weights ----------------------------------------------------------------------------------

// Weights as model files hold them: `type` is GGML's number (storage.h), `parts` has the addresses of matrices of
// [rows, columns] values of that type, which are read in place. With `activations` 0 the products are f32 with the decoded
// weights. With 1, activations are rounded to blocks of 8-bit numbers where the type is one of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
// Q4_K, Q5_K and Q6_K, and products of blocks are whole numbers; other types are computed as with 0. A token's result is the
// same whatever else is in the call. Columns end with a block.

// y[t, p * rows + n] = x[t] . W_p[n].
OLMOE_API void olmoe_stored_linear(isize type, const f64* parts, isize part_count, isize rows, isize columns, const f32* x,
                                   isize ldx, f32* y, isize ldy, isize tokens, isize activations);
// out[t] = W_0[ids[t]], decoded.
OLMOE_API void olmoe_stored_embedding(isize type, const f64* parts, const i32* ids, f32* out, isize tokens, isize width);
// olmoe_moe_forward with gate_up[2E], matrices of [F, D], gate before up of each expert, and down[E], of [D, F]. hidden[R, 2F]
// and rows[R, D] are scratch. Weights of experts without rows are not touched.
OLMOE_API void olmoe_stored_experts(isize gate_up_type, const f64* gate_up, isize down_type, const f64* down, const f32* x,
                                    const f32* weights, const i32* offsets, const i32* row_slot, const i32* slot_row,
                                    f32* hidden, f32* rows, f32* out, isize tokens, isize experts, isize top_k, isize width,
                                    isize inner, isize activations);

// ---- cross-entropy -------------------------------------------------------------------------------------------------

// losses[t] = -log softmax(logits[t])[labels[t]], 0 where the label is below 0. When `scale` is not 0 the logits are
// replaced by scale * d(losses[t])/d(logits[t]), and by zeros where there is no label.
OLMOE_API void olmoe_cross_entropy(f32* logits, const i32* labels, f32* losses, isize tokens, isize vocabulary, f32 scale);

// ---- optimiser -----------------------------------------------------------------------------------------------------

// One AdamW step with decoupled decay; reads grad * grad_scale. bias1 and bias2 are
// 1 - beta^step.
OLMOE_API void olmoe_adamw(f32* param, const f32* grad, f32* m, f32* v, isize count, f32 lr, f32 beta1, f32 beta2, f32 epsilon,
                           f32 weight_decay, f32 bias1, f32 bias2, f32 grad_scale);

// Every function above, for the bindings.
#define OLMOE_KERNELS(X)      \
  X(cpu_features)             \
  X(set_threads)              \
  X(fma_burst)                \
  X(read_burst)               \
  X(fill)                     \
  X(add)                      \
  X(clamp_forward)            \
  X(clamp_backward)           \
  X(sum_squares)              \
  X(first_nonfinite)          \
  X(gemm)                     \
  X(gemm_f32)                 \
  X(embedding_forward)        \
  X(embedding_backward)       \
  X(rmsnorm_forward)          \
  X(rmsnorm_backward)         \
  X(layernorm_forward)        \
  X(layernorm_backward)       \
  X(rope)                     \
  X(attention_forward)        \
  X(attention_backward)       \
  X(cache_store)              \
  X(paged_attention)          \
  X(swiglu_forward)           \
  X(swiglu_backward)          \
  X(router_forward)           \
  X(router_backward)          \
  X(router_stats)             \
  X(expert_choice)            \
  X(drop_overflow)            \
  X(mask_slots)               \
  X(moe_plan)                 \
  X(moe_forward)              \
  X(moe_backward)             \
  X(decode_rows)              \
  X(encode_rows)              \
  X(difference)               \
  X(stored_linear)            \
  X(stored_embedding)         \
  X(stored_experts)           \
  X(cross_entropy)            \
  X(adamw)
