// core/base/log.cpp: spdlog's default logger, set up once per process.
#include "core/base/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace shoal {

void set_up_log(int rank, int num_ranks) {
  auto logger = std::make_shared<spdlog::logger>("shoal", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern(num_ranks > 1 && rank > 0 ? fmt::format("[rank {}] %^%l%$: %v", rank) : "%^%L%$ %v");
  logger->set_level(rank == 0 ? spdlog::level::info : spdlog::level::warn);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace shoal
