// core/plan/cluster_speeds.cpp: efficiencies looked up, rooflines, measured ops.
#include "core/plan/cluster_speeds.h"

#include <algorithm>
#include <string_view>

namespace shoal {

namespace {

constexpr double kGiga = 1e9, kMega = 1e6, kTera = 1e12, kMicro = 1e-6;

bool multiplies(OpEfficiency::Kind kind) {
  return kind == OpEfficiency::GEMM || kind == OpEfficiency::GROUPED_GEMM || kind == OpEfficiency::ATTENTION;
}

}  // namespace

OpEfficiency::Kind efficiency_kind(const Work& work) {
  switch (work.kind) {
    case WorkKind::kGemm:
      return std::string_view(work.op).starts_with("grouped_") ? OpEfficiency::GROUPED_GEMM : OpEfficiency::GEMM;
    case WorkKind::kAttention: return OpEfficiency::ATTENTION;
    case WorkKind::kOptimizer: return OpEfficiency::OPTIMIZER;
    case WorkKind::kElementwise:
    case WorkKind::kMove: break;
  }
  return OpEfficiency::MEMORY;
}

OpEfficiency::Precision efficiency_precision(DType dtype) {
  switch (dtype) {
    case DType::kBF16: return OpEfficiency::BF16;
    case DType::kE4M3: return OpEfficiency::FP8;
    case DType::kF32:
    case DType::kF64: return OpEfficiency::F32;
    default: fail("no products of {} are planned", name_of(dtype));
  }
}

ClusterSpeeds::ClusterSpeeds(const ClusterConfig& cluster) : cluster_(cluster) {
  for (const OpEfficiency& row : cluster.efficiency()) {
    rows_[static_cast<size_t>(row.kind())][static_cast<size_t>(row.precision())] = &row;
  }
  if (!cluster.has_measured()) return;
  measured_ = op_speeds(cluster);
  times_.emplace(*measured_);
}

// The row of the precision, else that of ANY; experts like other products, AdamW like other traffic.
const OpEfficiency& ClusterSpeeds::efficiency(OpEfficiency::Kind kind, const Work& work) const {
  const auto& rows = rows_[static_cast<size_t>(kind)];
  const auto precision = multiplies(kind) ? efficiency_precision(work.precision) : OpEfficiency::ANY;
  if (const OpEfficiency* row = rows[static_cast<size_t>(precision)]) return *row;
  if (const OpEfficiency* row = rows[static_cast<size_t>(OpEfficiency::ANY)]) return *row;
  if (kind == OpEfficiency::GROUPED_GEMM) return efficiency(OpEfficiency::GEMM, work);
  if (kind == OpEfficiency::OPTIMIZER) return efficiency(OpEfficiency::MEMORY, work);
  fail("cluster '{}' has no efficiency of {} in {}, which {} needs; add a row with this precision, or with ANY",
       cluster_.name(), OpEfficiency::Kind_Name(kind), OpEfficiency::Precision_Name(precision), work.op);
}

double ClusterSpeeds::peak_flops_per_s(const Work& work) const {
  const GpuConfig& gpu = cluster_.gpu();
  switch (efficiency_precision(work.precision)) {
    case OpEfficiency::BF16: return gpu.bf16_tflops() * kTera;
    case OpEfficiency::F32: return gpu.f32_tflops() * kTera;
    default: break;
  }
  if (gpu.fp8_tflops() <= 0) {
    fail(
        "{} is computed in FP8, but GPU '{}' of cluster '{}' has none; set precision.linear to BF16, or give "
        "gpu.fp8_tflops",
        work.op, gpu.name(), cluster_.name());
  }
  return gpu.fp8_tflops() * kTera;
}

double ClusterSpeeds::described_seconds(const Work& work) const {
  const OpEfficiency::Kind kind = efficiency_kind(work);
  const double peak = multiplies(kind) ? peak_flops_per_s(work) : 0;
  const double bytes_per_s = cluster_.gpu().memory_tbyte_per_s() * kTera;
  const OpEfficiency& row = efficiency(kind, work);
  if (!multiplies(kind)) {
    if (work.bytes <= 0) return 0;
    return (work.bytes + row.half_size() * kMega) / (bytes_per_s * row.of_peak()) + row.per_call_us() * kMicro;
  }
  const OpEfficiency& memory = efficiency(OpEfficiency::MEMORY, work);
  const double products = kind == OpEfficiency::GROUPED_GEMM ? static_cast<double>(local_experts_) : 1;
  const double multiplying_s = (work.executed_flops + products * row.half_size() * kGiga) / (peak * row.of_peak());
  return std::max(multiplying_s, work.bytes / (bytes_per_s * memory.of_peak())) + row.per_call_us() * kMicro;
}

double ClusterSpeeds::seconds(const Work& work) {
  if (cluster_.load_imbalance() == 1 || efficiency_kind(work) != OpEfficiency::GROUPED_GEMM) {
    return times_ ? times_->seconds(work) : described_seconds(work);
  }
  Work of_fullest = work;
  for (double Work::*amount : {&Work::model_flops, &Work::executed_flops, &Work::bytes}) {
    of_fullest.*amount *= cluster_.load_imbalance();
  }
  return times_ ? times_->seconds(of_fullest) : described_seconds(of_fullest);
}

DeviceTimes ClusterSpeeds::device() {
  return {.op_seconds = [this](const Work& work) { return seconds(work); },
          .between_ops_s = cluster_.between_ops_us() * kMicro,
          .begin_told_step =
              [this] {
                if (times_) times_->reset_guesses();
              }};
}

DeviceKind ClusterSpeeds::imitated() const {
  return measured_ && measured_->device != name_of(DeviceKind::kCuda) ? DeviceKind::kCpu : DeviceKind::kCuda;
}

const std::map<std::string, double>& ClusterSpeeds::guessed_s() const {
  return times_ ? times_->guessed_s() : none_guessed_;
}

LinkModel cluster_links(const ClusterConfig& cluster) {
  const auto speed = [](const ClusterLink& link, int sharers) {
    return LinkSpeed{.bytes_per_s = link.gbyte_per_s() * kGiga * sharers, .latency_s = link.latency_us() * kMicro};
  };
  return {.intra_node = speed(cluster.in_node(), 1), .inter_node = speed(cluster.network(), cluster.gpus_per_node())};
}

MeasuredOps measured_ops(const OpSpeeds& speeds) {
  MeasuredOps measured;
  measured.set_model(speeds.model);
  measured.set_compute(speeds.compute);
  measured.set_device(speeds.device);
  measured.set_num_ranks(speeds.num_ranks);
  measured.set_threads_per_rank(speeds.threads_per_rank);
  for (const OpSpeed& speed : speeds.ops) {
    MeasuredOp& op = *measured.add_op();
    op.set_name(speed.op);
    op.set_kind(std::string(name_of(speed.kind)));
    op.set_precision(std::string(name_of(speed.precision)));
    op.set_s_per_call(speed.s_per_call);
    op.set_s_per_flop(speed.s_per_flop);
    op.set_s_per_byte(speed.s_per_byte);
    op.set_flops(speed.flops);
    op.set_bytes(speed.bytes);
    op.set_seconds(speed.seconds);
    op.set_calls(speed.calls);
  }
  return measured;
}

OpSpeeds op_speeds(const ClusterConfig& cluster) {
  const MeasuredOps& measured = cluster.measured();
  OpSpeeds speeds;
  speeds.model = measured.model();
  speeds.compute = measured.compute();
  speeds.device = measured.device();
  speeds.num_ranks = measured.num_ranks();
  speeds.threads_per_rank = measured.threads_per_rank();
  speeds.between_ops_s = cluster.between_ops_us() * kMicro;
  for (const MeasuredOp& op : measured.op()) {
    speeds.ops.push_back({.op = op.name(),
                          .kind = work_kind_named(op.kind()),
                          .precision = dtype_named(op.precision()),
                          .s_per_call = op.s_per_call(),
                          .s_per_flop = op.s_per_flop(),
                          .s_per_byte = op.s_per_byte(),
                          .calls = op.calls(),
                          .flops = op.flops(),
                          .bytes = op.bytes(),
                          .seconds = op.seconds()});
  }
  return speeds;
}

}  // namespace shoal
