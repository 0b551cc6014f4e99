#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <new>
#include <vector>

#include "hosted_threads.h"
#include "payload.h"
#include "sctool_sparse.h"
#include "session.h"

struct sctool_session {
  sctool::Session session;
};

namespace {

void say(char* error, std::size_t size, const char* what) {
  if (error == nullptr || size == 0) return;
  std::strncpy(error, what, size - 1);
  error[size - 1] = '\0';
}

}  // namespace

extern "C" {

sctool_session* sctool_sparse_load(const void* payload, size_t size, const char* isa, char* error, size_t error_size) {
  return sctool_sparse_load_threaded(payload, size, isa, 1, error, error_size);
}

sctool_session* sctool_sparse_load_threaded(const void* payload, size_t size, const char* isa, uint32_t threads, char* error,
                                            size_t error_size) {
  const sctool::Kernels* kernels = sctool::find_kernels(isa);
  if (kernels == nullptr) {
    say(error, error_size, "this processor or build has no such instruction set");
    return nullptr;
  }
  if (threads < 1 || threads > SCTOOL_MOST_THREADS) {
    say(error, error_size, "threads go from 1 to 64");
    return nullptr;
  }
  try {
    return new sctool_session{sctool::Session(sctool::read_payload(payload, size), *kernels, threads)};
  } catch (const std::exception& problem) {
    say(error, error_size, problem.what());
    return nullptr;
  }
}

int sctool_sparse_set_threads(uint32_t threads) {
  if (threads < 1 || threads > SCTOOL_MOST_THREADS) return 1;
  sctool::set_hosted_threads(threads);
  return 0;
}

void sctool_sparse_free(sctool_session* session) { delete session; }

int sctool_sparse_run(sctool_session* session, uint32_t batch, const float* const* inputs, float* const* outputs,
                      char* error, size_t error_size) {
  if (batch < 1 || batch > session->session.program().max_batch) {
    say(error, error_size, "a batch outside 1 ... the payload's maximum");
    return 1;
  }
  try {
    session->session.run(batch, inputs, outputs);
    return 0;
  } catch (const std::exception& problem) {
    say(error, error_size, problem.what());
    return 1;
  }
}

uint32_t sctool_sparse_inputs(const sctool_session* session) {
  return static_cast<uint32_t>(session->session.program().inputs.size());
}

uint32_t sctool_sparse_outputs(const sctool_session* session) {
  return static_cast<uint32_t>(session->session.program().outputs.size());
}

uint64_t sctool_sparse_input_floats(const sctool_session* session, uint32_t index) {
  const sctool::Program& program = session->session.program();
  return index < program.inputs.size() ? program.values[program.inputs[index]].elements() : 0;
}

uint64_t sctool_sparse_output_floats(const sctool_session* session, uint32_t index) {
  const sctool::Program& program = session->session.program();
  return index < program.outputs.size() ? program.values[program.outputs[index]].elements() : 0;
}

uint32_t sctool_sparse_max_batch(const sctool_session* session) { return session->session.program().max_batch; }

uint64_t sctool_sparse_weight_bytes(const sctool_session* session) { return session->session.weight_bytes(); }

uint32_t sctool_sparse_time_steps(sctool_session* session, int64_t* ns, uint32_t count) {
  const std::vector<std::int64_t>& times = session->session.step_ns();
  for (std::size_t i = 0; i < times.size() && i < count; ++i) ns[i] = times[i];
  session->session.time_steps();
  return static_cast<uint32_t>(session->session.program().ops.size());
}

const char* sctool_sparse_step_name(const sctool_session* session, uint32_t index) {
  static constexpr const char* names[] = {"",         "convolution",  "linear",      "add",           "activation",
                                          "max pool", "average pool", "global mean", "concatenation", "flatten"};
  const std::vector<sctool::Op>& ops = session->session.program().ops;
  return index < ops.size() ? names[static_cast<std::size_t>(ops[index].kind)] : "";
}

double sctool_sparse_fma_peak(const char* isa) {
  const sctool::Kernels* kernels = sctool::find_kernels(isa);
  if (kernels == nullptr) return 0.0;
  using Clock = std::chrono::steady_clock;
  double best = 0.0;
  volatile float kept = 0.0f;
  for (int run = 0; run < 200; ++run) {
    float out = 0.0f;
    const Clock::time_point begin = Clock::now();
    const double macs = static_cast<double>(kernels->spin(20000, &out));
    const double ns = std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
    kept = out;
    if (ns > 0.0 && macs / ns > best) best = macs / ns;
  }
  (void)kept;
  return best;
}

double sctool_sparse_read_bandwidth(const char* isa, uint64_t bytes) {
  const sctool::Kernels* kernels = sctool::find_kernels(isa);
  if (kernels == nullptr || bytes < sizeof(float)) return 0.0;
  using Clock = std::chrono::steady_clock;
  try {
    const std::vector<float> floats(bytes / sizeof(float), 1.0f);
    const std::size_t repeats = std::max<std::size_t>(1, (std::size_t{1} << 22) / bytes);
    double best = 0.0;
    volatile float kept = 0.0f;
    for (int run = 0; run < 30; ++run) {
      const Clock::time_point begin = Clock::now();
      for (std::size_t r = 0; r < repeats; ++r) kept = kept + kernels->sum(floats.data(), floats.size());
      const double ns = std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
      if (ns > 0.0) best = std::max(best, static_cast<double>(repeats * floats.size() * sizeof(float)) / ns);
    }
    return best;
  } catch (const std::bad_alloc&) {
    return 0.0;
  }
}

const char* sctool_sparse_isa(const sctool_session* session) { return session->session.kernels().name; }

const char* sctool_sparse_find_isa(const char* name) {
  const sctool::Kernels* kernels = sctool::find_kernels(name);
  return kernels == nullptr ? nullptr : kernels->name;
}

}  // extern "C"
