/* The part of ONNX Runtime's C interface that the runner calls, by position in its table of functions.
 *
 * The positions are those of API version 1, which ONNX Runtime promises never to change (it asserts in its own build that
 * the last of them, ReleaseCustomOpDomain, is number 101). Source: onnxruntime_c_api.h, struct OrtApi.
 */
#ifndef SCTOOL_ORT_API_H
#define SCTOOL_ORT_API_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 1u

typedef struct OrtStatus OrtStatus; /* NULL: success */
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorInfo OrtTensorInfo;
typedef struct OrtAllocator OrtAllocator;

typedef void (*const *OrtApi)(void);

typedef struct {
  OrtApi (*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

enum {
  ORT_LEVEL_FATAL = 4,
  ORT_FLOAT = 1,
  ORT_ARENA_ALLOCATOR = 1,
  ORT_MEMORY_DEFAULT = 0,
  ORT_OPTIMISE_ALL = 99,
};

#define ORT_FUNCTION(number, name, result, ...)                 \
  static inline result (*ort_##name(OrtApi api))(__VA_ARGS__) { \
    return (result(*)(__VA_ARGS__))api[number];                 \
  }

ORT_FUNCTION(2, error_message, const char *, const OrtStatus *)
ORT_FUNCTION(3, create_env, OrtStatus *, int level, const char *log_id, OrtEnv **)
ORT_FUNCTION(8, create_session, OrtStatus *, const OrtEnv *, const void *model, size_t bytes, const OrtSessionOptions *,
             OrtSession **)
ORT_FUNCTION(9, run, OrtStatus *, OrtSession *, const void *options, const char *const *input_names,
             const OrtValue *const *inputs, size_t input_count, const char *const *output_names, size_t output_count,
             OrtValue **outputs)
ORT_FUNCTION(10, create_options, OrtStatus *, OrtSessionOptions **)
ORT_FUNCTION(14, enable_profiling, OrtStatus *, OrtSessionOptions *, const char *prefix)
ORT_FUNCTION(22, set_log_level, OrtStatus *, OrtSessionOptions *, int level)
ORT_FUNCTION(23, set_optimisation, OrtStatus *, OrtSessionOptions *, int level)
ORT_FUNCTION(24, set_threads, OrtStatus *, OrtSessionOptions *, int threads)
ORT_FUNCTION(25, set_inter_threads, OrtStatus *, OrtSessionOptions *, int threads)
ORT_FUNCTION(30, input_count, OrtStatus *, const OrtSession *, size_t *)
ORT_FUNCTION(31, output_count, OrtStatus *, const OrtSession *, size_t *)
ORT_FUNCTION(36, input_name, OrtStatus *, const OrtSession *, size_t index, OrtAllocator *, char **)
ORT_FUNCTION(37, output_name, OrtStatus *, const OrtSession *, size_t index, OrtAllocator *, char **)
ORT_FUNCTION(49, create_tensor, OrtStatus *, const OrtMemoryInfo *, void *data, size_t bytes, const int64_t *shape,
             size_t rank, int type, OrtValue **)
ORT_FUNCTION(51, tensor_data, OrtStatus *, OrtValue *, void **)
ORT_FUNCTION(60, element_type, OrtStatus *, const OrtTensorInfo *, int *)
ORT_FUNCTION(64, element_count, OrtStatus *, const OrtTensorInfo *, size_t *)
ORT_FUNCTION(65, tensor_info, OrtStatus *, const OrtValue *, OrtTensorInfo **)
ORT_FUNCTION(69, create_cpu_memory, OrtStatus *, int allocator_type, int memory_type, OrtMemoryInfo **)
ORT_FUNCTION(78, default_allocator, OrtStatus *, OrtAllocator **)
ORT_FUNCTION(93, release_status, void, OrtStatus *)
ORT_FUNCTION(95, release_session, void, OrtSession *)
ORT_FUNCTION(96, release_value, void, OrtValue *)
ORT_FUNCTION(99, release_tensor_info, void, OrtTensorInfo *)

#endif
