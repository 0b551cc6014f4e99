#include "row_layouts.h"

#include "sliced_layout.h"
#include "windowed_layout.h"

namespace sctool {

std::unique_ptr<RowLayout> make_row_layout(RowSource& source, const Kernels& kernels) {
  if (kernels.windowed_rows != nullptr) return std::make_unique<WindowedLayout>(source, kernels);
  return std::make_unique<SlicedLayout>(source, kernels);
}

}  // namespace sctool
