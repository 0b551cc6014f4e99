#include "files.h"

#include <cerrno>
#include <cstring>

#include "options.h"

namespace sctool::runner {

std::vector<std::uint8_t> read_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) fail(kFiles, "cannot read " + path + ": " + std::strerror(errno));
  std::vector<std::uint8_t> bytes;
  std::uint8_t buffer[65536];
  for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, file)) > 0;) {
    bytes.insert(bytes.end(), buffer, buffer + got);
  }
  const bool broken = std::ferror(file) != 0;
  std::fclose(file);
  if (broken) fail(kFiles, "cannot read " + path);
  return bytes;
}

std::FILE* open_output(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) fail(kFiles, "cannot write " + path + ": " + std::strerror(errno));
  return file;
}

void close_output(std::FILE* file, const std::string& path) {
  const bool broken = std::ferror(file) != 0;
  if (std::fclose(file) != 0 || broken) fail(kFiles, "cannot write " + path + ": " + std::strerror(errno));
}

}  // namespace sctool::runner
