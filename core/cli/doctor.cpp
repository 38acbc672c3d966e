// core/cli/doctor.cpp: `shoal doctor`: is this machine, and the way mpirun uses it, as Shoal would like it?
//
// Started alone it tells about the machine; under mpirun every rank adds the CPUs it was given, and rank 0 prints.
#include <fmt/format.h>
#include <mpi.h>
#include <nlohmann/json.hpp>
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/cpu_threads.h"
#include "core/base/cuda_backend.h"
#include "core/cli/commands.h"
#include "core/cli/machine.h"
#include "core/train/environment.h"
#include "kernels/cuda_libraries.h"
#include "parallel/mpi_session.h"
#include "parallel/nccl_library.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kGib = int64_t{1} << 30;
constexpr int64_t kMib = int64_t{1} << 20;

std::string gib(int64_t bytes) { return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / kGib); }
std::string mib(int64_t bytes) { return fmt::format("{} MiB", bytes / kMib); }

// What one rank was given.
struct RankPlace {
  int rank = 0;
  std::string host;
  std::vector<int> cpus;  // its affinity mask
};

struct MpiFacts {
  std::string library;
  std::string thread_level = "unknown (start it under mpirun to see)";
};

// Gathers every rank's text at rank 0 (elsewhere the result is empty). Collective.
std::vector<std::string> gather(const std::string& mine, int num_ranks) {
  const int size = static_cast<int>(mine.size());
  std::vector<int> sizes(static_cast<size_t>(num_ranks));
  std::vector<int> offsets(static_cast<size_t>(num_ranks));
  MPI_Gather(&size, 1, MPI_INT, sizes.data(), 1, MPI_INT, 0, MPI_COMM_WORLD);
  int total = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    offsets[i] = total;
    total += sizes[i];
  }
  std::string all(static_cast<size_t>(total), ' ');
  MPI_Gatherv(mine.data(), size, MPI_CHAR, all.data(), sizes.data(), offsets.data(), MPI_CHAR, 0, MPI_COMM_WORLD);
  std::vector<std::string> texts;
  for (size_t i = 0; total > 0 && i < sizes.size(); ++i) {
    texts.push_back(all.substr(static_cast<size_t>(offsets[i]), static_cast<size_t>(sizes[i])));
  }
  return texts;
}

const char* name_of_level(int level) {
  switch (level) {
    case MPI_THREAD_MULTIPLE: return "MPI_THREAD_MULTIPLE";
    case MPI_THREAD_SERIALIZED: return "MPI_THREAD_SERIALIZED";
    case MPI_THREAD_FUNNELED: return "MPI_THREAD_FUNNELED";
    default: return "MPI_THREAD_SINGLE";
  }
}

MpiFacts mpi_facts() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string library(text, static_cast<size_t>(length));
  library.resize(std::min(library.size(), library.find(',')));  // "Open MPI v4.1.4, package: …"
  return {.library = library};
}

// Collective. Rank 0 learns every rank's place; the others get nothing.
std::vector<RankPlace> ask_ranks(const std::string& host, const MpiSession& session, MpiFacts& facts) {
  RankPlace mine{.rank = session.rank(), .host = host, .cpus = affinity_cpus()};
  if (!session.active()) return {mine};
  int provided = 0;
  MPI_Query_thread(&provided);
  facts.thread_level = name_of_level(provided);
  const Json text = {{"rank", mine.rank}, {"host", mine.host}, {"cpus", mine.cpus}};
  std::vector<RankPlace> places;
  for (const std::string& reply : gather(text.dump(), session.size())) {
    const Json place = Json::parse(reply);
    places.push_back({.rank = place["rank"], .host = place["host"], .cpus = place["cpus"]});
  }
  return places;
}

// Fills report["ranks"]: the CPUs of each rank and the threads it would compute with.
void report_ranks(const std::vector<RankPlace>& places, Json& report, std::vector<std::string>& warnings) {
  std::map<std::string, std::vector<std::vector<int>>> masks;  // by host, in local rank order
  for (const RankPlace& place : places) masks[place.host].push_back(place.cpus);
  std::map<std::string, int> next;
  report["ranks"] = Json::array();
  for (const RankPlace& place : places) {
    const CpuThreads threads = plan_cpu_threads(masks[place.host], next[place.host]++, /*forced_threads=*/0);
    report["ranks"].push_back({{"rank", place.rank},
                               {"host", place.host},
                               {"cpus_allowed", place.cpus},
                               {"threads", threads.num_threads},
                               {"thread_cpus", threads.cpus}});
    if (threads.ranks_on_mask > static_cast<int>(place.cpus.size()) && next[place.host] == 1) {
      warnings.push_back(fmt::format("{}: {} ranks share {} CPU{}: they take turns, which is slower than fewer ranks",
                                     place.host, threads.ranks_on_mask, place.cpus.size(),
                                     place.cpus.size() == 1 ? "" : "s"));
    }
  }
  // Only the own host's CPUs are known here.
  const std::string& host = places.front().host;
  const auto num_ranks = static_cast<int>(masks[host].size());
  size_t smallest = masks[host].front().size();
  for (const std::vector<int>& mask : masks[host]) smallest = std::min(smallest, mask.size());
  if (auto warning = binding_warning(host, num_ranks, static_cast<int>(smallest), MpiSession::launched())) {
    warnings.push_back(*warning);
  }
}

