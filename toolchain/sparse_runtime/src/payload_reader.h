// Numbers off the bytes of a payload, none from behind their end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "payload_error.h"
#include "xxh64.h"

namespace sctool {

[[noreturn]] inline void refuse(const std::string& what) { throw PayloadError("payload: " + what); }

inline void require(bool holds, const char* what) {
  if (!holds) refuse(what);
}

class PayloadReader {
 public:
  PayloadReader(const void* bytes, std::size_t size) : at_(static_cast<const std::uint8_t*>(bytes)), left_(size) {}

  const std::uint8_t* take(std::uint64_t count) {
    if (count > left_) refuse("it ends " + std::to_string(count - left_) + " bytes early");
    const std::uint8_t* from = at_;
    at_ += count;
    left_ -= static_cast<std::size_t>(count);
    return from;
  }

  template <typename T>
  T number() {
    T value = 0;
    const std::uint8_t* from = take(sizeof(T));
    for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(from[i]) << (8 * i));
    return value;
  }

  std::size_t left() const { return left_; }

  // Of all bytes that are left.
  std::uint64_t checksum() const { return xxh64(at_, left_); }

 private:
  const std::uint8_t* at_;
  std::size_t left_;
};

}  // namespace sctool
