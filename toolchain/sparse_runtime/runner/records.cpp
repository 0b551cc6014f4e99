#include "records.h"

#include <algorithm>
#include <cstring>

#include "files.h"
#include "marks.h"

namespace sctool::runner {

Records::Records(const sctool_session* session, const Options& options, std::uint32_t batch) : batch_(batch) {
  for (std::uint32_t i = 0; i < sctool_sparse_inputs(session); ++i) {
    sizes_.push_back(sctool_sparse_input_floats(session, i));
    floats_ += sizes_.back();
  }
  for (std::uint32_t i = 0; i < sctool_sparse_outputs(session); ++i) {
    answers_.emplace_back(sctool_sparse_output_floats(session, i) * batch, 0.0f);
    widths_.push_back(sctool_sparse_output_floats(session, i));
  }
  if (options.input.empty()) {
    values_.assign(floats_ * batch, 0.0f);
    count_ = batch;
    return;
  }
  const std::vector<std::uint8_t> bytes = read_file(options.input);
  const std::uint64_t least = options.iterations > 0 ? batch : 1;
  if (floats_ == 0 || bytes.empty() || bytes.size() % (floats_ * sizeof(float)) != 0 ||
      bytes.size() / (floats_ * sizeof(float)) < least) {
    fail(kFiles, options.input + " has " + std::to_string(bytes.size()) + " bytes: no whole records of " +
                     std::to_string(floats_) + " floats, or too few of them");
  }
  count_ = bytes.size() / (floats_ * sizeof(float));
  values_.resize(bytes.size() / sizeof(float));
  std::memcpy(values_.data(), bytes.data(), bytes.size());
}

void Records::call(sctool_session* session, std::uint64_t first, std::uint32_t now) {
  std::vector<const float*> from;
  std::vector<float*> to;
  std::uint64_t begin = 0;
  for (const std::uint64_t size : sizes_) {
    from.push_back(values_.data() + begin + first * size);
    begin += size * count_;
  }
  for (std::vector<float>& answer : answers_) to.push_back(answer.data());
  char error[256] = "";
  PASS_MARK_BEGIN();
  const int failed = sctool_sparse_run(session, now, from.data(), to.data(), error, sizeof error);
  PASS_MARK_END();
  if (failed != 0) fail(kModel, error);
}

void Records::answer_all(sctool_session* session, const std::string& path) {
  std::vector<std::vector<float>> all(answers_.size());
  for (std::uint64_t done = 0; done < count_;) {
    const auto now = static_cast<std::uint32_t>(std::min<std::uint64_t>(batch_, count_ - done));
    call(session, done, now);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto end = answers_[i].begin() + static_cast<std::ptrdiff_t>(widths_[i] * now);
      all[i].insert(all[i].end(), answers_[i].begin(), end);
    }
    done += now;
  }
  if (path.empty()) return;
  std::FILE* file = open_output(path);
  for (const std::vector<float>& answer : all) std::fwrite(answer.data(), sizeof(float), answer.size(), file);
  close_output(file, path);
}

}  // namespace sctool::runner