void report_machine(const Json& environment, Json& report, std::vector<std::string>& warnings) {
  const ContainerLimits limits = container_limits();
  Json& machine = report["machine"];
  for (const char* key : {"host", "kernel", "cpu", "instruction_sets"}) machine[key] = environment.at(key);
  machine["onednn_isa"] = environment.at("onednn_isa");
  const bool has_bf16 = environment.at("onednn_isa").get<std::string>().find("bf16") != std::string::npos ||
                        environment.at("onednn_isa").get<std::string>().find("amx") != std::string::npos;
  machine["precision_auto"] = has_bf16 ? "BF16" : "F32 (bf16 needs AVX-512 BF16 or AMX to be fast)";
  machine["cpus"] = usable_cpus();
  machine["threads_per_core"] = threads_per_core();
  machine["cpu_quota"] = limits.cpus > 0 ? Json(limits.cpus) : Json(nullptr);
  machine["memory_bytes"] = memory_total_bytes();
  machine["memory_available_bytes"] = memory_available_bytes();
  machine["memory_limit_bytes"] = limits.memory_bytes > 0 ? Json(limits.memory_bytes) : Json(nullptr);
  if (limits.cpus > 0 && limits.cpus < usable_cpus()) {
    warnings.push_back(
        fmt::format("the container may use {:.1f} CPUs' time but sees {} CPUs: start fewer ranks, or set "
                    "run.threads so that ranks times threads is at most {}",
                    limits.cpus, usable_cpus(), std::max(1, static_cast<int>(limits.cpus))));
  }
}

void report_storage(int local_ranks, Json& report, std::vector<std::string>& warnings) {
  const Space here = file_system_space(".");
  const Space shared = file_system_space("/dev/shm");
  report["storage"] = {{"free_here_bytes", here.free_bytes},
                       {"shared_memory_bytes", shared.total_bytes},
                       {"shared_memory_free_bytes", shared.free_bytes}};
  if (here.free_bytes < kGib) {
    warnings.push_back(fmt::format(
        "only {} are free in the current folder, where runs go unless run.dir says otherwise", mib(here.free_bytes)));
  }
  // Open MPI's shared-memory transport keeps a segment per rank there.
  if (shared.free_bytes < local_ranks * 16 * kMib) {
    warnings.push_back(
        fmt::format("/dev/shm has {} free: ranks talk through it and want 16 MiB each; in a container raise "
                    "it with --shm-size=1g",
                    mib(shared.free_bytes)));
  }
}

void report_gpu(Json& report, std::vector<std::string>& warnings) {
  const NvidiaReport nvidia = find_nvidia();
  report["gpu"] = {{"nvidia_driver", nvidia.driver},
                   {"gpus", nvidia.gpus},
                   {"nvidia_smi", nvidia.has_smi},
                   {"cuda_in_this_build", cuda_is_built()},
                   {"cuda_devices", Json::array()}};
  if (cuda_is_built()) {
    report["gpu"]["ops_call"] = describe_cuda_libraries();
    const std::string why_not = why_no_nccl();
    report["gpu"]["nccl"] = why_not.empty() ? nccl_version(nccl_library()) : why_not;
  }
  for (int index = 0; index < cuda_device_count(); ++index) {
    const CudaDevice device = describe_cuda_device(index);
    report["gpu"]["cuda_devices"].push_back({{"name", device.name},
                                             {"compute_capability", fmt::format("{}.{}", device.major, device.minor)},
                                             {"memory_bytes", device.memory_bytes}});
  }
  if (!nvidia.gpus.empty() && !cuda_is_built()) {
    warnings.push_back(
        "CUDA support is not in this build: training runs on the CPU and leaves the GPU idle; scripts/build.sh --cuda "
        "builds it");
  }
}

void report_libraries(const Json& environment, Json& report) {
  Json& libraries = report["libraries"];
  libraries = environment.at("libraries");
  libraries["sentencepiece"] = SHOAL_SENTENCEPIECE_VERSION;
  libraries["eigen"] = SHOAL_EIGEN_VERSION;
  libraries["cli11"] = SHOAL_CLI11_VERSION;
  libraries["zstd"] = ZSTD_versionString();
  const unsigned xxhash = XXH_versionNumber();
  libraries["xxhash"] = fmt::format("{}.{}.{}", xxhash / 10000, xxhash / 100 % 100, xxhash % 100);
}

// ------------------------------------------------------------------------------------------------------------ text

void print_line(std::string_view key, const std::string& value) { fmt::print("  {:<18}{}\n", key, value); }

