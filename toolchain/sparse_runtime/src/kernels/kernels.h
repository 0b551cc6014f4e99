// The inner loops, one table of them for each instruction set.
//
// Everything here is plain pointers and integers: the files that are compiled for one instruction set must not hold an
// inline function that another file could pick up (a std::min with AVX-512 inside would end an older processor).
#pragma once

#include <cstddef>
#include <cstdint>

namespace sctool {

enum class Activation : std::uint8_t { kNone = 0, kRelu = 1, kRelu6 = 2, kHardSwish = 3 };

// What happens to a finished sum: + bias[row], + residual, activation.
struct Epilogue {
  const float* bias;       // [rows], or null
  const float* residual;   // like the output, or null
  std::size_t residual_stride;
  Activation activation;
};

// output[r][p] (+)= sum over the entries e of row r: values[e] * input[offsets[e] * unit + p], 0 <= p < vectors * width.
struct SparseTile {
  const float* values;
  const std::uint16_t* offsets;
  // [rows]: which row comes next, and its entries. Rows of as many entries follow each other, so that the processor
  // foresees where their loops end: a third less time for a 4 x 4 map at density 0.05, a fifth less for a ResNet-18.
  const std::uint16_t* order;
  const std::uint16_t* counts;
  std::uint32_t rows;
  const float* input;
  std::size_t unit;
  float* output;
  std::size_t output_stride;
  std::uint32_t vectors;
  bool first;  // start from the bias instead of from output
  bool last;   // residual and activation
  Epilogue epilogue;
};

// As SparseTile, but the sums of one column of a kernel, made over unshifted pixels, that move by one pixel before they are
// added: output[r][p] += keep[p] ? sum[r][p - shift] : 0, shift -1 or 1. All vectors fit one register tile.
struct ShiftedTile {
  SparseTile tile;
  std::int32_t shift;
  const std::int32_t* keep;  // [vectors][width of a vector]: all ones or zero
};

// As SparseTile with every entry there, kDenseRows rows at a time: the weight of row r of group g at tap t is
// weights[g * group_step + t * tap_step + r * row_step].
constexpr std::uint32_t kDenseRows = 4;
struct DenseTile {
  const float* weights;
  std::size_t group_step, tap_step, row_step;
  const std::uint16_t* offsets;  // [taps]
  std::uint32_t taps;
  std::uint32_t rows;
  const float* input;
  std::size_t unit;
  float* output;
  std::size_t output_stride;
  std::uint32_t vectors;
  bool first;
  bool last;
  Epilogue epilogue;
};

// One channel, one filter: output[p] = sum over taps of weights[t] * input[offsets[t] + p].
struct DepthwiseTile {
  const float* weights;
  const std::uint32_t* offsets;
  std::uint32_t taps;
  const float* input;
  float* output;
  std::uint32_t vectors;
  float bias;
  const float* residual;
  Activation activation;
};

// One channel [height][width] into planes, one for each (column of the kernel, row phase): plane[row][x] is the input at
// row (first_row + row) * stride + phase - pad_top and column x * stride + column - pad_left, zero outside.
// Writes up to one vector beyond the last plane and reads up to two vectors around the channel.
struct PackPlanes {
  const float* channel;
  std::int32_t height, width;
  std::int32_t kernel_width, phases, stride, pad_top, pad_left;
  std::int32_t first_row, rows, out_width;
  float* planes;
};

// How every tap of a kernel reads a channel whose planes are as large as the output: pixel p of tap t is
// source[p + shifts[t]], or zero where the mask says that it lies outside. Masks are vectors of 32-bit all-ones and zeros,
// each kept once.
struct Shifts {
  const std::int32_t* shifts;      // [taps]
  const std::uint16_t* mask_of;    // [vectors][taps]
  const std::int32_t* masks;       // [masks][width of a vector]
  std::uint32_t taps, vectors;
};

// [taps][vectors] of one channel.
struct PackTaps {
  Shifts shifts;
  const float* source;
  float* to;
};

// One channel [height][width], both even, into its four planes of half the sides: even rows and columns, even rows and
// odd columns, odd rows ... `plane` floats apart. Writes up to a vector beyond each.
struct SplitPhases {
  const float* channel;
  std::uint32_t height, width;
  float* planes;
  std::size_t plane;
};

// One filter over one channel.
struct DepthwiseShifted {
  Shifts shifts;
  const float* weights;
  const float* source;
  float* output;
  float bias;
  const float* residual;
  Activation activation;
};

// One 3 x 3 filter over one channel [height][width], stride 1 or (halved) 2, one pixel of padding: the cases that mobile
// networks are made of. Where a row is no whole number of vectors, writes up to a vector beyond the output's end.
struct DepthwiseThree {
  const float* weights;  // [9]
  const float* channel;
  std::int32_t height, width;
  float* output;
  float bias;
  const float* residual;
  Activation activation;
};

// Rows of a sliced matrix: kSlice rows side by side, [slice][step][row of the slice]; absent entries are value 0, column
// `columns`, where the input holds a zero.
constexpr std::uint32_t kSlice = 8;
struct SlicedRows {
  const float* values;
  const std::uint16_t* columns;
  const std::uint16_t* steps;    // [slices]
  const std::uint32_t* rows;     // [slices * kSlice]: which output row; ~0 for none
  std::uint32_t slices;
  const float* input;
  float* output;
  const float* bias;  // [rows], or null
  Activation activation;
};

// Rows of a windowed matrix, `groups` of sixteen at a time: in step s, lane l of group g takes value [s][g][l] times
// input[begins[s] + (pick & 63)], pick = picks[s][g][l]; kAbsent in a pick: nothing, and the value is zero. Where lookups in
// registers of 16 floats exist, this takes a quarter of the time of sliced rows.
constexpr std::uint32_t kWindow = 64, kGroup = 16, kAbsent = 0x80, kGroups = 8;
struct WindowedRows {
  const float* values;           // on a cache line
  const std::uint8_t* picks;
  const std::uint16_t* begins;   // [steps], multiples of 16; the window's 64 floats can be read
  std::uint32_t steps, groups;   // at most kGroups
  const float* input;
  float* sums;                   // [groups][16]: what to start from, then the finished sums
  bool finite;                   // no infinity or NaN in the input
  Activation activation;
};

// Dense [rows][columns] times one record; weights row by row.
struct DenseRows {
  const float* weights;
  std::uint32_t rows, columns;
  const float* input;
  float* output;
  const float* bias;
  Activation activation;
};

struct Kernels {
  const char* name;
  std::uint32_t width;        // floats in a vector
  std::uint32_t accumulators; // vectors of one register tile
  std::uint32_t shifted_accumulators;  // the same of a ShiftedTile; 0: packing shifted planes is faster
  void (*sparse_tile)(const SparseTile&);
  void (*shifted_tile)(const ShiftedTile&);
  void (*dense_tile)(const DenseTile&);
  void (*depthwise_tile)(const DepthwiseTile&);
  void (*pack_planes)(const PackPlanes&);
  void (*pack_taps)(const PackTaps&);
  void (*split_phases)(const SplitPhases&);
  void (*depthwise_shifted)(const DepthwiseShifted&);
  void (*depthwise_three)(const DepthwiseThree&);
  void (*depthwise_three_halved)(const DepthwiseThree&);
  void (*transpose)(const float* from, std::size_t rows, std::size_t columns, std::size_t from_stride, float* to,
                    std::size_t to_stride);
  void (*copy)(const float* from, float* to, std::size_t vectors);
  void (*sliced_rows)(const SlicedRows&);
  void (*windowed_rows)(const WindowedRows&);  // null where sliced rows are the way
  bool (*all_finite)(const float* from, std::uint32_t count);
  void (*dense_rows)(const DenseRows&);
  void (*add)(const float* a, const float* b, float* out, std::size_t count, Activation activation);
  void (*activate)(const float* in, float* out, std::size_t count, Activation activation);
  float (*sum)(const float* in, std::size_t count);
  // `rounds` of multiply-adds on registers alone; returns their number.
  std::uint64_t (*spin)(std::uint32_t rounds, float* out);
};

const Kernels& portable_kernels();
#if defined(SCTOOL_HAVE_X86_KERNELS)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
#endif

// The fastest table that this processor runs, or the one called `name`; null where it has none of that name.
const Kernels* find_kernels(const char* name);

}  // namespace sctool
