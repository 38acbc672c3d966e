// tests/parallel/verb_checks.cpp: every verb against a plain loop, over all ranks' numbers, which any rank can say.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "parallel/exchange_communicator.h"
#include "tests/parallel/communicator_checks.h"

namespace shoal {

namespace {

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
  for (int rank = 0; rank < size; ++rank) rows.push_back(round == 4 ? 0 : (rank * 3 + round) % 4 * (1 + 10 * round));
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

}  // namespace

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

namespace {

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
  const auto name = [](int round) { return "onto" + std::to_string(round); };
  const auto values = [&](int round, int rank) { return values_of<T>(rank, n * group.size(), name(round)); };
  const Tensor sum = tensor_of(std::vector<T>(static_cast<size_t>(n)));
  const Tensor last = tensor_of(values(2, group.rank()));
  const Tensor place = last.rows(n * group.rank(), n);
  wait(group.reduce_scatter(sum, tensor_of(values(0, group.rank()))));
  wait(group.reduce_scatter(sum, tensor_of(values(1, group.rank())), sum));
  wait(group.reduce_scatter(place, last, sum));
  std::vector<T> expected = std::vector<T>(static_cast<size_t>(n));
  for (int round = 0; round < 3; ++round) {
    const std::string test = name(round);
    std::vector<Arithmetic<T>> running(expected.size());
    for (size_t i = 0; i < running.size(); ++i) running[i] = load(expected[i]);
    for (int rank = 0; rank < group.size(); ++rank) {
      for (size_t i = 0; i < running.size(); ++i) {
        const Arithmetic<T> added = load(value_of<T>(rank, static_cast<size_t>(n * group.rank()) + i, test));
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

}  // namespace

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

namespace {

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
  Stream stream(*memory_of_checks());
  Lane first(stream, 0);
  Lane second(stream, 1);
  const auto sums = [&group](float& result, Lane& lane) -> Task<void> {
    for (int i = 0; i < 5; ++i) {
      const Tensor x = tensor_of(std::vector<float>{1.0f});
      co_await lane.wire(group.all_reduce(x), WireKind::kOther);
      result += x.to_vector<float>()[0];
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

}  // namespace

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

void check_every_verb(const std::function<void(const Check&)>& run, const std::string& where) {
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

}  // namespace shoal
