// The stand-alone runner: loads one sparse program, runs it, and prints one JSON line of what that cost.
//
//   sctool_runner --model M.pte --input X.f32 --shape 1,28,28 --output Y.f32 [options]
//
// M is an ExecuTorch program whose one part is for the sparse runtime, or a bare payload. X holds float32 records, Y gets
// float32 logits; of several inputs or outputs, all records of the first come first. Without --input the records are
// zeros, without --output no logits are written. --shape, without the batch, is held against the program's.
//   --batch N       records a call, at most the program's largest batch (default 1)
//   --threads N     threads of a call, this one among them (default 1, at most 64)
//   --warm-up N     calls before the first timed one (default 0)
//   --iterations N  timed calls on the first batch (default 0: answer for every record instead)
//   --warm-loads N  loads after the first one (default 0)
//   --isa NAME      avx512, avx2, neon or portable (default: the fastest here)
//   --steps yes     also print each operator's fastest run in nanoseconds
//   --trace PREFIX  write every operator of every timed call to PREFIX.json, in the format of Chrome's traces
// Exit codes: 0 done, 2 wrong usage, 3 a file cannot be read or written, 4 no such instruction set here, 5 the runtime
// refuses the program or the records. The reason is one line on stderr.
#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "files.h"
#include "options.h"
#include "process.h"
#include "program_file.h"
#include "records.h"
#include "sctool_sparse.h"
#include "sha256.h"

