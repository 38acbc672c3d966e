// parallel/paper_route.cpp: a route's end without its sort.
#include "parallel/paper_route.h"

namespace shoal {

void PaperRoute::remember_end(const RoutePlan& plan) {
  rows_received = plan.rows_received;
  rows_routed = plan.rows_routed;
  offsets = plan.offsets;
  is_whole = true;
}

void PaperRoute::fill_end(RoutePlan& plan, DType weights, Stream& stream) const {
  plan.rows_received = rows_received;
  plan.rows_routed = rows_routed;
  plan.offsets = offsets;
  plan.source_row = stream.activation(Shape{rows_routed}, DType::kI32);
  plan.first = stream.activation(Shape{rows_received + 1}, DType::kI32);
  plan.sorted_rows = stream.activation(Shape{rows_routed}, DType::kI32);
  plan.row_weights = stream.activation(Shape{rows_routed}, weights);
}

}  // namespace shoal
