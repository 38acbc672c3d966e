// tests/parallel/message_tag_test.cpp: tags say which round and call a message belongs to, within the bits that MPI
// gives.
#include "parallel/message_tag.h"

#include <catch2/catch.hpp>

#include <set>

namespace shoal {

TEST_CASE("a tag holds its round, verb and type, in as many bits as there are") {
  const CollectiveCall call =
      following({}, {.verb = Verb::kReduceScatterRows, .dtype = DType::kE4M3, .count = 77, .rows = 5});
  for (const int largest : {32767, 0x7fffff, 0x7fffffff, 100'000}) {
    const MessageTags tags(largest);
    for (const int64_t round : {0, 1, 127, 128, 5000, 1'000'000'007}) {
      const int tag = tags.tag(call, round, 4096);
      REQUIRE((tag >= 0 && tag <= largest));
      CHECK(tags.verb(tag) == Verb::kReduceScatterRows);
      CHECK(tags.dtype(tag) == DType::kE4M3);
      for (const int64_t near : {round, round + 5, round - 90}) CHECK(tags.round_near(tag, near) == round);
    }
  }
}

TEST_CASE("other calls, other calls before them and other sizes have other tags") {
  const MessageTags tags(0x7fffffff);
  const CollectiveCall sum{.verb = Verb::kAllReduce, .dtype = DType::kF32, .count = 64};
  std::set<int> seen;
  const auto add = [&](const CollectiveCall& before, CollectiveCall call, int64_t bytes) {
    seen.insert(tags.tag(following(before, call), 9, bytes));
  };
  add({}, sum, 256);
  add({}, sum, 260);
  add(following({}, sum), sum, 256);
  for (CollectiveCall other :
       {CollectiveCall{.verb = Verb::kAllGather, .dtype = DType::kF32, .count = 64},
        CollectiveCall{.verb = Verb::kAllReduce, .dtype = DType::kI32, .count = 64},
        CollectiveCall{.verb = Verb::kAllReduce, .dtype = DType::kF32, .count = 65},
        CollectiveCall{.verb = Verb::kAllReduce, .dtype = DType::kF32, .root = 1, .count = 64},
        CollectiveCall{.verb = Verb::kAllReduce, .dtype = DType::kF32, .count = 64, .rows = 3}}) {
    add({}, other, 256);
  }
  CHECK(seen.size() == 8);
}

}  // namespace shoal
