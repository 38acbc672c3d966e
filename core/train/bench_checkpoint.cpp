// core/train/bench_checkpoint.cpp: disk, save and load beside each other; steps with a save and without, in turn.
#include "core/train/bench_checkpoint.h"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <algorithm>

#include "core/base/checksum.h"
#include "core/base/input_file.h"
#include "core/base/steady_clock.h"
#include "core/checkpoint/checkpoint_saver.h"
#include "core/checkpoint/state_file.h"
#include "core/checkpoint/tensor_checks.h"
#include "core/train/progress.h"
#include "core/train/rank_timing.h"
#include "core/train/train_state.h"
#include "parallel/gather_values.h"

namespace shoal {

namespace {

namespace fs = std::filesystem;

// One rank of the measurement.
class Bench {
 public:
  Bench(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute,
        const CheckpointBenchOptions& options)
      : config_(config),
        world_(mesh.world()),
        allocator_(allocator),
        options_(options),
        run_dir_(options.folder / "bench_checkpoint"),
        rehearsal_(config, mesh, allocator, compute) {
    config_.mutable_run()->set_dir(run_dir_.string());
    if (world_.rank() == 0) {
      std::error_code error;
      if (!fs::create_directory(run_dir_, error)) {
        fail("{}: cannot be made: {}; remove it, or give another --folder", run_dir_.string(),
             error ? error.message() : "it is there already");
      }
    }
    wait(world_.barrier());
  }
  // Not on every rank at once: the folder is shared.
  void remove() const {
    wait(world_.barrier());
    std::error_code ignored;
    if (world_.rank() == 0) fs::remove_all(run_dir_, ignored);
  }

  CheckpointBench run() {
    CheckpointBench bench;
    bench.model = config_.model().name();
    bench.num_ranks = world_.size();
    bench.steps = options_.steps;
    for (int i = 0; i < 2; ++i) rehearsal_.run_step();
    int64_t mine = 0;
    for (const StatePiece& piece : pieces()) mine += piece.values.bytes();
    for (const int64_t bytes : gather_numbers(world_, allocator_, mine)) bench.state_bytes += bytes;
    measure_disk(mine, bench);
    measure_save_and_load(bench);
    measure_verification(bench);
    measure_cost(bench);
    return bench;
  }

 private:
  std::vector<StatePiece> pieces() { return state_pieces(rehearsal_.runtime(), rehearsal_.optimizer()); }

  Manifest head() {
    Manifest manifest;
    manifest.mutable_progress()->set_step(++saves_);
    manifest.mutable_progress()->set_updates(rehearsal_.optimizer().num_updates());
    *manifest.mutable_layout() = layout_of(rehearsal_.runtime());
    return manifest;
  }

  // The slowest rank's time for `work`, between two barriers.
  template <class Work>
  double timed(const Work& work) {
    wait(world_.barrier());
    const double begin = steady_s();
    work();
    const auto mine = static_cast<int64_t>((steady_s() - begin) * 1e9);
    const std::vector<int64_t> all = gather_numbers(world_, allocator_, mine);
    return static_cast<double>(*std::ranges::max_element(all)) * 1e-9;
  }

  static void forget_cached(const fs::path& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    [[maybe_unused]] const int told = ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }

  void measure_disk(int64_t bytes, CheckpointBench& bench) {
    constexpr int64_t kPiece = int64_t{4} << 20;
    std::vector<char> piece(kPiece, 'x');
    const fs::path path = run_dir_ / fmt::format("raw-{}", world_.rank());
    bench.disk_write_s = timed([&] {
      const auto file = disk().create(path);
      for (int64_t at = 0; at < bytes; at += kPiece) file->write(piece.data(), std::min(kPiece, bytes - at));
      file->sync();
      file->close();
    });
    forget_cached(path);
    bench.disk_read_s = timed([&] {
      const InputFile file(path, "a file to read");
      int64_t at = 0;
      while (const int64_t got = file.read_some(at, piece.data(), kPiece)) at += got;
    });
    disk().remove_file(path);
  }

