// Whole files in and out; each failure ends the process with the reason.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace sctool::runner {

std::vector<std::uint8_t> read_file(const std::string& path);
std::FILE* open_output(const std::string& path);
void close_output(std::FILE* file, const std::string& path);

}  // namespace sctool::runner
