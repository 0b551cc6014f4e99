#pragma once

#include <stdexcept>

namespace sctool {

// The bytes are no payload, or one that this reader does not take. The message says what was found.
class PayloadError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace sctool
