#include "payload_matrix.h"

#include <cstdlib>
#include <cstring>

namespace sctool {
namespace {

constexpr std::uint64_t kMostWeights = std::uint64_t{1} << 31;

StoredValues read_values(PayloadReader& reader, std::uint32_t rows, std::uint64_t count) {
  StoredValues values;
  const std::uint8_t kind = reader.number<std::uint8_t>();
  if (kind > static_cast<std::uint8_t>(ValueKind::kQuantised)) refuse("values of kind " + std::to_string(kind));
  values.kind = static_cast<ValueKind>(kind);
  const bool scaled = values.kind == ValueKind::kInt8 || values.kind == ValueKind::kQuantised;
  if (scaled) values.scales = reader.take(std::uint64_t{rows} * 4);
  values.bytes = reader.take(count * (values.kind == ValueKind::kFloat32 ? 4 : values.kind == ValueKind::kFloat16 ? 2 : 1));
  return values;
}

// A row's sum of magnitudes: with inputs of up to 255 its products' sums stay whole numbers that float32 holds.
constexpr std::int64_t kMostOfRow = ((1 << 24) - 1) / 255;

// The scales of a quantised matrix, whose weights stay within what its sums may reach.
void take_scales(Matrix& matrix) {
  matrix.row_scales.resize(matrix.rows);
  std::memcpy(matrix.row_scales.data(), matrix.entries.values.scales, std::size_t{matrix.rows} * 4);
  EntryReader entries = matrix.read();
  SparseRows row;
  for (std::uint32_t r = 0; r < matrix.rows; ++r) {
    entries.next(1, row);
    std::int64_t sum = 0;
    for (std::uint32_t i = 0; i < row.length(0); ++i) sum += std::abs(static_cast<int>(row.values[i]));
    require(sum <= kMostOfRow, "a row of int8 weights whose magnitudes add up to over 65793");
  }
}

// How a matrix is stored, and how it runs.
enum class MatrixKind : std::uint8_t { kDense = 0, kSparse = 1, kSparseRunDense = 2 };

}  // namespace

Matrix read_matrix(PayloadReader& reader, std::uint64_t& room) {
  Matrix matrix;
  const auto kind = static_cast<MatrixKind>(reader.number<std::uint8_t>());
  require(kind <= MatrixKind::kSparseRunDense, "a matrix is neither dense nor sparse");
  matrix.sparse = kind != MatrixKind::kDense;
  matrix.rows = reader.number<std::uint32_t>();
  matrix.columns = reader.number<std::uint32_t>();
  require(matrix.rows >= 1 && matrix.columns >= 1, "a matrix without elements");
  const std::uint64_t size = std::uint64_t{matrix.rows} * matrix.columns;
  require(size <= kMostWeights, "a matrix of more than 2^31 elements");
  if (kind == MatrixKind::kDense) {
    const StoredValues values = read_values(reader, matrix.rows, size);
    require(values.kind != ValueKind::kQuantised, "int8 arithmetic with a matrix that runs dense");
    matrix.values = decode_dense(values, matrix.rows, matrix.columns);
    return matrix;
  }
  StoredEntries& entries = matrix.entries;
  entries.count = reader.number<std::uint32_t>();
  require(entries.count <= size, "more non-zeros than elements");
  entries.k = reader.number<std::uint8_t>();
  require(entries.k <= 30, "a Rice parameter over 30");
  entries.gap_bytes = reader.number<std::uint32_t>();
  entries.gaps = reader.take(entries.gap_bytes);
  require(entries.count <= entries.gap_bytes * 8, "more positions than bits");
  entries.values = read_values(reader, matrix.rows, entries.count);
  if (kind == MatrixKind::kSparseRunDense) {
    require(entries.values.kind != ValueKind::kQuantised, "int8 arithmetic with a matrix that runs dense");
    require(size <= room, "matrices of more than 2^28 elements to expand");
    room -= size;
    matrix.values = decode_expanded(entries, matrix.rows, matrix.columns);
    matrix.sparse = false;
  }
  if (matrix.sparse && entries.values.kind == ValueKind::kQuantised) take_scales(matrix);
  return matrix;
}

}  // namespace sctool
