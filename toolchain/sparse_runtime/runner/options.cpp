#include "options.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "sctool_sparse.h"

namespace sctool::runner {

void fail(Exit code, const std::string& what) {
  std::fprintf(stderr, "sctool_runner: %s\n", what.c_str());
  std::exit(code);
}

namespace {

long number(const std::string& name, const char* text, long least, long most) {
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < least || value > most) {
    fail(kUsage, name + " is " + text + "; it goes from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return value;
}

std::vector<std::int64_t> sides(const char* text) {
  std::vector<std::int64_t> found;
  for (std::string rest = text; found.size() < 8;) {
    const std::size_t comma = rest.find(',');
    found.push_back(number("--shape", rest.substr(0, comma).c_str(), 1, 1 << 24));
    if (comma == std::string::npos) return found;
    rest.erase(0, comma + 1);
  }
  fail(kUsage, "--shape has more than 8 sides");
}

}  // namespace

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; i += 2) {
    const std::string name = words[i];
    if (i + 1 == count) fail(kUsage, name + " needs a value");
    const char* value = words[i + 1];
    if (name == "--model") options.model = value;
    else if (name == "--input") options.input = value;
    else if (name == "--output") options.output = value;
    else if (name == "--isa") options.isa = value;
    else if (name == "--trace") options.trace = value;
    else if (name == "--steps") options.steps = std::string(value) == "yes";
    else if (name == "--shape") options.shape = sides(value);
    else if (name == "--batch") options.batch = number(name, value, 1, 1 << 20);
    else if (name == "--threads") options.threads = number(name, value, 1, SCTOOL_MOST_THREADS);
    else if (name == "--warm-up") options.warm_up = number(name, value, 0, 1 << 20);
    else if (name == "--iterations") options.iterations = number(name, value, 0, 10000000);
    else if (name == "--warm-loads") options.warm_loads = number(name, value, 0, 1000);
    else fail(kUsage, name + " is no option");
  }
  if (options.model.empty()) fail(kUsage, "--model FILE is missing");
  return options;
}

}  // namespace sctool::runner
