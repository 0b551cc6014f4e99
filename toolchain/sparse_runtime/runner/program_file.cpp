#include "program_file.h"

#include <cstring>
#include <string>

namespace sctool {
namespace {

constexpr char kBackend[] = "SctoolSparse";
constexpr std::uint8_t kTensor = 5, kDelegateCall = 2;  // numbers in the unions of values and of instructions
constexpr std::int8_t kFloat = 6;                       // number of float32 among the scalar types
constexpr std::uint64_t kMostNumbers = 64, kLongestName = 256;

// A flatbuffer whose every offset is held against its bytes (FlatBuffers internals, "Tables" and "Vectors").
class Bytes {
 public:
  Bytes(const std::uint8_t* bytes, std::size_t size) : bytes_(bytes), size_(size) {}

  std::size_t size() const { return size_; }

  template <typename T>
  T read(std::uint64_t position) const {
    if (position > size_ || size_ - position < sizeof(T)) throw ProgramFileError("an offset leaves the file");
    T value;
    std::memcpy(&value, bytes_ + position, sizeof value);
    return value;
  }

  std::uint64_t follow(std::uint64_t position) const { return position + read<std::uint32_t>(position); }

  std::string text(std::uint64_t position, std::uint64_t count) const {
    if (position > size_ || size_ - position < count) throw ProgramFileError("a text leaves the file");
    return std::string(reinterpret_cast<const char*>(bytes_ + position), static_cast<std::size_t>(count));
  }

 private:
  const std::uint8_t* bytes_;
  std::size_t size_;
};

struct Vector {
  std::uint64_t begin = 0, count = 0;
};

// A table; its fields go by their number in the schema, a union taking two: its type, then its value.
class Table {
 public:
  Table(const Bytes& bytes, std::uint64_t position) : bytes_(&bytes), position_(position) {
    const std::int64_t back = bytes.read<std::int32_t>(position);
    const std::int64_t fields = static_cast<std::int64_t>(position) - back;
    if (fields < 0) throw ProgramFileError("an offset leaves the file");
    fields_ = static_cast<std::uint64_t>(fields);
    length_ = bytes.read<std::uint16_t>(fields_);
  }

  template <typename T>
  T number(unsigned field) const {
    const std::uint64_t place = find(field);
    return place == 0 ? T{} : bytes_->read<T>(place);
  }

  Table table(unsigned field) const {
    const std::uint64_t place = find(field);
    if (place == 0) throw ProgramFileError("field " + std::to_string(field) + " of a table is missing");
    return Table(*bytes_, bytes_->follow(place));
  }

  Vector vector(unsigned field, std::uint64_t size) const {
    const std::uint64_t place = find(field);
    if (place == 0) return {};
    const std::uint64_t at = bytes_->follow(place), count = bytes_->read<std::uint32_t>(at);
    if (count * size > bytes_->size() || at + 4 + count * size > bytes_->size()) {
      throw ProgramFileError("a list leaves the file");
    }
    return {at + 4, count};
  }

  Table item(const Vector& list, std::uint64_t index) const {
    if (index >= list.count) throw ProgramFileError("an index leaves its list");
    return Table(*bytes_, bytes_->follow(list.begin + 4 * index));
  }

  std::vector<std::int32_t> numbers(unsigned field) const {
    const Vector list = vector(field, 4);
    if (list.count > kMostNumbers) throw ProgramFileError("it has " + std::to_string(list.count) + " inputs or sides");
    std::vector<std::int32_t> found;
    for (std::uint64_t i = 0; i < list.count; ++i) found.push_back(bytes_->read<std::int32_t>(list.begin + 4 * i));
    return found;
  }

  std::string text(unsigned field) const {
    const Vector letters = vector(field, 1);
    if (letters.count > kLongestName) throw ProgramFileError("a name is too long");
    return bytes_->text(letters.begin, letters.count);
  }

 private:
  std::uint64_t find(unsigned field) const {
    const std::uint64_t slot = 4 + 2 * static_cast<std::uint64_t>(field);
    if (slot + 2 > length_) return 0;
    const auto offset = bytes_->read<std::uint16_t>(fields_ + slot);
    return offset == 0 ? 0 : position_ + offset;
  }

