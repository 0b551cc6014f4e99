// The stand-alone runner: loads a payload (or the first one inside a .pte), reads records, writes logits, and prints one
// JSON line.
//
//   sctool_runner --payload FILE [--input FILE] [--output FILE] [--batch N] [--iterations N] [--warm-up N] [--isa NAME]
//                 [--cpu N] [--threads N] [--steps yes]
//
// Inputs and outputs are raw little-endian float32, all records of the first input, then of the next. Without --input the
// records are zeros. Exit 0; 1 for what cannot be loaded or run, 2 for wrong usage.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "sctool_sparse.h"

namespace {

struct Options {
  std::string payload, input, output, isa;
  bool steps = false;
  long batch = 1, iterations = 1, warm_up = 0, cpu = -1, threads = 1;
};

[[noreturn]] void fail(int code, const std::string& what) {
  std::fprintf(stderr, "sctool_runner: %s\n", what.c_str());
  std::exit(code);
}

long number(const char* name, const char* text, long least, long most) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < least || value > most) {
    fail(2, std::string(name) + " is " + text + "; it goes from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return value;
}

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; i += 2) {
    const std::string name = words[i];
    if (i + 1 == count) fail(2, name + " needs a value");
    const char* value = words[i + 1];
    if (name == "--payload") options.payload = value;
    else if (name == "--input") options.input = value;
    else if (name == "--output") options.output = value;
    else if (name == "--isa") options.isa = value;
    else if (name == "--steps") options.steps = std::string(value) == "yes";
    else if (name == "--batch") options.batch = number("--batch", value, 1, 1 << 20);
    else if (name == "--iterations") options.iterations = number("--iterations", value, 1, 10000000);
    else if (name == "--warm-up") options.warm_up = number("--warm-up", value, 0, 10000000);
    else if (name == "--threads") options.threads = number("--threads", value, 1, SCTOOL_MOST_THREADS);
    else if (name == "--cpu") options.cpu = number("--cpu", value, 0, 1023);
    else fail(2, "unknown option " + name);
  }
  if (options.payload.empty()) fail(2, "--payload FILE is missing");
  return options;
}

std::vector<std::uint8_t> read_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) fail(1, "cannot read " + path);
  std::vector<std::uint8_t> bytes;
  std::uint8_t buffer[65536];
  for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, file)) > 0;) {
    bytes.insert(bytes.end(), buffer, buffer + got);
  }
  const bool broken = std::ferror(file) != 0;
  std::fclose(file);
  if (broken) fail(1, "cannot read " + path);
  return bytes;
}

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string status_field(const char* name) {
  std::FILE* file = std::fopen("/proc/self/status", "r");
  if (file == nullptr) return "";
  char line[512];
  std::string found;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, name, std::strlen(name)) != 0) continue;
    found = line + std::strlen(name);
    found.erase(0, found.find_first_not_of(" \t"));
    found.erase(found.find_last_not_of(" \n") + 1);
    break;
  }
  std::fclose(file);
  return found;
}

void pin(long cpu) {
#if defined(__linux__)
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) fail(1, "cannot run on cpu " + std::to_string(cpu) + " alone");
#else
  if (cpu >= 0) fail(1, "--cpu works on Linux only");
#endif
}

}  // namespace