  void measure_save_and_load(CheckpointBench& bench) {
    CheckpointConfig config = config_.checkpoint();
    config.set_asynchronous(true);  // with its copy
    CheckpointSaver saver(run_dir_, config, world_, allocator_, disk());
    std::vector<double> save_s, snapshot_s;
    for (int i = 0; i < 3; ++i) {  // the first also makes room for the copy
      const Manifest manifest = head();
      const std::vector<StatePiece> state = pieces();
      save_s.push_back(timed([&] {
        snapshot_s.push_back(timed([&] { saver.begin(manifest, state); }));
        if (saver.in_flight()) saver.finish();
        check(saver.take_reports(true));
      }));
    }
    bench.save_s = median(save_s);
    bench.snapshot_s = median(snapshot_s);
    const fs::path newest = CheckpointFolder(run_dir_).of_step(saves_);
    for (int rank = 0; rank < world_.size(); ++rank) forget_cached(newest / state_file_name(rank));
    bench.load_s = timed([&] {
      const NativeCheckpoint checkpoint(newest);
      restore_state(rehearsal_.runtime(), rehearsal_.optimizer(), checkpoint);
      publish_restored_state(rehearsal_.runtime(), rehearsal_.optimizer());
    });
  }

  // On copies in host memory, where a save has them.
  void measure_verification(CheckpointBench& bench) {
    std::vector<std::vector<std::byte>> copies;
    for (const StatePiece& piece : pieces()) copies.push_back(piece.values.to_bytes());
    std::vector<double> saved_s, loaded_s;
    for (int i = 0; i < 3; ++i) {
      saved_s.push_back(timed([&] {
        Checksum128 file;
        for (size_t at = 0; const StatePiece& piece : pieces()) look_as_a_save(piece, copies[at++], file);
      }));
      loaded_s.push_back(timed([&] {
        uint64_t all = 0;
        for (const auto& copy : copies) all ^= xxh3_64(copy.data(), std::ssize(copy));
        keep_ ^= all;
      }));
    }
    bench.checks_saved_s = median(saved_s);
    bench.checks_loaded_s = median(loaded_s);
  }

  static void look_as_a_save(const StatePiece& piece, const std::vector<std::byte>& copy, Checksum128& file) {
    TensorChecks checks(piece.values.dtype(), file);
    for (int64_t at = 0; at < std::ssize(copy); at += TensorChecks::kBytesAtOnce) {
      const int64_t count = std::min(TensorChecks::kBytesAtOnce, std::ssize(copy) - at);
      if (checks.add(copy.data() + at, count) >= 0) fail("{}: not finite", piece.name);
    }
  }

  static void check(const std::vector<SaveReport>& reports) {
    for (const SaveReport& report : reports) {
      if (report.path.empty()) fail("a save failed: {}", report.mishap);
    }
  }

  void measure_cost(CheckpointBench& bench) {
    CheckpointConfig config = config_.checkpoint();
    config.set_asynchronous(true);
    CheckpointSaver saver(run_dir_, config, world_, allocator_, disk());
    std::vector<double> background_s;
    const auto note = [&](const std::vector<SaveReport>& reports) {
      check(reports);
      for (const SaveReport& report : reports) background_s.push_back(report.seconds);
    };
    // Every step asks the ranks whether all have written: training does so with its metrics.
    const auto block = [&](bool save) {
      if (save) saver.begin(head(), pieces());
      for (int i = 0; i < options_.steps; ++i) {
        rehearsal_.run_step();
        const std::vector<int64_t> written = gather_numbers(world_, allocator_, saver.written() ? 1 : 0);
        if (saver.in_flight() && std::ranges::count(written, 0) == 0) saver.finish();
        note(saver.take_reports(false));
      }
    };
    for (int pair = 0; pair < options_.pairs; ++pair) {
      // Either may come first, so that a drift of the machine's speed favours none.
      for (const bool save : {pair % 2 == 0, pair % 2 != 0}) {
        (save ? bench.with_save_s : bench.without_s).push_back(timed([&] { block(save); }));
        if (saver.in_flight()) saver.finish();
        note(saver.take_reports(true));
      }
    }
    if (!background_s.empty()) bench.background_s = median(background_s);
  }