  const Bytes* bytes_;
  std::uint64_t position_, fields_ = 0, length_ = 0;
};

Table find_forward(const Table& root) {
  const Vector plans = root.vector(1, 4);
  for (std::uint64_t i = 0; i < plans.count; ++i) {
    const Table plan = root.item(plans, i);
    if (plan.text(0) == "forward") return plan;
  }
  throw ProgramFileError("it has no method forward");
}

// The one delegate that is all of `plan`.
Table find_delegate(const Table& plan) {
  const Vector delegates = plan.vector(7, 4), operators = plan.vector(6, 4), chains = plan.vector(5, 4);
  if (operators.count > 0 || delegates.count != 1 || chains.count != 1) {
    throw ProgramFileError("it has parts outside the sparse runtime: " + std::to_string(operators.count) +
                           " operators, " + std::to_string(delegates.count) + " delegates");
  }
  const Table delegate = plan.item(delegates, 0);
  if (delegate.text(0) != kBackend) throw ProgramFileError("it is no program for the sparse runtime");
  const Table chain = plan.item(chains, 0);
  const Vector instructions = chain.vector(2, 4);
  if (instructions.count != 1) throw ProgramFileError("it does more than call the sparse runtime");
  const Table instruction = chain.item(instructions, 0);
  if (instruction.number<std::uint8_t>(0) != kDelegateCall) throw ProgramFileError("it calls no delegate");
  const Table call = instruction.table(1);
  std::vector<std::int32_t> ends = plan.numbers(3);
  const std::vector<std::int32_t> outputs = plan.numbers(4);
  if (ends.size() != 1 || outputs.size() != 1) throw ProgramFileError("it does not have one input and one output");
  ends.push_back(outputs[0]);
  if (call.number<std::int32_t>(0) != 0 || call.numbers(1) != ends) {
    throw ProgramFileError("its inputs and outputs are not those of the sparse runtime");
  }
  return delegate;
}

std::vector<std::int64_t> read_input(const Table& plan) {
  const std::int32_t input = plan.numbers(3).at(0);
  if (input < 0) throw ProgramFileError("an index leaves its list");
  const Table value = plan.item(plan.vector(2, 4), static_cast<std::uint64_t>(input));
  if (value.number<std::uint8_t>(0) != kTensor) throw ProgramFileError("its input is no tensor");
  const Table tensor = value.table(1);
  if (tensor.number<std::int8_t>(0) != kFloat) throw ProgramFileError("its input is not float32");
  std::vector<std::int64_t> sides;
  for (const std::int32_t side : tensor.numbers(2)) sides.push_back(side);
  if (sides.size() < 2) throw ProgramFileError("its input has no batch");
  return sides;
}

}  // namespace

bool is_program_file(const std::uint8_t* bytes, std::size_t size) {
  return size >= 8 && (std::memcmp(bytes + 4, "ET12", 4) == 0 || std::memcmp(bytes + 4, "ET13", 4) == 0);
}

ProgramFile read_program_file(const std::uint8_t* bytes, std::size_t size) {
  if (!is_program_file(bytes, size)) throw ProgramFileError("it is no ExecuTorch program");
  const Bytes file(bytes, size);
  const Table root(file, file.follow(0));
  const Table plan = find_forward(root);
  const Table data = find_delegate(plan).table(1);
  ProgramFile found;
  found.input = read_input(plan);
  const auto index = data.number<std::uint32_t>(1);
  std::uint64_t offset = 0, count = 0;
  if (data.number<std::int8_t>(0) == 1) {  // in a segment, after the flatbuffer: the file's extended header says where
    const Table segment = root.item(root.vector(4, 4), index);
    const bool extended = size >= 32 && std::memcmp(bytes + 8, "eh00", 4) == 0;
    const std::uint64_t base = extended ? file.read<std::uint64_t>(24) : 0;
    offset = segment.number<std::uint64_t>(0);
    count = segment.number<std::uint64_t>(1);
    if (base > size || offset > size - base) throw ProgramFileError("a segment leaves the file");
    offset += base;
  } else {
    const Vector inside = root.item(root.vector(3, 4), index).vector(0, 1);
    offset = inside.begin;
    count = inside.count;
  }
  if (count == 0 || offset > size || count > size - offset) throw ProgramFileError("its payload leaves the file");
  found.offset = static_cast<std::size_t>(offset);
  found.size = static_cast<std::size_t>(count);
  return found;
}

}  // namespace sctool
