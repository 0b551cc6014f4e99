/* Loads one .onnx file in ONNX Runtime, runs it, and prints one JSON line of what that cost.
 *
 *   ort_runner --library libonnxruntime.so.1 --model M.onnx --input X.f32 --shape 64 --output Y.f32 [options]
 *
 * X.f32 holds float32 records of `--shape` (comma-separated, without the batch), Y.f32 gets float32 logits.
 *   --batch N       records a call (default 1)
 *   --threads N     threads of the runtime (default 1)
 *   --warm-up N     calls before the first timed one (default 0)
 *   --iterations N  timed calls on the first batch (default 0: answer for every record instead)
 *   --warm-loads N  loads after the first one (default 0)
 *   --trace PREFIX  write the runtime's own trace of every call and layer to PREFIX_DATE.json (the times above then hold
 *                   what tracing costs)
 * Exit codes: 0 done, 2 wrong usage, 3 a file cannot be read or written, 4 the runtime is missing or too old,
 * 5 the runtime refuses the model or the records. The reason is one line on stderr.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

#include "marks.h"
#include "ort_api.h"
#include "process.h"
#include "sha256.h"

enum { USAGE = 2, FILES = 3, RUNTIME = 4, MODEL = 5, MAX_RANK = 8 };

typedef struct {
  const char *library, *model, *input, *output, *trace;
  int64_t shape[MAX_RANK + 1]; /* [0] is the batch */
  size_t rank;
  long batch, threads, warm_up, iterations, warm_loads;
} Request;

typedef struct {
  uint8_t *data;
  size_t bytes;
} Buffer;

typedef struct {
  OrtApi api;
  OrtEnv *env;
  OrtSessionOptions *options;
  OrtMemoryInfo *memory;
  const char *version;
} Runtime;

typedef struct {
  OrtSession *session;
  char *input, *output;
} Model;

static void fail(int code, const char *what, const char *reason) {
  fprintf(stderr, "ort_runner: %s: %s\n", what, reason);
  exit(code);
}

static void check(OrtApi api, OrtStatus *status, const char *what) {
  if (status) fail(MODEL, what, ort_error_message(api)(status));
}

static long parse_number(const char *name, const char *text, long least, long most) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno || *end || end == text || value < least || value > most) fail(USAGE, name, text);
  return value;
}

static void parse_shape(Request *request, const char *text) {
  request->rank = 1;
  while (*text) {
    char *end;
    long size = strtol(text, &end, 10);
    if (end == text || size < 1 || size > 1 << 24 || request->rank > MAX_RANK || (*end && (*end != ',' || !end[1])))
      fail(USAGE, "--shape", text);
    request->shape[request->rank++] = size;
    text = *end ? end + 1 : end;
  }
}

static Request parse(int argc, char **argv) {
  Request request = {.batch = 1, .threads = 1, .rank = 0};
  for (int i = 1; i < argc; i += 2) {
    const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (!value) fail(USAGE, name, "has no value");
    if (!strcmp(name, "--library")) request.library = value;
    else if (!strcmp(name, "--model")) request.model = value;
    else if (!strcmp(name, "--input")) request.input = value;
    else if (!strcmp(name, "--output")) request.output = value;
    else if (!strcmp(name, "--trace")) request.trace = value;
    else if (!strcmp(name, "--shape")) parse_shape(&request, value);
    else if (!strcmp(name, "--batch")) request.batch = parse_number(name, value, 1, 1 << 20);
    else if (!strcmp(name, "--threads")) request.threads = parse_number(name, value, 1, 256);
    else if (!strcmp(name, "--warm-up")) request.warm_up = parse_number(name, value, 0, 1 << 20);
    else if (!strcmp(name, "--iterations")) request.iterations = parse_number(name, value, 0, 1 << 20);
    else if (!strcmp(name, "--warm-loads")) request.warm_loads = parse_number(name, value, 0, 1000);
    else fail(USAGE, name, "is no option");
  }
  if (!request.library || !request.model || !request.input || !request.output || request.rank < 2)
    fail(USAGE, "--library, --model, --input, --shape, --output", "all are needed");
  return request;
}

static Buffer read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail(FILES, path, strerror(errno));
  long size = ftell(file);
  rewind(file);
  Buffer buffer = {malloc(size > 0 ? (size_t)size : 1), (size_t)(size > 0 ? size : 0)};
  if (size < 0 || !buffer.data || fread(buffer.data, 1, buffer.bytes, file) != buffer.bytes) fail(FILES, path, "cannot be read whole");
  fclose(file);
  return buffer;
}