namespace sctool::runner {
namespace {

constexpr std::uint32_t kMostSteps = 65536;

// The program's session, loaded from the bytes of the file; `input` gets the sides of its input where the file says them.
sctool_session* load(const std::vector<std::uint8_t>& file, const Options& options, std::vector<std::int64_t>* input) {
  const std::uint8_t* payload = file.data();
  std::size_t size = file.size();
  char error[256] = "";
  try {
    if (is_program_file(payload, size)) {
      ProgramFile found = read_program_file(payload, size);
      payload += found.offset;
      size = found.size;
      *input = std::move(found.input);
    }
  } catch (const ProgramFileError& problem) {
    fail(kModel, options.model + ": " + problem.what());
  }
  const char* isa = options.isa.empty() ? nullptr : options.isa.c_str();
  sctool_session* session =
      sctool_sparse_load_threaded(payload, size, isa, static_cast<std::uint32_t>(options.threads), error, sizeof error);
  if (session == nullptr) fail(kModel, options.model + ": " + error);
  return session;
}

void check_shape(const sctool_session* session, const Options& options, const std::vector<std::int64_t>& input) {
  if (options.shape.empty()) return;
  std::uint64_t floats = 1;
  for (const std::int64_t side : options.shape) {
    floats *= static_cast<std::uint64_t>(side);
    if (floats > std::uint64_t{1} << 31) fail(kUsage, "--shape is too large");
  }
  const bool same = input.empty() || std::vector<std::int64_t>(input.begin() + 1, input.end()) == options.shape;
  if (!same || sctool_sparse_inputs(session) != 1 || sctool_sparse_input_floats(session, 0) != floats) {
    fail(kModel, options.model + ": takes no records of this --shape, but " +
                     std::to_string(sctool_sparse_input_floats(session, 0)) + " floats in another one");
  }
}

// One line an operator of a call, laid end to end from the call's begin on.
void trace_call(std::FILE* file, sctool_session* session, std::int64_t begin, std::vector<std::int64_t>& times) {
  const std::uint32_t steps = sctool_sparse_time_steps(session, times.data(), kMostSteps);
  for (std::uint32_t i = 0; i < std::min(steps, kMostSteps); ++i) {
    std::fprintf(file, "%s\n{\"name\":\"%u %s\",\"cat\":\"operator\",\"ph\":\"X\",\"pid\":0,\"tid\":0,\"ts\":%.3f,\"dur\":%.3f}",
                 std::ftell(file) > 1 ? "," : "", i, sctool_sparse_step_name(session, i), static_cast<double>(begin) / 1e3,
                 static_cast<double>(times[i]) / 1e3);
    begin += times[i];
  }
}

std::vector<std::int64_t> time_calls(sctool_session* session, Records& records, const Options& options,
                                     std::uint32_t batch) {
  std::vector<std::int64_t> samples, times(kMostSteps);
  samples.reserve(static_cast<std::size_t>(options.iterations));
  const std::string path = options.trace + ".json";
  std::FILE* trace = options.trace.empty() ? nullptr : open_output(path);
  if (trace != nullptr) std::fputc('[', trace);
  for (long i = 0; i < options.warm_up; ++i) records.call(session, 0, batch);
  if (options.steps || trace != nullptr) sctool_sparse_time_steps(session, nullptr, 0);
  const std::int64_t origin = now_ns();
  for (long i = 0; i < options.iterations; ++i) {
    const std::int64_t start = now_ns();
    records.call(session, 0, batch);
    samples.push_back(now_ns() - start);
    if (trace != nullptr) trace_call(trace, session, start - origin, times);
  }
  if (trace != nullptr) {
    std::fputs("\n]\n", trace);
    close_output(trace, path);
  }
  return samples;
}

void print_steps(sctool_session* session) {
  std::vector<std::int64_t> times(kMostSteps);
  const std::uint32_t steps = sctool_sparse_time_steps(session, times.data(), kMostSteps);
  print_numbers("step_ns", times.data(), std::min(steps, kMostSteps));
  std::printf(",");
}

int run(const Options& options) {
  if (sctool_sparse_find_isa(options.isa.empty() ? nullptr : options.isa.c_str()) == nullptr) {
    fail(kRuntime, "this processor or build has no " + options.isa);
  }
  const long baseline_kib = status_kib("VmHWM:");
  std::int64_t start = now_ns();
  const std::vector<std::uint8_t> file = read_file(options.model);
  std::vector<std::int64_t> input;
  sctool_session* session = load(file, options, &input);
  const std::int64_t cold_ns = now_ns() - start;
  std::vector<std::int64_t> warm_loads;
  for (long i = 0; i < options.warm_loads; ++i) {
    sctool_sparse_free(session);
    start = now_ns();
    session = load(file, options, &input);
    warm_loads.push_back(now_ns() - start);
  }
  check_shape(session, options, input);
  const std::uint32_t most = sctool_sparse_max_batch(session);
  const auto asked = static_cast<std::uint32_t>(options.batch);
  if (options.iterations > 0 && asked > most) {
    fail(kModel, "--batch is " + std::to_string(asked) + "; the program takes " + std::to_string(most));
  }
  const std::uint32_t batch = std::min(asked, most);
  Records records(session, options, batch);
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  std::vector<std::int64_t> samples;
  if (options.iterations > 0) samples = time_calls(session, records, options, batch);
  else records.answer_all(session, options.output);
  getrusage(RUSAGE_SELF, &after);
  char digest[65];
  sha256_hex(file.data(), file.size(), digest);
  std::printf("{\"schema\":1,\"runner\":\"sparse\",\"runtime_version\":\"" SCTOOL_SPARSE_VERSION "\",\"model_sha256\":\"%s\",",
              digest);
  std::printf("\"isa\":\"%s\",\"threads\":%ld,\"batch\":%u,\"warm_up\":%ld,\"records\":%llu,\"cold_load_ns\":%lld,",
              sctool_sparse_isa(session), options.threads, batch, options.warm_up, static_cast<unsigned long long>(records.count()),
              static_cast<long long>(cold_ns));
  std::printf("\"model_bytes\":%zu,\"weight_bytes\":%llu,", file.size(),
              static_cast<unsigned long long>(sctool_sparse_weight_bytes(session)));
  if (options.steps && options.iterations > 0 && options.trace.empty()) print_steps(session);
  print_numbers("warm_load_ns", warm_loads.data(), static_cast<long>(warm_loads.size()));
  std::printf(",");
  print_numbers("samples_ns", samples.data(), static_cast<long>(samples.size()));
  std::printf(",");
  print_affinity();
  std::printf(",\"vm_hwm_kib\":%ld,\"baseline_vm_hwm_kib\":%ld,\"involuntary_switches\":%ld}\n", status_kib("VmHWM:"),
              baseline_kib, static_cast<long>(after.ru_nivcsw - before.ru_nivcsw));
  sctool_sparse_free(session);
  return std::fflush(stdout) == 0 ? 0 : kFiles;
}

}  // namespace
}  // namespace sctool::runner

int main(int count, char** words) {
  using namespace sctool::runner;
  try {
    return run(parse(count, words));
  } catch (const std::bad_alloc&) {
    fail(kModel, "out of memory");
  }
}
