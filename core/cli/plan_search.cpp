// core/cli/plan_search.cpp: layouts ranked, with a line of progress for who waits for it.
#include "core/cli/plan_search.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>

#include "core/base/atomic_file.h"
#include "core/plan/search.h"
#include "core/plan/smallest_cluster.h"
#include "core/train/progress.h"

namespace shoal {

namespace {

// On a terminal, once it takes longer than a glance; gone when the search is over.
class ProgressLine {
 public:
  ~ProgressLine() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }
  void tell(int64_t left, int64_t planned) {
    if (!terminal_ || std::chrono::steady_clock::now() - begin_ < std::chrono::seconds(2)) return;
    fmt::print(stderr, "\r\033[K{} layouts left to look at, {} steps played", format_count(left), planned);
    std::fflush(stderr);
    shown_ = true;
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  bool shown_ = false;
};

std::vector<int> parse_num_nodes(const std::vector<std::string>& words) {
  std::vector<int> sizes;
  for (const std::string& word : words) {
    int size = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), size);
    if (error != std::errc() || end != word.data() + word.size() || size < 1 || size > 1'000'000) {
      fail("--num-nodes is {}; expected numbers of nodes, such as --num-nodes 16 32 64", word);
    }
    sizes.push_back(size);
  }
  return sizes;
}

[[noreturn]] void refuse(const SearchResult& result, const SearchSpace& space, const LoadedConfig& loaded) {
  ClusterConfig cluster = space.cluster();
  cluster.set_num_nodes(result.num_nodes.back());
  const SmallestCluster smallest = smallest_cluster(loaded, cluster);
  if (smallest.num_nodes == cluster.num_nodes()) {
    fail("none of the layouts looked at fits; this one does, raise --effort, or give some of its knobs:\n  {}",
         smallest.overrides);
  }
  const std::string least =
      fmt::format("model '{}' fits no {} GPUs of cluster '{}': {} needs {} of {} a GPU", result.model,
                  cluster.num_nodes() * cluster.gpus_per_node(), result.cluster, space.name_of(result.smallest),
                  format_bytes(static_cast<int64_t>(result.smallest_bytes)),
                  format_bytes(static_cast<int64_t>(result.memory_limit_bytes)));
  if (smallest.num_nodes == 0) {
    fail("{};\n  nor was a larger cluster of such nodes found that it fits, with this batch and what else was given",
         least);
  }
  fail("{};\n  it fits {} such nodes{} (cluster.num_nodes={}): {}", least, smallest.num_nodes,
       smallest.is_proven ? ", and not half as many" : "", smallest.num_nodes, smallest.name);
}

}  // namespace

void add_search_options(Command command, SearchChoices& choices) {
  command.choice("--by", choices.by, "With --search: what counts, time of a step or money (GPU-hours)",
                 {"time", "money"});
  command.option("--num-nodes", choices.num_nodes,
                 "With --search: sizes of the cluster to compare, instead of its own");
  command.option("--results", choices.results, "With --search: how many layouts to rank", {.low = 1, .high = 1000});
  command.option("--effort", choices.effort,
                 "With --search: how much to play, as a multiple of what takes some seconds",
                 {.low = 0.01, .high = 1e6});
}

void check_no_search_choices(const SearchChoices& choices) {
  const SearchChoices none;
  const auto refuse_option = [](const char* option) { fail("{} is for a search; add --search", option); };
  if (choices.by != none.by) refuse_option("--by");
  if (!choices.num_nodes.empty()) refuse_option("--num-nodes");
  if (choices.results != none.results) refuse_option("--results");
  if (choices.effort != none.effort) refuse_option("--effort");
}

void search_plans(const LoadedConfig& loaded, const ClusterConfig& cluster, const SearchChoices& choices, double tokens,
                  bool json, const std::string& write) {
  const SearchSpace space(loaded, cluster, parse_num_nodes(choices.num_nodes));
  SearchOptions options{.by = choices.by == "time" ? SearchBy::kTime : SearchBy::kMoney,
                        .num_results = choices.results,
                        .tokens = tokens};
  options.effort *= choices.effort;
  SearchResult result;
  {
    ProgressLine line;
    options.progress = [&](int64_t left, int64_t planned) { line.tell(left, planned); };
    result = search_layouts(space, options);
  }
  if (result.best.empty()) refuse(result, space, loaded);
  fmt::print("{}", json ? to_json(result, space) : describe(result, space));
  if (!write.empty()) write_text_file(write, to_json(result, space));
}

}  // namespace shoal