void print_machine(const Json& machine) {
  fmt::print("Machine\n");
  print_line("host", fmt::format("{}, {}", machine["host"].get<std::string>(), machine["kernel"].get<std::string>()));
  print_line("CPU", machine["cpu"]);
  std::string limit;
  if (!machine["cpu_quota"].is_null())
    limit = fmt::format(", limited to {:.1f} CPUs' time", machine["cpu_quota"].get<double>());
  print_line("CPUs", fmt::format("{} usable, {} per core{}", machine["cpus"].get<int>(),
                                 machine["threads_per_core"].get<int>(), limit));
  print_line("instructions", fmt::format("{}; oneDNN takes {}",
                                         fmt::join(machine["instruction_sets"].get<std::vector<std::string>>(), " "),
                                         machine["onednn_isa"].get<std::string>()));
  print_line("compute AUTO is", machine["precision_auto"]);
  limit.clear();
  if (!machine["memory_limit_bytes"].is_null()) limit = ", limited to " + gib(machine["memory_limit_bytes"]);
  print_line("memory", fmt::format("{}, {} available{}", gib(machine["memory_bytes"]),
                                   gib(machine["memory_available_bytes"]), limit));
}

void print_rest(const Json& report) {
  const Json& storage = report["storage"];
  print_line("disk here", gib(storage["free_here_bytes"]) + " free");
  print_line("/dev/shm",
             fmt::format("{}, {} free", gib(storage["shared_memory_bytes"]), gib(storage["shared_memory_free_bytes"])));

  fmt::print("\nRanks and threads\n");
  for (const Json& rank : report["ranks"]) {
    print_line(fmt::format("rank {}", rank["rank"].get<int>()),
               fmt::format("on {}: may use CPUs {}; computes with {} thread{}", rank["host"].get<std::string>(),
                           fmt::join(rank["cpus_allowed"].get<std::vector<int>>(), ","), rank["threads"].get<int>(),
                           rank["threads"] == 1 ? "" : "s"));
  }

  fmt::print("\nMPI\n");
  print_line("library", report["mpi"]["library"]);
  print_line("thread level", report["mpi"]["thread_level"]);

  fmt::print("\nGPU\n");
  const Json& gpu = report["gpu"];
  for (const Json& model : gpu["gpus"]) print_line("NVIDIA", model);
  print_line("CUDA", !gpu["cuda_in_this_build"].get<bool>() ? "CUDA support is not in this build"
                     : gpu["cuda_devices"].empty()          ? "in this build; no device to use"
                                                            : "in this build");
  for (const Json& device : gpu["cuda_devices"]) {
    print_line("CUDA device",
               fmt::format("{}, compute capability {}, {}", device["name"].get<std::string>(),
                           device["compute_capability"].get<std::string>(), gib(device["memory_bytes"])));
  }
  if (gpu.contains("ops_call")) print_line("ops call", gpu["ops_call"]);
  if (gpu.contains("nccl")) print_line("NCCL", gpu["nccl"]);
  if (gpu["gpus"].empty())
    print_line("NVIDIA", gpu["nvidia_smi"] ? "nvidia-smi is here, but no driver is loaded" : "none found");

  fmt::print("\nLibraries\n");
  for (const auto& [name, version] : report["libraries"].items()) print_line(name, version);

  fmt::print("\n");
  for (const Json& warning : report["warnings"]) fmt::print("warning: {}\n", warning.get<std::string>());
  if (report["warnings"].empty()) fmt::print("No complaints.\n");
}

void run_doctor(bool as_json, const MpiSession& session) {
  const Json environment = Json::parse(environment_json(RunFacts{}));
  MpiFacts mpi = mpi_facts();
  const std::vector<RankPlace> places = ask_ranks(environment["host"], session, mpi);
  if (session.rank() != 0) return;

  Json report;
  std::vector<std::string> warnings;
  report["version"] = SHOAL_VERSION;
  report_machine(environment, report, warnings);
  const auto is_local = [&](const RankPlace& place) { return place.host == places.front().host; };
  report_storage(static_cast<int>(std::count_if(places.begin(), places.end(), is_local)), report, warnings);
  report_ranks(places, report, warnings);
  report["mpi"] = {{"library", mpi.library}, {"thread_level", mpi.thread_level}};
  report_gpu(report, warnings);
  report_libraries(environment, report);
  report["warnings"] = warnings;
  if (as_json) {
    fmt::print("{}\n", report.dump(2));
    return;
  }
  print_machine(report["machine"]);
  print_rest(report);
}

constexpr const char* kFooter = R"(
Alone it describes the machine; under mpirun it also shows which CPUs every rank was given and how many threads each
would compute with, and names the mpirun flag to add where a rank got fewer than its share.

  shoal doctor
  mpirun -np 2 --bind-to none shoal doctor)";

}  // namespace

void add_doctor_command(Command shoal, MpiSession& session) {
  Command command =
      shoal.subcommand("doctor", "Tells whether this machine, and how mpirun uses it, suit training", kFooter);
  auto as_json = std::make_shared<bool>(false);
  command.flag("--json", *as_json, "Print one JSON object");
  command.action([as_json, &session] { run_doctor(*as_json, session); });
}

}  // namespace shoal
