// core/train/environment.cpp: asks the machine, the compiler and the libraries.
#include "core/train/environment.h"

#include <dnnl.hpp>
#include <fmt/core.h>
#include <google/protobuf/stubs/common.h>
#include <mpi.h>
#include <nlohmann/json.hpp>
#include <spdlog/version.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>

#include "core/base/cpu_threads.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::optional<std::string> first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

// The value of the first "key : value" line in a /proc file.
std::string proc_value(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    const size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "unknown";
}

Json instruction_sets() {
  Json sets = Json::array();
#if defined(__x86_64__)
#define SHOAL_ADD_ISA(name) \
  if (__builtin_cpu_supports(name)) sets.push_back(name)
  SHOAL_ADD_ISA("sse4.2");
  SHOAL_ADD_ISA("avx2");
  SHOAL_ADD_ISA("fma");
  SHOAL_ADD_ISA("avx512f");
  SHOAL_ADD_ISA("avx512bw");
  SHOAL_ADD_ISA("avx512vnni");
  SHOAL_ADD_ISA("avx512bf16");
#undef SHOAL_ADD_ISA
#endif
  return sets;
}

std::string onednn_isa() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41: return "sse41";
    case dnnl::cpu_isa::avx: return "avx";
    case dnnl::cpu_isa::avx2: return "avx2";
    case dnnl::cpu_isa::avx512_core: return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni: return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16: return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx: return "avx512_core_amx";
    default: return fmt::format("{}", static_cast<int>(dnnl::get_effective_cpu_isa()));
  }
}

// The commit that HEAD of the repository at `git` points to, from its files: no program is started under MPI.
std::optional<std::string> head_commit(const fs::path& git) {
  const auto head = first_line(git / "HEAD");
  if (!head) return std::nullopt;
  constexpr std::string_view kRef = "ref: ";
  if (!head->starts_with(kRef)) return head;
  const std::string ref = head->substr(kRef.size());
  if (const auto loose = first_line(git / ref)) return loose;
  std::ifstream packed(git / "packed-refs");
  for (std::string line; std::getline(packed, line);) {
    if (line.ends_with(" " + ref)) return line.substr(0, line.find(' '));
  }
  return std::nullopt;
}

Json libraries() {
  const dnnl_version_t* dnnl_found = dnnl::version();
  return Json{
      {"open_mpi", fmt::format("{}.{}.{}", OMPI_MAJOR_VERSION, OMPI_MINOR_VERSION, OMPI_RELEASE_VERSION)},
      {"onednn", fmt::format("{}.{}.{}", dnnl_found->major, dnnl_found->minor, dnnl_found->patch)},
      {"protobuf", google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION)},
      {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
      {"spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
      {"nlohmann_json",
       fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
  };
}

}  // namespace

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

std::string source_commit() {
  std::error_code error;
  fs::path at = fs::read_symlink("/proc/self/exe", error);
  while (!error && at.has_relative_path()) {
    at = at.parent_path();
    std::error_code ignored;
    if (!fs::is_directory(at / ".git", ignored)) continue;
    return head_commit(at / ".git").value_or("");
  }
  return "";
}

std::string environment_json(const RunFacts& facts) {
  utsname system{};
  ::uname(&system);
  Json json;
  json["date"] = utc_now();
  json["host"] = system.nodename;
  json["kernel"] = fmt::format("{} {}", system.sysname, system.release);
  json["cpu"] = proc_value("/proc/cpuinfo", "model name");
  json["cpus_online"] = ::sysconf(_SC_NPROCESSORS_ONLN);
  json["cpus_of_rank_0"] = facts.cpus_of_rank;
  json["memory"] = proc_value("/proc/meminfo", "MemTotal");
  json["instruction_sets"] = instruction_sets();
  json["onednn_isa"] = onednn_isa();
  json["compiler"] = fmt::format("gcc {}", __VERSION__);
  json["libraries"] = libraries();
  const std::string commit = source_commit();
  json["git_commit"] = commit.empty() ? Json() : Json(commit);
  json["command_line"] = facts.command_line;
  json["mpi_ranks"] = facts.num_ranks;
  json["threads_per_rank"] = facts.threads_per_rank;
  json["compute"] = facts.compute;
  // Command lines may hold bytes that are not UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace shoal
