#include "stored_matrix.h"

#include <algorithm>
#include <cstring>

#include "half.h"
#include "payload_error.h"

namespace sctool {
namespace {

constexpr std::uint64_t kNone = std::uint64_t{1} << 62;  // no entry: beyond every row

[[noreturn]] void refuse(std::uint64_t code) {
  throw PayloadError(code == RiceReader::kEnded ? "payload: its positions end early"
                                                : "payload: a position lies outside its matrix");
}

// `count` values from `first` on, all of one row.
void decode(const StoredValues& values, std::uint64_t first, std::uint64_t count, std::uint32_t row, float* to) {
  switch (values.kind) {
    case ValueKind::kFloat32:
      if (count > 0) std::memcpy(to, values.bytes + first * 4, count * 4);
      break;
    case ValueKind::kFloat16:
      for (std::uint64_t i = first; i < first + count; ++i) {
        *to++ = float_of_half(static_cast<std::uint16_t>(values.bytes[2 * i] | values.bytes[2 * i + 1] << 8));
      }
      break;
    case ValueKind::kInt8: {
      float scale;
      std::memcpy(&scale, values.scales + std::size_t{row} * 4, 4);
      for (std::uint64_t i = first; i < first + count; ++i) {
        *to++ = static_cast<float>(static_cast<std::int8_t>(values.bytes[i])) * scale;
      }
      break;
    }
    case ValueKind::kQuantised:
      for (std::uint64_t i = first; i < first + count; ++i) *to++ = static_cast<float>(static_cast<std::int8_t>(values.bytes[i]));
      break;
  }
}

}  // namespace

EntryReader::EntryReader(const StoredEntries& entries, std::uint32_t rows, std::uint32_t columns)
    : RowSource(rows, columns), entries_(entries), gaps_(entries.gaps, entries.gap_bytes, entries.k), pending_(kNone) {
  if (entries_.count == 0) return;
  pending_ = gaps_.next();
  if (pending_ >= RiceReader::kTooLarge) refuse(pending_);
}

void EntryReader::next(std::uint32_t count, SparseRows& to) {
  const std::uint64_t width = columns();
  const std::uint32_t begin = read_;
  std::uint64_t pending = pending_;
  std::uint32_t read = read_;
  RiceReader gaps = gaps_;
  to.firsts.resize(std::size_t{count} + 1);
  to.firsts[0] = 0;
  for (std::uint32_t row = 0; row < count; ++row, pending -= width) {
    const std::uint64_t most = read - begin + std::min<std::uint64_t>(entries_.count - read, width);
    if (to.columns.size() < most) {
      // All that is left, where all is asked for; else twice as much as there is room for.
      const std::uint64_t whole = entries_.count - begin;
      const std::uint64_t doubled = std::max<std::uint64_t>(most, 2 * to.columns.size());
      to.columns.resize(row_ + count == rows() ? whole : std::min(whole, doubled));
    }
    std::uint32_t* columns = to.columns.data() + (read - begin);
    while (pending < width) {
      *columns++ = static_cast<std::uint32_t>(pending);
      if (++read == entries_.count) {
        pending = kNone;
        break;
      }
      const std::uint64_t gap = gaps.next();
      if (gap >= RiceReader::kTooLarge) refuse(gap);
      pending += gap + 1;
    }
    to.firsts[std::size_t{row} + 1] = read - begin;
  }
  if (to.values.size() < read - begin) to.values.resize(to.columns.size());
  for (std::uint32_t row = 0; row < count; ++row) {
    decode(entries_.values, std::uint64_t{begin} + to.firsts[row], to.length(row), row_ + row,
           to.values.data() + to.firsts[row]);
  }
  pending_ = pending;
  read_ = read;
  gaps_ = gaps;
  row_ += count;
  if (row_ == rows() && read_ != entries_.count) refuse(RiceReader::kTooLarge);
}

std::vector<float> decode_dense(const StoredValues& values, std::uint32_t rows, std::uint32_t columns) {
  std::vector<float> dense(std::size_t{rows} * columns);
  for (std::uint32_t row = 0; row < rows; ++row) {
    const std::size_t first = std::size_t{row} * columns;
    decode(values, first, columns, row, dense.data() + first);
  }
  return dense;
}

std::vector<float> decode_expanded(const StoredEntries& entries, std::uint32_t rows, std::uint32_t columns) {
  std::vector<float> dense(std::size_t{rows} * columns, 0.0f);
  RiceReader gaps(entries.gaps, entries.gap_bytes, entries.k);
  std::size_t next = 0;  // the lowest position that may come; a hostile matrix has more empty rows than bytes to read
  for (std::uint32_t entry = 0; entry < entries.count; ++entry) {
    const std::uint64_t gap = gaps.next();
    if (gap >= RiceReader::kTooLarge) refuse(gap);
    if (gap >= dense.size() - next) refuse(RiceReader::kTooLarge);
    next += static_cast<std::size_t>(gap);
    decode(entries.values, entry, 1, static_cast<std::uint32_t>(next / columns), &dense[next]);
    ++next;
  }
  return dense;
}

}  // namespace sctool
