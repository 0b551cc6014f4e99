/* The sparse runtime as a C interface. Nothing here throws; a session may run in one thread at a time, and different
 * sessions in different threads. */
#ifndef SCTOOL_SPARSE_H
#define SCTOOL_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SCTOOL_EXPORT __attribute__((visibility("default")))
#else
#define SCTOOL_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sctool_session sctool_session;

/* Reads a payload; the bytes are free to go afterwards. `isa` is "avx512", "avx2", "neon", "portable", or null for the
 * fastest here. Null on failure, with the reason in error[0 .. error_size). */
SCTOOL_EXPORT sctool_session* sctool_sparse_load(const void* payload, size_t size, const char* isa, char* error,
                                                 size_t error_size);
/* The same with as many threads as `threads`, 1 to SCTOOL_MOST_THREADS, the caller's among them. They wait, asleep, until
 * sctool_sparse_run; outputs differ by rounding alone. */
#define SCTOOL_MOST_THREADS 64
SCTOOL_EXPORT sctool_session* sctool_sparse_load_threaded(const void* payload, size_t size, const char* isa,
                                                          uint32_t threads, char* error, size_t error_size);
/* Threads of the sessions that ExecuTorch and ONNX Runtime load from now on, in the whole process; 1 before the first call.
 * 0, or 1 where `threads` is not 1 to SCTOOL_MOST_THREADS. */
SCTOOL_EXPORT int sctool_sparse_set_threads(uint32_t threads);
SCTOOL_EXPORT void sctool_sparse_free(sctool_session* session);

/* Inputs and outputs are dense float32 [batch, ...], in the payload's order. 0, or 1 with the reason in error. */
SCTOOL_EXPORT int sctool_sparse_run(sctool_session* session, uint32_t batch, const float* const* inputs,
                                    float* const* outputs, char* error, size_t error_size);

SCTOOL_EXPORT uint32_t sctool_sparse_inputs(const sctool_session* session);
SCTOOL_EXPORT uint32_t sctool_sparse_outputs(const sctool_session* session);
/* Floats of one record of an input or output. */
SCTOOL_EXPORT uint64_t sctool_sparse_input_floats(const sctool_session* session, uint32_t index);
SCTOOL_EXPORT uint64_t sctool_sparse_output_floats(const sctool_session* session, uint32_t index);
SCTOOL_EXPORT uint32_t sctool_sparse_max_batch(const sctool_session* session);
/* Bytes of all weights as they lie in memory, positions and biases included. */
SCTOOL_EXPORT uint64_t sctool_sparse_weight_bytes(const sctool_session* session);
/* From now on the fastest run of every operator is kept, in nanoseconds; the first `count` go to ns. Returns their
 * number. */
SCTOOL_EXPORT uint32_t sctool_sparse_time_steps(sctool_session* session, int64_t* ns, uint32_t count);
/* What an operator is: "convolution", "linear", ...; "" beyond the last. */
SCTOOL_EXPORT const char* sctool_sparse_step_name(const sctool_session* session, uint32_t index);
/* The most multiply-accumulates a nanosecond that this thread does from registers, the best of many short runs. */
SCTOOL_EXPORT double sctool_sparse_fma_peak(const char* isa);
/* The most bytes a nanosecond that this thread reads of as many bytes, over and over. 0 without that memory. */
SCTOOL_EXPORT double sctool_sparse_read_bandwidth(const char* isa, uint64_t bytes);
/* The instruction set that runs it. */
SCTOOL_EXPORT const char* sctool_sparse_isa(const sctool_session* session);
/* The fastest instruction set of this processor, or, with a name, that name where it runs here, else null. */
SCTOOL_EXPORT const char* sctool_sparse_find_isa(const char* name);

/* A block of a sparse package (.spte, docs/spte.md) into `size` bytes at `out`. `header`: size, word, positions, values,
 * position_k, exponent_k, highest, shift, stored, position_unary, exponent_unary. 0, or 1 where header and streams do not
 * fit one another or are damaged; `out` then holds anything. */
SCTOOL_EXPORT int sctool_sparse_decode_block(const uint64_t* header, const void* streams, size_t stored, void* out,
                                             size_t size);

#ifdef __cplusplus
}
#endif
#endif