  Config config_;
  Communicator& world_;
  Allocator& allocator_;
  const CheckpointBenchOptions& options_;
  fs::path run_dir_;
  Rehearsal rehearsal_;
  int64_t saves_ = 0;
  uint64_t keep_ = 0;  // so that no compiler leaves out what is timed
};

}  // namespace

double CheckpointBench::cost() const { return 1 - median(without_s) / median(with_save_s); }

CheckpointBench bench_checkpoint(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute,
                                 const CheckpointBenchOptions& options) {
  Bench bench(config, mesh, allocator, compute, options);
  const CheckpointBench result = bench.run();
  bench.remove();
  return result;
}

std::string describe(const CheckpointBench& b) {
  const auto rate = [&](double seconds) { return static_cast<double>(b.state_bytes) * 1e-9 / seconds; };
  std::string text = fmt::format("state               {} of model '{}' on {} rank(s)\n", format_bytes(b.state_bytes),
                                 b.model, b.num_ranks);
  text += fmt::format("disk                writes {:.2f} GB/s (synced), reads {:.2f} GB/s\n", rate(b.disk_write_s),
                      rate(b.disk_read_s));
  text += fmt::format("save                {:.3f} s: {:.2f} GB/s, {:.0f} % of the disk's\n", b.save_s, rate(b.save_s),
                      100 * b.disk_write_s / b.save_s);
  text += fmt::format("  training waits    {:.3f} s of it, for the copy\n", b.snapshot_s);
  text += fmt::format("  verifying takes   {:.1f} % of it: checksums, whether all are numbers\n",
                      100 * b.checks_saved_s / b.save_s);
  text += fmt::format("load                {:.3f} s: {:.2f} GB/s, {:.0f} % of the disk's\n", b.load_s, rate(b.load_s),
                      100 * b.disk_read_s / b.load_s);
  text += fmt::format("  verifying takes   {:.1f} % of it: checksums\n", 100 * b.checks_loaded_s / b.load_s);
  text += fmt::format("{:<3} steps           {:.3f} s with a save, {:.3f} s without (medians of {} pairs): {:.2f} %\n",
                      b.steps, median(b.with_save_s), median(b.without_s), b.without_s.size(), 100 * b.cost());
  for (size_t i = 0; i < b.without_s.size(); ++i) {
    text += fmt::format("  pair {:<2}           {:.3f} s with, {:.3f} s without: {:+.2f} %\n", i + 1, b.with_save_s[i],
                        b.without_s[i], 100 * (b.with_save_s[i] / b.without_s[i] - 1));
  }
  text += fmt::format("behind training     {:.2f} s from the copy to the commit\n", b.background_s);
  return text;
}

std::string to_json(const CheckpointBench& b) {
  return nlohmann::ordered_json{{"model", b.model},
                                {"ranks", b.num_ranks},
                                {"state_bytes", b.state_bytes},
                                {"disk_write_s", b.disk_write_s},
                                {"disk_read_s", b.disk_read_s},
                                {"save_s", b.save_s},
                                {"snapshot_s", b.snapshot_s},
                                {"load_s", b.load_s},
                                {"checks_saved_s", b.checks_saved_s},
                                {"checks_loaded_s", b.checks_loaded_s},
                                {"steps", b.steps},
                                {"with_save_s", b.with_save_s},
                                {"without_s", b.without_s},
                                {"background_s", b.background_s},
                                {"cost", b.cost()}}
      .dump(2);
}

}  // namespace shoal
