// core/train/data_agreement.cpp: one number a rank; the whole story only where they differ.
#include "core/train/data_agreement.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/checkpoint/data_record.h"
#include "core/config/compare.h"
#include "parallel/gather_values.h"

namespace shoal {

DataFingerprint agree_on_data(const TrainingStream& training, const Tokenizer* tokenizer, Communicator& world,
                              Allocator& allocator) {
  const DataFingerprint mine{.train = training.fingerprints(),
                             .tokenizer = tokenizer == nullptr ? "" : tokenizer->fingerprint()};
  const std::string record = to_record(mine).SerializeAsString();
  const auto number = static_cast<int64_t>(xxh3_64(record.data(), static_cast<int64_t>(record.size())));
  const std::vector<int64_t> numbers = gather_numbers(world, allocator, number);
  const auto other = std::ranges::find_if(numbers, [&](int64_t theirs) { return theirs != numbers.front(); });
  if (other == numbers.end()) return mine;
  const auto rank = static_cast<size_t>(other - numbers.begin());
  const std::vector<std::string> records = gather_texts(world, allocator, record);
  std::string differences;
  if (world.rank() == 0) {
    DataRecord theirs;
    theirs.ParseFromString(records[rank]);
    differences = describe(compare_data(mine, from_record(theirs), {}));
  }
  fail(
      "rank {} reads other data than rank 0:\n{}Every rank must see the same token files and the same tokenizer: bring "
      "the copies of its machine up to date",
      rank, broadcast_text(world, allocator, differences, 0));
}

}  // namespace shoal
