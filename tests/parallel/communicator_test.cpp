// tests/parallel/communicator_test.cpp: every verb, on a group of one, over threads and over MPI, on whole worlds and
// on groups, with cut messages too.
#include "parallel/communicator.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <numeric>
#include <thread>

#include "core/base/random.h"
#include "parallel/mpi_session.h"
#include "parallel/self_communicator.h"
#include "parallel/simulated_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/rank_check.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

Allocator& cpu() {
  static Allocator allocator(DeviceKind::kCpu);
  return allocator;
}

template <class T>
Tensor tensor_of(Shape shape, const std::vector<T>& values) {
  const Tensor x = Tensor::empty(shape, DTypeOf<T>::value, cpu(), MemoryKind::kActivations);
  x.copy_from(values);
  return x;
}
template <class T>
Tensor tensor_of(const std::vector<T>& values) {
  return tensor_of<T>({static_cast<int64_t>(values.size())}, values);
}

// What rank `rank` holds at element `i` in the given test: any rank can say what any other sent.
template <class T>
T value_of(int rank, uint64_t i, std::string_view test) {
  const CounterRandom random(static_cast<uint64_t>(rank), stream_of(test));
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(random.below(100, i)) - T{50} * std::is_signed_v<T>;
  else
    return static_cast<T>(static_cast<Arithmetic<T>>(random.uniform(i) - 0.5));
}
template <class T>
std::vector<T> values_of(int rank, int64_t count, std::string_view test) {
  std::vector<T> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = value_of<T>(rank, i, test);
  return values;
}