int main(int count, char** words) {
  const Options options = parse(count, words);
  pin(options.cpu);
  const std::vector<std::uint8_t> payload = read_file(options.payload);
  char error[256] = "";
  const std::int64_t begin = now_ns();
  sctool_session* session = sctool_sparse_load_threaded(
      payload.data(), payload.size(), options.isa.empty() ? nullptr : options.isa.c_str(),
      static_cast<std::uint32_t>(options.threads), error, sizeof error);
  const std::int64_t load_ns = now_ns() - begin;
  if (session == nullptr) fail(1, options.payload + ": " + error);
  const auto batch = static_cast<std::uint32_t>(options.batch);
  if (batch > sctool_sparse_max_batch(session)) {
    fail(1, "--batch is " + std::to_string(batch) + "; the payload takes " + std::to_string(sctool_sparse_max_batch(session)));
  }
  std::vector<std::vector<float>> held;
  std::vector<const float*> inputs;
  std::vector<float*> outputs;
  std::uint64_t wanted = 0;
  for (std::uint32_t i = 0; i < sctool_sparse_inputs(session); ++i) {
    held.emplace_back(sctool_sparse_input_floats(session, i) * batch, 0.0f);
    wanted += held.back().size() * sizeof(float);
  }
  if (!options.input.empty()) {
    const std::vector<std::uint8_t> bytes = read_file(options.input);
    if (bytes.size() != wanted) {
      fail(1, options.input + " has " + std::to_string(bytes.size()) + " bytes; " + std::to_string(batch) +
                  " records take " + std::to_string(wanted));
    }
    std::size_t at = 0;
    for (std::vector<float>& input : held) {
      std::memcpy(input.data(), bytes.data() + at, input.size() * sizeof(float));
      at += input.size() * sizeof(float);
    }
  }
  const std::size_t input_count = held.size();
  for (std::uint32_t i = 0; i < sctool_sparse_outputs(session); ++i) {
    held.emplace_back(sctool_sparse_output_floats(session, i) * batch, 0.0f);
  }
  for (std::size_t i = 0; i < held.size(); ++i) {
    if (i < input_count) inputs.push_back(held[i].data());
    else outputs.push_back(held[i].data());
  }
  std::vector<std::int64_t> samples;
  for (long i = 0; i < options.warm_up + options.iterations; ++i) {
    if (i == options.warm_up && options.steps) sctool_sparse_time_steps(session, nullptr, 0);
    const std::int64_t start = now_ns();
    if (sctool_sparse_run(session, batch, inputs.data(), outputs.data(), error, sizeof error) != 0) fail(1, error);
    if (i >= options.warm_up) samples.push_back(now_ns() - start);
  }
  if (!options.output.empty()) {
    std::FILE* file = std::fopen(options.output.c_str(), "wb");
    bool written = file != nullptr;
    for (std::size_t i = input_count; i < held.size() && written; ++i) {
      written = std::fwrite(held[i].data(), sizeof(float), held[i].size(), file) == held[i].size();
    }
    written = (file == nullptr || std::fclose(file) == 0) && written;
    if (!written) fail(1, "cannot write " + options.output);
  }
  const std::string peak = status_field("VmHWM:"), affinity = status_field("Cpus_allowed_list:");
  const std::string switches = status_field("nonvoluntary_ctxt_switches:");
  std::printf("{\"schema\": 1, \"isa\": \"%s\", \"payload_bytes\": %zu, \"weight_bytes\": %llu, \"batch\": %u, \"threads\": %ld, "
              "\"warm_up\": %ld, \"load_ns\": %lld, ",
              sctool_sparse_isa(session), payload.size(),
              static_cast<unsigned long long>(sctool_sparse_weight_bytes(session)), batch, options.threads, options.warm_up,
              static_cast<long long>(load_ns));
  std::printf("\"vm_hwm_kib\": %s, \"affinity\": \"%s\", \"involuntary_switches\": %s, \"samples_ns\": [",
              peak.empty() ? "null" : std::to_string(std::atol(peak.c_str())).c_str(),
              affinity.empty() ? "unknown" : affinity.c_str(), switches.empty() ? "null" : switches.c_str());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    std::printf("%s%lld", i == 0 ? "" : ", ", static_cast<long long>(samples[i]));
  }
  std::printf("]");
  if (options.steps) {
    std::vector<std::int64_t> times(65536);
    const std::uint32_t steps = sctool_sparse_time_steps(session, times.data(), 65536);
    for (std::uint32_t i = 0; i < steps; ++i) {
      std::printf("%s%lld", i == 0 ? ", \"step_ns\": [" : ", ", static_cast<long long>(times[i]));
    }
    if (steps > 0) std::printf("]");
  }
  std::printf("}\n");
  sctool_sparse_free(session);
  return 0;
}
