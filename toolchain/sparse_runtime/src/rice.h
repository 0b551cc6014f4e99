// Rice codes (Rice 1979), bits from the lowest of each byte on: q * 2^k + r is q ones, a zero, and r in k bits, lowest first.
#pragma once

#include <cstdint>
#include <cstring>

namespace sctool {

// Reads numbers while the caller knows how many there are. Kept in registers, it takes five cycles a number and a refill for
// every ten or so.
class RiceReader {
 public:
  RiceReader(const std::uint8_t* bytes, std::uint64_t size, unsigned k) : bytes_(bytes), size_(size), mask_((std::uint64_t{1} << k) - 1), k_(k) {}

  static constexpr std::uint64_t kEnded = ~std::uint64_t{0};
  static constexpr std::uint64_t kTooLarge = kEnded - 1;

  // At most 2^36; kEnded where the stream ends before the number does, kTooLarge where it is 2^32 or more.
  std::uint64_t next() {
    std::uint64_t zeros = ~window_;
    // Beyond `have_` lie bits that are true, or zeros: a number is taken only where all of it lies before.
    if (zeros == 0 || first_one(zeros) + 1 + k_ > have_) {
      refill();
      zeros = ~window_;
      if (zeros == 0 || first_one(zeros) + 1 + k_ > have_) return read_bits();
    }
    const unsigned ones = first_one(zeros);
    const std::uint64_t rest = window_ >> (ones + 1);
    const std::uint64_t value = (std::uint64_t{ones} << k_) + (rest & mask_);
    window_ = rest >> k_;
    have_ -= ones + 1 + k_;
    return value;
  }

 private:
  static unsigned first_one(std::uint64_t value) { return static_cast<unsigned>(__builtin_ctzll(value)); }

  // As many whole bytes as there is room for.
  void refill() {
    if (at_ + 8 <= size_) {
      std::uint64_t more;
      std::memcpy(&more, bytes_ + at_, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
      more = __builtin_bswap64(more);
#endif
      window_ |= more << have_;
      at_ += (63 - have_) / 8;
      have_ |= 56;
      return;
    }
    for (; have_ <= 55 && at_ < size_; have_ += 8) window_ |= std::uint64_t{bytes_[at_++]} << have_;
  }

  // A number longer than what fits the window, or the last ones, bit by bit.
  std::uint64_t read_bits() {
    std::uint64_t bit = at_ * 8 - have_, quotient = 0, rest = 0;
    const auto there = [&] { return bit / 8 < size_; };
    const auto take = [&] {
      const std::uint64_t found = bytes_[bit / 8] >> (bit % 8) & 1u;
      ++bit;
      return found;
    };
    for (;;) {
      if (!there()) return kEnded;
      if (take() == 0) break;
      if (++quotient << k_ >> 32 != 0) return kTooLarge;
    }
    for (unsigned i = 0; i < k_; ++i) {
      if (!there()) return kEnded;
      rest |= take() << i;
    }
    at_ = bit / 8;
    window_ = 0;
    have_ = 0;
    refill();
    window_ >>= bit % 8;
    have_ = have_ > bit % 8 ? have_ - static_cast<unsigned>(bit % 8) : 0;
    return (quotient << k_) + rest;
  }

  const std::uint8_t* bytes_;
  std::uint64_t size_, at_ = 0;  // the byte that comes next
  std::uint64_t window_ = 0, mask_;
  unsigned k_, have_ = 0;  // bits of the window
};

}  // namespace sctool