// The serial sum over ranks, ascending (bf16: in f32, rounded once), of elements [begin, begin + count).
template <class T>
std::vector<T> sum_of_ranks(int size, int64_t begin, int64_t count, std::string_view test) {
  std::vector<T> sums;
  for (int64_t i = begin; i < begin + count; ++i) {
    Arithmetic<T> sum = load(value_of<T>(0, static_cast<uint64_t>(i), test));
    for (int r = 1; r < size; ++r) sum += load(value_of<T>(r, static_cast<uint64_t>(i), test));
    sums.push_back(store<T>(sum));
  }
  return sums;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
void gathers(Communicator& group, int64_t n, bool in_place) {
  const Tensor out = tensor_of(std::vector<T>(static_cast<size_t>(n * group.size())));
  const std::vector<T> mine = values_of<T>(group.rank(), n, "gather");
  const Tensor piece = in_place ? out.rows(n * group.rank(), n) : tensor_of(mine);
  piece.copy_from(mine);
  wait(group.all_gather(out, piece));
  std::vector<T> expected;
  for (int r = 0; r < group.size(); ++r) {
    for (const T value : values_of<T>(r, n, "gather")) expected.push_back(value);
  }
  RANK_CHECK(same_bits(out.to_vector<T>(), expected));
}

void check_all_gather(Communicator& group) {
  for (const bool in_place : {false, true}) {
    for (const int64_t n : {0, 1, 7, 1000, 70001}) gathers<float>(group, n, in_place);
    gathers<bfloat16>(group, 333, in_place);
    gathers<double>(group, 31, in_place);
    gathers<int32_t>(group, 5, in_place);
    gathers<uint8_t>(group, 13, in_place);
  }
}

// Rows of each rank: uneven, some none; in round 4 none at all.
std::vector<int64_t> uneven_rows(int size, int round) {
  std::vector<int64_t> rows;
  for (int rank = 0; rank < size; ++rank) rows.push_back(round == 4 ? 0 : (rank * 3 + round) % 4 * (1 + 40 * round));
  return rows;
}

template <class T>
void gathers_rows(Communicator& group, int64_t width, int round, bool in_place) {
  const std::vector<int64_t> rows = uneven_rows(group.size(), round);
  std::vector<T> expected;
  int64_t begin = 0;
  for (int r = 0; r < group.size(); ++r) {
    const int64_t n = rows[static_cast<size_t>(r)];
    if (r < group.rank()) begin += n;
    for (const T value : values_of<T>(r, n * width, "gather")) expected.push_back(value);
  }
  const int64_t n = rows[static_cast<size_t>(group.rank())];
  const Tensor out =
      tensor_of<T>({static_cast<int64_t>(expected.size()) / width, width}, std::vector<T>(expected.size()));
  const std::vector<T> mine = values_of<T>(group.rank(), n * width, "gather");
  const Tensor piece = in_place ? out.rows(begin, n) : tensor_of<T>({n, width}, mine);
  piece.copy_from(mine);
  wait(group.all_gather_rows(out, rows, piece));
  RANK_CHECK(same_bits(out.to_vector<T>(), expected));
}

void check_all_gather_rows(Communicator& group) {
  for (const bool in_place : {false, true}) {
    for (int round = 0; round < 5; ++round) {
      for (const int64_t width : {1, 3, 257}) gathers_rows<bfloat16>(group, width, round, in_place);
      gathers_rows<float>(group, 65, round, in_place);
      gathers_rows<int64_t>(group, 2, round, in_place);
      gathers_rows<uint8_t>(group, 1, round, in_place);
    }
  }
}

// Rows that rank `from` sends to rank `to`: uneven, some none.
int64_t rows_between(int from, int to, int round) { return (from * 3 + to * 5 + round) % 4; }

template <class T>
void exchanges_rows(Communicator& group, int64_t width, int round) {
  std::vector<int64_t> out_rows;
  std::vector<int64_t> in_rows;
  std::vector<T> in;
  std::vector<T> expected;
  const auto row_of = [&](int from, int to, int64_t row, std::vector<T>& into) {
    for (int64_t c = 0; c < width; ++c) {
      const auto index = static_cast<uint64_t>((to * 100 + row) * width + c);
      into.push_back(value_of<T>(from, index, "rows"));
    }
  };
  for (int peer = 0; peer < group.size(); ++peer) {
    in_rows.push_back(rows_between(group.rank(), peer, round));
    out_rows.push_back(rows_between(peer, group.rank(), round));
    for (int64_t row = 0; row < in_rows.back(); ++row) row_of(group.rank(), peer, row, in);
    for (int64_t row = 0; row < out_rows.back(); ++row) row_of(peer, group.rank(), row, expected);
  }
  const Tensor x = tensor_of<T>({static_cast<int64_t>(in.size()) / width, width}, in);
  const Tensor out =
      tensor_of<T>({static_cast<int64_t>(expected.size()) / width, width}, std::vector<T>(expected.size()));
  wait(group.all_to_all_rows(out, out_rows, x, in_rows));
  RANK_CHECK(same_bits(out.to_vector<T>(), expected));
}

void check_all_to_all_rows(Communicator& group) {
  for (int round = 0; round < 4; ++round) {
    for (const int64_t width : {1, 3, 257}) {
      exchanges_rows<bfloat16>(group, width, round);
      exchanges_rows<float>(group, width, round);
    }
    exchanges_rows<int32_t>(group, 1, round);
    exchanges_rows<int64_t>(group, 2, round);
  }
  const Tensor none = tensor_of<float>({0, 5}, {});
  const std::vector<int64_t> zeros(static_cast<size_t>(group.size()));
  wait(group.all_to_all_rows(none, zeros, none, zeros));
}

template <class T>
void reduces_and_scatters(Communicator& group, int64_t n, bool in_place) {
  const std::vector<T> mine = values_of<T>(group.rank(), n * group.size(), "reduce");
  const Tensor in = tensor_of(mine);
  const Tensor out = in_place ? in.rows(n * group.rank(), n) : tensor_of(std::vector<T>(static_cast<size_t>(n)));
  wait(group.reduce_scatter(out, in));
  RANK_CHECK(same_bits(out.to_vector<T>(), sum_of_ranks<T>(group.size(), n * group.rank(), n, "reduce")));
  // The rest of `in` is as it was.
  std::vector<T> after = in.to_vector<T>();
  if (in_place) std::copy_n(mine.begin() + n * group.rank(), n, after.begin() + n * group.rank());
  RANK_CHECK(same_bits(after, mine));
}

template <class T>
void reduces_and_scatters_rows(Communicator& group, int64_t width, int round, bool in_place) {
  const std::vector<int64_t> rows = uneven_rows(group.size(), round);
  const int64_t begin = std::accumulate(rows.begin(), rows.begin() + group.rank(), int64_t{0});
  const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  const int64_t n = rows[static_cast<size_t>(group.rank())];
  const std::vector<T> mine = values_of<T>(group.rank(), total * width, "reduce");
  const Tensor in = tensor_of<T>({total, width}, mine);
  const Tensor out =
      in_place ? in.rows(begin, n) : tensor_of<T>({n, width}, std::vector<T>(static_cast<size_t>(n * width)));
  wait(group.reduce_scatter_rows(out, in, rows));
  RANK_CHECK(same_bits(out.to_vector<T>(), sum_of_ranks<T>(group.size(), begin * width, n * width, "reduce")));
  std::vector<T> after = in.to_vector<T>();
  if (in_place) std::copy_n(mine.begin() + begin * width, n * width, after.begin() + begin * width);
  RANK_CHECK(same_bits(after, mine));
}

void check_reduce_scatter_rows(Communicator& group) {
  for (const bool in_place : {false, true}) {
    for (int round = 0; round < 5; ++round) {
      for (const int64_t width : {1, 3, 65}) reduces_and_scatters_rows<bfloat16>(group, width, round, in_place);
      reduces_and_scatters_rows<float>(group, 17, round, in_place);
      reduces_and_scatters_rows<double>(group, 2, round, in_place);
      reduces_and_scatters_rows<int32_t>(group, 3, round, in_place);
    }
  }
}

// Rounds summed onto each other are one sum, in the order of rounds and ranks; in bf16 rounded after every round.
template <class T>
void reduces_onto(Communicator& group, int64_t n) {
  const auto values = [&](int round, int rank) {
    return values_of<T>(rank, n * group.size(), "onto" + std::to_string(round));
  };
  const Tensor sum = tensor_of(std::vector<T>(static_cast<size_t>(n)));
  const Tensor last = tensor_of(values(2, group.rank()));
  const Tensor place = last.rows(n * group.rank(), n);
  wait(group.reduce_scatter(sum, tensor_of(values(0, group.rank()))));
  wait(group.reduce_scatter(sum, tensor_of(values(1, group.rank())), sum));
  wait(group.reduce_scatter(place, last, sum));
  std::vector<T> expected = std::vector<T>(static_cast<size_t>(n));
  for (int round = 0; round < 3; ++round) {
    std::vector<Arithmetic<T>> running(expected.size());
    for (size_t i = 0; i < running.size(); ++i) running[i] = load(expected[i]);
    for (int rank = 0; rank < group.size(); ++rank) {
      const std::vector<T> theirs = values(round, rank);
      for (size_t i = 0; i < running.size(); ++i) {
        const Arithmetic<T> added = load(theirs[static_cast<size_t>(n * group.rank()) + i]);
        running[i] = round == 0 && rank == 0 ? added : running[i] + added;
      }
    }
    for (size_t i = 0; i < running.size(); ++i) expected[i] = store<T>(running[i]);
  }
  RANK_CHECK(same_bits(place.to_vector<T>(), expected));
}

void check_reduce_scatter(Communicator& group) {
  for (const int64_t n : {0, 1, 1025, 30011}) reduces_onto<float>(group, n);
  reduces_onto<double>(group, 33);
  reduces_onto<bfloat16>(group, 1027);
  reduces_onto<int64_t>(group, 33);
  for (const bool in_place : {false, true}) {
    for (const int64_t n : {0, 1, 13, 1023, 1025, 30011}) reduces_and_scatters<float>(group, n, in_place);
    for (const int64_t n : {1, 1025, 5001}) reduces_and_scatters<bfloat16>(group, n, in_place);
    reduces_and_scatters<double>(group, 2049, in_place);
    reduces_and_scatters<int64_t>(group, 77, in_place);
    reduces_and_scatters<int32_t>(group, 77, in_place);
  }
}

template <class T>
void reduces(Communicator& group, int64_t n) {
  const Tensor x = tensor_of(values_of<T>(group.rank(), n, "all"));
  wait(group.all_reduce(x));
  RANK_CHECK(same_bits(x.to_vector<T>(), sum_of_ranks<T>(group.size(), 0, n, "all")));
}

void check_all_reduce(Communicator& group) {
  // 4096 f32 are the last size summed in one round, 4097 the first in two: both are the ascending sum, bitwise.
  static_assert(kAllReduceInOneRoundBytes == 4096 * 4);
  for (const int64_t n : {0, 1, 2, 5, 4096, 4097, 50021}) reduces<float>(group, n);
  for (const int64_t n : {3, 2048, 2049, 10007}) reduces<double>(group, n);
  for (const int64_t n : {1, 8192, 8193, 20011}) reduces<bfloat16>(group, n);
  for (const int64_t n : {1, 2049}) reduces<int64_t>(group, n);
  for (const int64_t n : {1, 4099}) reduces<int32_t>(group, n);
  const Tensor matrix = tensor_of<float>({2, 3}, std::vector<float>(6, 1.0f));
  wait(group.all_reduce(matrix));
  RANK_CHECK(matrix.to_vector<float>() == std::vector<float>(6, static_cast<float>(group.size())));
}

void check_broadcast(Communicator& group) {
  for (int root = 0; root < group.size(); ++root) {
    for (const int64_t n : {0, 1, 999, 40009}) {
      const Tensor x = tensor_of(values_of<bfloat16>(group.rank(), n, "broadcast"));
      wait(group.broadcast(x, root));
      RANK_CHECK(same_bits(x.to_vector<bfloat16>(), values_of<bfloat16>(root, n, "broadcast")));
    }
  }
}

// Nobody leaves before the last has come: by the machine's one monotonic clock.
void check_barrier(Communicator& group) {
  const auto now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
  for (int late = 0; late < group.size(); ++late) {
    if (group.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const Tensor came = tensor_of(std::vector<int64_t>{now()});
    wait(group.barrier());
    const int64_t left = now();
    wait(group.broadcast(came, late));
    RANK_CHECK(left >= came.to_vector<int64_t>()[0]);
  }
}

// Large and small operations together, waited for in the opposite order; their tensors are held by them alone.
void check_many_in_flight(Communicator& group) {
  struct Posted {
    OperationPtr operation;
    Tensor result;
    std::vector<float> expected;
  };
  std::vector<Posted> posted;
  for (int i = 0; i < 18; ++i) {
    const std::string test = "flight" + std::to_string(i);
    const int64_t n = i % 3 == 0 ? 20011 : 1 + i;
    if (i % 2 == 0) {
      const Tensor x = tensor_of(values_of<float>(group.rank(), n, test));
      posted.push_back({group.all_reduce(x), x, sum_of_ranks<float>(group.size(), 0, n, test)});
    } else {
      const Tensor out = tensor_of(std::vector<float>(static_cast<size_t>(n)));
      const Tensor in = tensor_of(values_of<float>(group.rank(), n * group.size(), test));
      posted.push_back(
          {group.reduce_scatter(out, in), out, sum_of_ranks<float>(group.size(), n * group.rank(), n, test)});
    }
  }
  while (!posted.empty()) {
    posted.back().operation->wait();
    RANK_CHECK(posted.back().operation->done());
    RANK_CHECK(same_bits(posted.back().result.to_vector<float>(), posted.back().expected));
    posted.pop_back();
  }
}

void check_lanes(Communicator& group) {
  Stream stream(cpu());
  Lane first(stream, 0);
  Lane second(stream, 1);
  const auto sums = [&group](float& result, Lane& lane) -> Task<void> {
    for (int i = 0; i < 5; ++i) {
      const Tensor x = tensor_of(std::vector<float>{1.0f});
      co_await lane.wire(group.all_reduce(x));
      result += x.data<float>()[0];
    }
  };
  std::array<float, 2> results{};
  Lane* const lanes[] = {&first, &second};
  std::vector<Task<void>> tasks;
  tasks.push_back(sums(results[0], first));
  tasks.push_back(sums(results[1], second));
  run_lanes(lanes, std::move(tasks));
  RANK_CHECK(results[0] == 5.0f * static_cast<float>(group.size()));
  RANK_CHECK(results[1] == results[0]);
}

// Sent per peer, whatever the link.
void check_bytes(Communicator& group) {
  const int64_t peers = group.size() - 1;
  WireBytes last = group.bytes();
  const auto expect = [&](int64_t payload, int64_t metadata, int64_t own) {
    const WireBytes now = group.bytes();
    RANK_CHECK(now.payload[1] + now.payload[2] - last.payload[1] - last.payload[2] == payload);
    RANK_CHECK(now.metadata[1] + now.metadata[2] - last.metadata[1] - last.metadata[2] == metadata);
    RANK_CHECK(now.payload[0] + now.metadata[0] - last.payload[0] - last.metadata[0] == own);
    RANK_CHECK(now.total() - last.total() == payload + metadata);
    last = now;
  };
  const auto floats = [](int64_t n) { return tensor_of(std::vector<float>(static_cast<size_t>(n))); };

  wait(group.all_gather(floats(7 * group.size()), floats(7)));
  expect(28 * peers, 0, 28);
  wait(group.reduce_scatter(floats(9), floats(9 * group.size())));
  expect(36 * peers, 0, 36);
  wait(group.all_reduce(floats(10)));
  expect(40 * peers, 0, 40);
  wait(group.barrier());
  expect(0, 0, 0);
  wait(group.all_reduce(tensor_of(std::vector<int64_t>(3))));
  expect(0, 24 * peers, 24);
  wait(group.broadcast(floats(11), 0));
  expect(group.rank() == 0 ? 44 * peers : 0, 0, group.rank() == 0 ? 44 : 0);

  // Two rounds: every rank sends the others their shares, then all of them its own sum.
  const int64_t n = 5003;
  const int64_t share = (n + group.size() - 1) / group.size();
  const int64_t mine = std::clamp<int64_t>(n - group.rank() * share, 0, share);
  wait(group.all_reduce(floats(n)));
  expect(4 * (n - mine) + 4 * mine * peers, 0, 8 * mine);

  std::vector<int64_t> in_rows;
  std::vector<int64_t> out_rows;
  int64_t in = 0;
  int64_t out = 0;
  for (int peer = 0; peer < group.size(); ++peer) {
    in += in_rows.emplace_back(rows_between(group.rank(), peer, 1));
    out += out_rows.emplace_back(rows_between(peer, group.rank(), 1));
  }
  const int64_t own = in_rows[static_cast<size_t>(group.rank())];
  const std::vector<int64_t> rows = uneven_rows(group.size(), 1);
  const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  const int64_t here = rows[static_cast<size_t>(group.rank())];
  wait(group.all_gather_rows(floats(all * 3).reshape({all, 3}), rows, floats(here * 3).reshape({here, 3})));
  expect(here * 12 * peers, 0, here * 12);
  wait(group.reduce_scatter_rows(floats(here * 3).reshape({here, 3}), floats(all * 3).reshape({all, 3}), rows));
  expect((all - here) * 12, 0, here * 12);

  wait(group.all_to_all_rows(floats(out * 6).reshape({out, 6}), out_rows, floats(in * 6).reshape({in, 6}), in_rows));
  expect((in - own) * 24, 0, own * 24);
}

using Check = std::function<void(Communicator&)>;

// Each check as a section of its own, by whatever brings it to the ranks of a group.
void check_every_verb(const std::function<void(const Check&)>& run, const std::string& where = "") {
  const std::pair<const char*, void (*)(Communicator&)> checks[] = {
      {"all-gather", check_all_gather},
      {"all-gather of rows", check_all_gather_rows},
      {"all-to-all of rows", check_all_to_all_rows},
      {"reduce-scatter", check_reduce_scatter},
      {"reduce-scatter of rows", check_reduce_scatter_rows},
      {"all-reduce", check_all_reduce},
      {"broadcast", check_broadcast},
      {"barrier", check_barrier},
      {"many in flight", check_many_in_flight},
      {"lanes", check_lanes},
      {"bytes", check_bytes}};
  for (const auto& [name, check] : checks) {
    DYNAMIC_SECTION(name << where) { run(check); }
  }
}

// A group of the ranks whose number is even, and one of the others; `check` runs in both at once.
void check_in_halves(Communicator& world, const Check& check) {
  std::vector<int> like_me;
  for (int rank = world.rank() % 2; rank < world.size(); rank += 2) like_me.push_back(rank);
  const auto half = world.group(like_me);
  RANK_CHECK(half->size() == (world.size() + 1 - world.rank() % 2) / 2);
  RANK_CHECK(half->rank() == world.rank() / 2);
  check(*half);
}

std::vector<int> all_ranks(const Communicator& group) {
  std::vector<int> ranks(static_cast<size_t>(group.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

void check_groups_of_groups(Communicator& world) {
  std::vector<int> ranks = all_ranks(world);
  std::ranges::reverse(ranks);
  const auto reversed = world.group(ranks);
  RANK_CHECK(reversed->size() == world.size());
  RANK_CHECK(reversed->rank() == world.size() - 1 - world.rank());
  for (int rank = 0; rank < world.size(); ++rank) {
    RANK_CHECK(reversed->node(rank) == world.node(world.size() - 1 - rank));
  }
  check_all_reduce(*reversed);
  const auto alone = reversed->group({reversed->rank()});
  RANK_CHECK(alone->size() == 1);
  check_all_reduce(*alone);
  // Blocks of three of the reversed group, in descending order: ascending in the world.
  std::vector<int> block;
  const int first = reversed->rank() / 3 * 3;
  for (int rank = std::min(first + 3, reversed->size()) - 1; rank >= first; --rank) block.push_back(rank);
  const auto third = reversed->group(block);
  RANK_CHECK(third->size() == static_cast<int>(block.size()));
  RANK_CHECK(block[static_cast<size_t>(third->rank())] == reversed->rank());
  const Tensor members = tensor_of(std::vector<int32_t>(block.size()));
  wait(third->all_gather(members, tensor_of(std::vector<int32_t>{world.rank()})));
  RANK_CHECK(std::ranges::is_sorted(members.to_vector<int32_t>()));
  RANK_CHECK(members.to_vector<int32_t>()[static_cast<size_t>(third->rank())] == world.rank());
  check_all_to_all_rows(*third);
  check_bytes(*third);

  const auto refusal = [&](std::vector<int> list) { return error_of([&] { world.group(list); }); };
  const std::string expected = "cannot be in a group of ranks";
  RANK_CHECK(refusal({world.rank(), world.size()}).find(expected) != std::string::npos);
  RANK_CHECK(refusal({world.rank(), -1}).find(expected) != std::string::npos);
  RANK_CHECK(refusal({world.rank(), world.rank()}).find(expected) != std::string::npos);
  RANK_CHECK(refusal({}).find(expected) != std::string::npos);
}

// What every rank sends in one sum of two floats, by link, is also what it sends in a group of all.
void check_links(Communicator& world, int ranks_per_node) {
  using Bytes = std::array<int64_t, kNumLinkClasses>;
  const int first = world.rank() / ranks_per_node * ranks_per_node;
  const int64_t neighbours = std::min(first + ranks_per_node, world.size()) - first - 1;
  const auto all = world.group(all_ranks(world));
  const Tensor x = tensor_of(std::vector<float>{1, 2});
  wait(world.all_reduce(x));
  wait(all->all_reduce(x));
  RANK_CHECK(world.bytes().payload == Bytes{8, 8 * neighbours, 8 * (world.size() - 1 - neighbours)});
  RANK_CHECK(all->bytes().payload == world.bytes().payload);
  for (int peer = 0; peer < world.size(); ++peer) {
    const bool near = peer >= first && peer <= first + neighbours;
    const LinkClass link = near ? LinkClass::kIntraNode : LinkClass::kInterNode;
    RANK_CHECK(world.link(peer) == (peer == world.rank() ? LinkClass::kSelf : link));
    RANK_CHECK(all->link(peer) == world.link(peer));
  }
}

// Two groups that share only this rank, each with operations in flight while the other's are waited for.
void check_two_groups_at_once(Communicator& world) {
  const int columns = world.size() % 2 == 0 ? 2 : 1;
  std::vector<int> row;
  std::vector<int> column;
  for (int rank = 0; rank < world.size(); ++rank) {
    if (rank / columns == world.rank() / columns) row.push_back(rank);
    if (rank % columns == world.rank() % columns) column.push_back(rank);
  }
  const auto along_row = world.group(row);
  const auto along_column = world.group(column);
  std::vector<std::pair<OperationPtr, std::function<void()>>> posted;
  for (int i = 0; i < 12; ++i) {
    Communicator& group = i % 2 == 0 ? *along_row : *along_column;
    const std::string test = "both" + std::to_string(i);
    const int64_t n = i % 3 == 0 ? 6007 : 11 + i;
    const Tensor x = tensor_of(values_of<float>(group.rank(), n, test));
    posted.emplace_back(group.all_reduce(x), [x, n, test, size = group.size()] {
      RANK_CHECK(same_bits(x.to_vector<float>(), sum_of_ranks<float>(size, 0, n, test)));
    });
  }
  // Odd ranks wait from the end: only one of the groups at a time is waited for by all.
  if (world.rank() % 2 == 1) std::ranges::reverse(posted);
  for (const auto& [operation, check] : posted) {
    operation->wait();
    check();
  }
}

// Every verb once on tensors without storage.
WireBytes play(Communicator& group, Allocator& allocator) {
  const int64_t size = group.size();
  const auto make = [&](Shape shape, DType dtype) {
    return Tensor::zeros(shape, dtype, allocator, MemoryKind::kActivations);
  };
  const std::vector<int64_t> rows(static_cast<size_t>(size), 3);
  const Tensor gathered = make({size * 50}, DType::kBF16);
  const Tensor summed = make({size * 40}, DType::kF32);
  const std::vector<OperationPtr> operations{
      group.all_to_all_rows(make({3 * size, 8}, DType::kBF16), rows, make({3 * size, 8}, DType::kBF16), rows),
      group.all_gather(gathered, make({50}, DType::kBF16)),
      group.all_gather(gathered, gathered.rows(50 * group.rank(), 50)),
      group.reduce_scatter(make({40}, DType::kF32), summed),
      group.reduce_scatter(summed.rows(40 * group.rank(), 40), summed),
      group.all_gather_rows(make({3 * size, 8}, DType::kBF16), rows, make({3, 8}, DType::kBF16)),
      group.reduce_scatter_rows(make({3, 8}, DType::kBF16), make({3 * size, 8}, DType::kBF16), rows),
      group.all_reduce(make({5}, DType::kI64)),
      group.all_reduce(make({100, 100}, DType::kF32)),
      group.broadcast(make({9}, DType::kU8), static_cast<int>(size - 1))};
  for (const OperationPtr& operation : operations) operation->wait();
  return group.bytes();
}

}  // namespace

TEST_CASE("every verb on a group of one") {
  check_every_verb([](const Check& check) {
    SelfCommunicator group;
    check(group);
  });
}

TEST_CASE("every verb over threads", "[threads]") {
  for (const int size : {1, 2, 3, 4, 8}) {
    check_every_verb(
        [size](const Check& check) {
          run_thread_ranks(size, {.ranks_per_node = 2}, [&](Communicator& world, Allocator&) { check(world); });
        },
        fmt::format(", {} ranks", size));
  }
}

TEST_CASE("every verb over threads with messages cut into parts of 1001 bytes", "[threads]") {
  check_every_verb([](const Check& check) {
    run_thread_ranks(3, {.max_message_bytes = 1001}, [&](Communicator& world, Allocator&) { check(world); });
  });
}

TEST_CASE("every verb in halves of the threads, the other half busy meanwhile", "[threads]") {
  for (const int size : {2, 5}) {
    check_every_verb(
        [size](const Check& check) {
          run_thread_ranks(size, {.ranks_per_node = 2},
                           [&](Communicator& world, Allocator&) { check_in_halves(world, check); });
        },
        fmt::format(", {} ranks", size));
  }
}

TEST_CASE("groups, links and two groups at once over threads", "[threads]") {
  for (const int size : {1, 2, 3, 4, 8}) {
    const auto run = [&](ThreadRanksOptions options, const Check& check) {
      run_thread_ranks(size, options, [&](Communicator& world, Allocator&) { check(world); });
    };
    DYNAMIC_SECTION("groups of groups, " << size << " ranks") { run({.ranks_per_node = 3}, check_groups_of_groups); }
    DYNAMIC_SECTION("two groups at once, " << size << " ranks") { run({}, check_two_groups_at_once); }
    DYNAMIC_SECTION("links, " << size << " ranks") {
      run({}, [&](Communicator& world) { check_links(world, size); });
      for (const int n : {1, 2, 3}) run({.ranks_per_node = n}, [&](Communicator& world) { check_links(world, n); });
    }
  }
}

TEST_CASE("every verb over MPI", "[mpi]") {
  check_every_verb([](const Check& check) {
    MpiSession session;
    check(*session.world(cpu()));
  });
}

TEST_CASE("every verb over MPI with messages cut into parts of 1001 bytes", "[mpi]") {
  check_every_verb([](const Check& check) {
    MpiSession session;
    check(*session.world(cpu(), {.max_message_bytes = 1001}));
  });
}

TEST_CASE("every verb in halves of the ranks of MPI, the other half busy meanwhile", "[mpi]") {
  check_every_verb([](const Check& check) {
    MpiSession session;
    check_in_halves(*session.world(cpu()), check);
  });
}

TEST_CASE("a group is in the order given; groups of a group, and two groups at once over MPI", "[mpi]") {
  MpiSession session;
  const auto world = session.world(cpu());
  check_groups_of_groups(*world);
  check_two_groups_at_once(*world);
}

TEST_CASE("links are told apart by machine, or as ranks_per_node pretends", "[mpi]") {
  MpiSession session;
  check_links(*session.world(cpu()), session.size());
  for (const int n : {1, 2, 3}) check_links(*session.world(cpu(), {.ranks_per_node = n}), n);
}

TEST_CASE("simulated tensors pass through every verb: complete at once, counted as real ones", "[mpi]") {
  MpiSession session;
  Allocator simulated(DeviceKind::kSimulated);
  const WireBytes counted = play(*session.world(simulated), simulated);
  const WireBytes moved = play(*session.world(cpu()), cpu());
  REQUIRE(counted.payload == moved.payload);
  REQUIRE(counted.metadata == moved.metadata);
  REQUIRE(simulated.use().total_now_bytes == 0);
}

TEST_CASE("simulated tensors pass through a group of one, and one of many") {
  Allocator simulated(DeviceKind::kSimulated);
  SelfCommunicator self;
  REQUIRE(play(self, simulated).total() == 0);
  REQUIRE(simulated.use().peak_bytes[static_cast<size_t>(MemoryKind::kWorkspace)] == 0);
  SimulatedCommunicator group(5, std::vector<int>(2048), simulated);
  REQUIRE(play(group, simulated).total() > 0);
  REQUIRE(simulated.use().peak_bytes[static_cast<size_t>(MemoryKind::kWorkspace)] > 0);
  REQUIRE(simulated.use().total_now_bytes == 0);
}

TEST_CASE("an operation owns its tensors until complete, and nothing afterwards", "[mpi]") {
  MpiSession session;
  Allocator allocator(DeviceKind::kCpu);
  const auto world = session.world(allocator);
  const auto make = [&](int64_t n) { return Tensor::zeros({n}, DType::kF32, allocator, MemoryKind::kActivations); };
  const auto operation = world->reduce_scatter(make(10000), make(10000 * world->size()));
  operation->wait();
  REQUIRE(allocator.use().total_now_bytes == 0);
}

TEST_CASE("operations nobody waited for are completed before the session ends", "[mpi]") {
  MpiSession session;
  const auto world = session.world(cpu());
  const Tensor x = tensor_of(values_of<float>(world->rank(), 20011, "all"));
  const OperationPtr kept = world->all_reduce(x);
  for (int i = 0; i < 10; ++i) world->broadcast(tensor_of(std::vector<float>(3000)), 0);
  wait(kept);
  REQUIRE(same_bits(x.to_vector<float>(), sum_of_ranks<float>(world->size(), 0, 20011, "all")));
}

TEST_CASE("ranks that disagree on a size get MPI's error where they wait", "[mpi]") {
  MpiSession session;
  const auto world = session.world(cpu());
  if (world->size() == 1) return;
  const bool sends_too_much = world->rank() == 0;
  const auto operation = world->broadcast(tensor_of(std::vector<float>(sends_too_much ? 100 : 50)), 0);
  if (sends_too_much) {
    operation->wait();
  } else {
    REQUIRE_THROWS_WITH(operation->wait(), Contains("a message was lost") && Contains("TRUNCATE"));
    REQUIRE(operation->done());
  }
}

TEST_CASE("threads have their own memory, and nothing of it is in use after an operation", "[threads]") {
  run_thread_ranks(3, {}, [](Communicator& world, Allocator& allocator) {
    const auto make = [&](int64_t n) { return Tensor::zeros({n}, DType::kF32, allocator, MemoryKind::kActivations); };
    const auto operation = world.reduce_scatter(make(1000), make(1000 * world.size()));
    operation->wait();
    RANK_CHECK(allocator.use().total_now_bytes == 0);
    RANK_CHECK(allocator.use().peak_bytes[static_cast<size_t>(MemoryKind::kWorkspace)] == 8000);
  });
}

TEST_CASE("threads that leave before their operations are complete leave them to the others", "[threads]") {
  for (int late = 0; late < 4; ++late) {
    run_thread_ranks(4, {}, [&](Communicator& world, Allocator&) {
      const Tensor x = tensor_of(values_of<float>(world.rank(), 20011, "all"));
      if (world.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      const OperationPtr kept = world.all_reduce(x);
      for (int i = 0; i < 10; ++i) world.broadcast(tensor_of(std::vector<float>(3000)), 0);
      if (world.rank() != late) return;
      wait(kept);
      RANK_CHECK(same_bits(x.to_vector<float>(), sum_of_ranks<float>(world.size(), 0, 20011, "all")));
    });
  }
}

TEST_CASE("a thread that fails ends what the others wait for with an error that names it", "[threads]") {
  for (const int failing : {0, 2, 3}) {
    std::atomic<int> num_told = 0;
    const auto body = [&](Communicator& world, Allocator&) {
      const Tensor x = tensor_of(std::vector<float>(10000));
      wait(world.all_reduce(x));
      const auto pair = world.group({world.rank() & ~1, world.rank() | 1});
      const OperationPtr before = pair->broadcast(x, 0);
      if (world.rank() == failing) fail("token 9 is beyond the vocabulary");
      const auto told = [&](const std::string& error) {
        if (error == fmt::format("rank {} failed: token 9 is beyond the vocabulary", failing)) ++num_told;
      };
      const OperationPtr after = world.all_reduce(x);
      told(error_of([&] { after->wait(); }));
      RANK_CHECK(after->done());
      told(error_of([&] { pair->barrier()->wait(); }));
      told(error_of([&] { world.group({world.rank()}); }));
      world.barrier()->wait();
    };
    REQUIRE_THROWS_WITH(run_thread_ranks(4, {}, body), Catch::Equals("token 9 is beyond the vocabulary"));
    REQUIRE(num_told == 9);
  }
}

TEST_CASE("a thread that ends early ends what the others wait for with an error that names it", "[threads]") {
  const auto run = [](const std::function<void(Communicator&)>& body) {
    run_thread_ranks(3, {}, [&](Communicator& world, Allocator&) {
      wait(world.barrier());
      if (world.rank() != 1) body(world);
    });
  };
  REQUIRE_THROWS_WITH(run([](Communicator& world) { wait(world.barrier()); }),
                      Contains("rank 1 ended without posting what rank"));
  REQUIRE_THROWS_WITH(run([](Communicator& world) { wait(world.all_reduce(tensor_of(std::vector<float>(9000)))); }),
                      Contains("rank 1 ended without posting what rank"));
  REQUIRE_THROWS_WITH(run([](Communicator& world) { world.group({world.rank()}); }),
                      Contains("rank 1 ended without making the group that rank"));
  // Nobody waits, or who waits catches it: a job that lost a message does not pass.
  REQUIRE_THROWS_WITH(run([](Communicator& world) { world.barrier(); }), Contains("rank 1 ended without posting"));
  REQUIRE_THROWS_WITH(
      run([](Communicator& world) {
        RANK_CHECK(error_of([&] { wait(world.barrier()); }).starts_with("rank 1 ended without posting"));
      }),
      Contains("rank 1 ended without posting"));
}

TEST_CASE("threads that disagree on a size or on a group get an error where they wait", "[threads]") {
  REQUIRE_THROWS_WITH(
      run_thread_ranks(3, {},
                       [](Communicator& world, Allocator&) {
                         wait(world.broadcast(tensor_of(std::vector<float>(world.rank() == 0 ? 100 : 50)), 0));
                       }),
      Contains("rank 0 sends 400 bytes to rank") && Contains("which expects 200"));
  REQUIRE_THROWS_WITH(run_thread_ranks(3, {},
                                       [](Communicator& world, Allocator&) {
                                         world.group(world.rank() == 0 ? std::vector{0, 1} : std::vector{1, 2});
                                       }),
                      Contains("ranks of one group must name the same ranks: rank 0 names 0, 1, rank 1 names 1, 2") ||
                          Contains("rank 0 cannot be in a group"));
  REQUIRE_THROWS_WITH(run_thread_ranks(0, {}, [](Communicator&, Allocator&) {}), Contains("0 ranks"));
}

TEST_CASE("threads of simulated tensors count as real ones, and as a rank on paper", "[threads]") {
  std::vector<WireBytes> real(5);
  std::vector<WireBytes> counted(5);
  for (const auto& [device, result] : {std::pair{DeviceKind::kCpu, &real}, {DeviceKind::kSimulated, &counted}}) {
    run_thread_ranks(5, {.ranks_per_node = 2, .device = device}, [&](Communicator& world, Allocator& allocator) {
      RANK_CHECK(allocator.device() == device);
      wait(world.barrier());
      (*result)[static_cast<size_t>(world.rank())] = play(world, allocator);
    });
  }
  Allocator simulated(DeviceKind::kSimulated);
  for (int rank = 0; rank < 5; ++rank) {
    SimulatedCommunicator paper(rank, {0, 0, 1, 1, 2}, simulated);
    const WireBytes on_paper = play(paper, simulated);
    for (const WireBytes& other : {real[static_cast<size_t>(rank)], counted[static_cast<size_t>(rank)]}) {
      REQUIRE(on_paper.payload == other.payload);
      REQUIRE(on_paper.metadata == other.metadata);
    }
  }
}

TEST_CASE("a rank on paper: groups keep their nodes, real tensors do not travel") {
  Allocator simulated(DeviceKind::kSimulated);
  Allocator real(DeviceKind::kCpu);
  SimulatedCommunicator world(4, {7, 7, 8, 8, 9, 9}, simulated);
  REQUIRE(world.link(5) == LinkClass::kIntraNode);
  REQUIRE(world.link(0) == LinkClass::kInterNode);
  const auto group = world.group({5, 1, 4});
  REQUIRE(group->size() == 3);
  REQUIRE(group->rank() == 2);
  REQUIRE(group->node(0) == 9);
  REQUIRE(group->node(1) == 7);
  REQUIRE_THROWS_WITH(world.group({0, 1}), Contains("rank 4 of 6 cannot be in a group of ranks 0, 1"));
  wait(group->barrier());
  SimulatedCommunicator of_real(4, {7, 7, 8, 8, 9, 9}, real);
  REQUIRE_THROWS_WITH(of_real.all_reduce(tensor_of(std::vector<float>(3))), Contains("rank 4 of 6 is on paper"));
  REQUIRE_THROWS_WITH(SimulatedCommunicator(2, {0, 0}, real), Contains("rank 2 of 2"));
  const Tensor x = tensor_of(std::vector<float>{1, 2, 3});
  wait(of_real.group({4})->all_reduce(x));
  REQUIRE(x.to_vector<float>() == std::vector<float>{1, 2, 3});
}

TEST_CASE("what cannot be is refused before anything is sent") {
  SelfCommunicator one;
  Allocator allocator(DeviceKind::kSimulated);
  SimulatedCommunicator group(1, {0, 0, 0}, allocator);
  const auto make = [&](Shape shape, DType dtype = DType::kF32) {
    return Tensor::empty(shape, dtype, allocator, MemoryKind::kActivations);
  };
  const Tensor x = tensor_of(std::vector<float>(12));
  REQUIRE_THROWS_WITH(group.all_gather(make({10}), make({3})), Contains("3 ranks' pieces of [3] do not make [10]"));
  REQUIRE_THROWS_WITH(group.all_gather(make({9}), make({3}, DType::kBF16)), Contains("pieces of bf16 into f32"));
  REQUIRE_THROWS_WITH(group.reduce_scatter(make({3}), make({8})), Contains("[8] does not fall into 3 pieces of [3]"));
  REQUIRE_THROWS_WITH(group.reduce_scatter(make({3}, DType::kU8), make({9}, DType::kU8)), Contains("sums of u8"));
  REQUIRE_THROWS_WITH(group.all_reduce(make({3}, DType::kU8)), Contains("not taken in u8"));
  REQUIRE_THROWS_WITH(group.broadcast(make({3}), 3), Contains("rank 3 of 3"));
  REQUIRE_THROWS_WITH(group.all_reduce(make({4, 4}).columns(0, 2)), Contains("a dense tensor is needed"));

  const std::vector<int64_t> rows{1, 2, 1};
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 2}), rows, make({5, 2}), rows),
                      Contains("in is [5, 2], its row counts add up to 4"));
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 2}), {2, 2}, make({4, 2}), rows),
                      Contains("2 row counts of out for 3 ranks"));
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 3}), rows, make({4, 2}), rows), Contains("3 vs 2"));
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 2}), {2, 1, 1}, make({4, 2}), rows),
                      Contains("sends itself 2 rows and expects 1"));
  REQUIRE_THROWS_WITH(group.all_to_all_rows(make({4, 2}), {5, 2, -3}, make({4, 2}), rows), Contains("out [4, 2]"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({5, 2}), rows, make({2, 2})),
                      Contains("out is [5, 2], its row counts add up to 4"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({4, 2}), rows, make({1, 2})),
                      Contains("piece is [1, 2], expected 2 rows like those of [4, 2]"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({4, 2}), rows, make({2, 3})), Contains("piece is [2, 3]"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({4, 2}), {1, 3}, make({2, 2})), Contains("2 row counts of out"));
  REQUIRE_THROWS_WITH(group.all_gather_rows(make({4, 2}), rows, make({2, 2}, DType::kBF16)),
                      Contains("pieces of bf16 into f32"));
  REQUIRE_THROWS_WITH(group.reduce_scatter_rows(make({2, 2}), make({5, 2}), rows),
                      Contains("in is [5, 2], its row counts add up to 4"));
  REQUIRE_THROWS_WITH(group.reduce_scatter_rows(make({1, 2}), make({4, 2}), rows),
                      Contains("out is [1, 2], expected 2 rows like those of [4, 2]"));
  REQUIRE_THROWS_WITH(group.reduce_scatter_rows(make({2, 2}, DType::kBF16), make({4, 2}), rows),
                      Contains("sums of f32 into bf16"));
  REQUIRE_THROWS_WITH(one.all_to_all_rows(x, {12}, x, {12}), Contains("out overlaps in"));
  REQUIRE_THROWS_WITH(one.all_gather(x.rows(0, 6), x.rows(3, 6)), Contains("overlaps out"));
  REQUIRE_THROWS_WITH(one.reduce_scatter(x.rows(3, 6), x.rows(0, 6)), Contains("out overlaps in"));
}

TEST_CASE("without mpirun a session is rank 0 of 1 and never touches MPI") {
  if (MpiSession::launched()) return;
  MpiSession session;
  REQUIRE_FALSE(session.active());
  REQUIRE(session.size() == 1);
  REQUIRE(session.local_size() == 1);
  REQUIRE(session.world(cpu())->size() == 1);
}

TEST_CASE("under mpirun a session knows its place", "[mpi]") {
  MpiSession session;
  REQUIRE(session.active());
  const auto world = session.world(cpu());
  REQUIRE(world->rank() == session.rank());
  REQUIRE(world->size() == session.size());
  REQUIRE(session.local_size() == session.size());  // the tests run on one machine
  REQUIRE(session.local_rank() == session.rank());
}

}  // namespace shoal