/* Its telemetry, on unless this is set, is a thread beside the calls, a database in the cache folder and uploads: what is timed
 * and counted here would follow their state, and names of models would leave the machine. */
static void forbid_telemetry(void) {
  if (setenv("ORT_DISABLE_TELEMETRY", "1", 1)) fail(RUNTIME, "ORT_DISABLE_TELEMETRY", strerror(errno));
}

static Runtime open_runtime(const Request *request) {
  forbid_telemetry();
  void *library = dlopen(request->library, RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(RUNTIME, request->library, dlerror());
  const OrtApiBase *(*get_base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
  if (!get_base) fail(RUNTIME, request->library, "is no ONNX Runtime");
  Runtime runtime = {.version = get_base()->GetVersionString(), .api = get_base()->GetApi(ORT_API_VERSION)};
  OrtApi api = runtime.api;
  if (!api) fail(RUNTIME, request->library, "has no API version 1");
  check(api, ort_create_env(api)(ORT_LEVEL_FATAL, "sctool", &runtime.env), "environment");
  check(api, ort_create_options(api)(&runtime.options), "options");
  check(api, ort_set_log_level(api)(runtime.options, ORT_LEVEL_FATAL), "options");
  check(api, ort_set_optimisation(api)(runtime.options, ORT_OPTIMISE_ALL), "options");
  check(api, ort_set_threads(api)(runtime.options, (int)request->threads), "options");
  check(api, ort_set_inter_threads(api)(runtime.options, 1), "options");
  if (request->trace) check(api, ort_enable_profiling(api)(runtime.options, request->trace), "trace");
  check(api, ort_create_cpu_memory(api)(ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT, &runtime.memory), "memory");
  return runtime;
}

static Model load(const Runtime *runtime, Buffer file, const char *path, int64_t *load_ns) {
  OrtApi api = runtime->api;
  Model model;
  size_t inputs = 0, outputs = 0;
  OrtAllocator *allocator;
  int64_t start = now_ns();
  check(api, ort_create_session(api)(runtime->env, file.data, file.bytes, runtime->options, &model.session), path);
  *load_ns = now_ns() - start;
  check(api, ort_input_count(api)(model.session, &inputs), path);
  check(api, ort_output_count(api)(model.session, &outputs), path);
  if (inputs != 1 || outputs < 1) fail(MODEL, path, "does not have one input and logits as its first output");
  check(api, ort_default_allocator(api)(&allocator), path);
  check(api, ort_input_name(api)(model.session, 0, allocator, &model.input), path);
  check(api, ort_output_name(api)(model.session, 0, allocator, &model.output), path);
  return model;
}

/* One call on `records` records at `data`; the logits' bytes are at *logits until `*value` is released. */
static size_t call(const Runtime *runtime, const Model *model, Request *request, void *data, size_t bytes, int64_t records,
                   OrtValue **value, void **logits) {
  OrtApi api = runtime->api;
  OrtValue *input = NULL;
  OrtTensorInfo *info;
  int type = 0;
  size_t count = 0;
  request->shape[0] = records;
  check(api, ort_create_tensor(api)(runtime->memory, data, bytes, request->shape, request->rank, ORT_FLOAT, &input), "input");
  const char *inputs[] = {model->input}, *outputs[] = {model->output};
  *value = NULL;
  PASS_MARK_BEGIN();
  OrtStatus *status = ort_run(api)(model->session, NULL, inputs, (const OrtValue *const *)&input, 1, outputs, 1, value);
  PASS_MARK_END();
  check(api, status, "run");
  check(api, ort_tensor_info(api)(*value, &info), "output");
  check(api, ort_element_type(api)(info, &type), "output");
  check(api, ort_element_count(api)(info, &count), "output");
  if (type != ORT_FLOAT) fail(MODEL, request->model, "does not answer in float32");
  check(api, ort_tensor_data(api)(*value, logits), "output");
  ort_release_tensor_info(api)(info);
  ort_release_value(api)(input);
  return count * sizeof(float);
}

static void answer(const Runtime *runtime, const Model *model, Request *request, Buffer records, size_t record_bytes) {
  FILE *file = fopen(request->output, "wb");
  if (!file) fail(FILES, request->output, strerror(errno));
  size_t count = records.bytes / record_bytes;
  for (size_t done = 0; done < count;) {
    size_t now = count - done < (size_t)request->batch ? count - done : (size_t)request->batch;
    OrtValue *value;
    void *logits;
    size_t bytes = call(runtime, model, request, records.data + done * record_bytes, now * record_bytes, (int64_t)now, &value, &logits);
    if (fwrite(logits, 1, bytes, file) != bytes) fail(FILES, request->output, strerror(errno));
    ort_release_value(runtime->api)(value);
    done += now;
  }
  if (fclose(file)) fail(FILES, request->output, strerror(errno));
}

static void time_calls(const Runtime *runtime, const Model *model, Request *request, Buffer records, size_t record_bytes, int64_t *samples) {
  for (long i = -request->warm_up; i < request->iterations; i++) {
    OrtValue *value;
    void *logits;
    int64_t start = now_ns();
    call(runtime, model, request, records.data, (size_t)request->batch * record_bytes, request->batch, &value, &logits);
    int64_t taken = now_ns() - start;
    ort_release_value(runtime->api)(value);
    if (i >= 0) samples[i] = taken;
  }
}

static const char *instruction_set(void) {
#if defined(__aarch64__)
  unsigned long has = getauxval(AT_HWCAP), more = getauxval(AT_HWCAP2);
  return (more >> 13) & 1 ? "aarch64+i8mm" : (has >> 22) & 1 ? "aarch64+sve" : (has >> 20) & 1 ? "aarch64+dotprod" : "aarch64";
#elif defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") ? "x86_64+avx512f" : __builtin_cpu_supports("avx2") ? "x86_64+avx2" : "x86_64";
#else
  return "unknown";
#endif
}

int main(int argc, char **argv) {
  Request request = parse(argc, argv);
  size_t record_bytes = sizeof(float);
  for (size_t i = 1; i < request.rank; i++) {
    record_bytes *= (size_t)request.shape[i];
    if (record_bytes > (size_t)1 << 31) fail(USAGE, "--shape", "is too large");
  }
  Buffer records = read_file(request.input);
  if (records.bytes == 0 || records.bytes % record_bytes || records.bytes / record_bytes < (request.iterations ? (size_t)request.batch : 1))
    fail(FILES, request.input, "does not hold whole records, or too few of them");
  int64_t *samples = calloc((size_t)request.iterations + 1, sizeof *samples);
  int64_t *warm_loads = calloc((size_t)request.warm_loads + 1, sizeof *warm_loads);
  if (!samples || !warm_loads) fail(FILES, "samples", "out of memory");
  Runtime runtime = open_runtime(&request);
  long baseline_kib = status_kib("VmHWM:");
  int64_t cold_start = now_ns(), load_ns, read_ns;
  Buffer file = read_file(request.model);
  read_ns = now_ns() - cold_start;
  Model model = load(&runtime, file, request.model, &load_ns);
  int64_t cold_ns = read_ns + load_ns;
  for (long i = 0; i < request.warm_loads; i++) {
    ort_release_session(runtime.api)(model.session);
    model = load(&runtime, file, request.model, &warm_loads[i]);
  }
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  if (request.iterations) time_calls(&runtime, &model, &request, records, record_bytes, samples);
  else answer(&runtime, &model, &request, records, record_bytes);
  getrusage(RUSAGE_SELF, &after);
  char digest[65];
  sha256_hex(file.data, file.bytes, digest);
  printf("{\"schema\":1,\"runner\":\"onnxruntime\",\"runtime_version\":\"%s\",\"model_sha256\":\"%s\",", runtime.version, digest);
  printf("\"isa\":\"%s\",\"threads\":%ld,\"batch\":%ld,\"warm_up\":%ld,", instruction_set(), request.threads, request.batch, request.warm_up);
  printf("\"records\":%zu,\"cold_load_ns\":%lld,", records.bytes / record_bytes, (long long)cold_ns);
  print_numbers("warm_load_ns", warm_loads, request.warm_loads);
  printf(",");
  print_numbers("samples_ns", samples, request.iterations);
  printf(",");
  print_affinity();
  printf(",\"vm_hwm_kib\":%ld,\"baseline_vm_hwm_kib\":%ld,\"involuntary_switches\":%ld}\n", status_kib("VmHWM:"), baseline_kib,
         after.ru_nivcsw - before.ru_nivcsw);
  fflush(NULL);
  if (request.trace) ort_release_session(runtime.api)(model.session); /* writes the trace */
  _exit(ferror(stdout) ? FILES : 0); /* the runtime's own end costs time and, in some versions, crashes */
}
