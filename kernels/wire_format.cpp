// kernels/wire_format.cpp: the wire formats' public door: sizes, checks, work, dispatch.
#include "kernels/wire_format.h"

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/wire_format_cpu.h"
#include "kernels/wire_format_cuda.h"

namespace shoal {

namespace {

// Per value: LogFMT's logarithm or exponential counts about 20.
double flops(WireFormat format) { return format == WireFormat::kLogFmt8 || format == WireFormat::kLogFmt10 ? 24 : 4; }

void check_rows(const Tensor& x, const Tensor& encoded, WireFormat format) {
  SHOAL_CHECK(x.dims() == 2, "rows are {}, expected [rows, width]", x.shape());
  SHOAL_CHECK(x.dtype() == DType::kF32 || x.dtype() == DType::kBF16, "rows on the wire are {}, expected f32 or bf16",
              name_of(x.dtype()));
  SHOAL_CHECK_EQ(encoded.shape(), (Shape{x.size(0), encoded_row_bytes(format, x.size(1))}));
  check_dtype(encoded, DType::kU8);
  check_dense(x, encoded);
}

Work work_of(const char* op, const Tensor& x, const Tensor& encoded, WireFormat format) {
  return {.op = op,
          .kind = WorkKind::kMove,
          .executed_flops = flops(format) * static_cast<double>(x.numel()),
          .bytes = operand_bytes(x, encoded),
          .precision = x.dtype()};
}

}  // namespace

std::string_view name_of(WireFormat format) {
  switch (format) {
    case WireFormat::kPlain: return "plain";
    case WireFormat::kE4M3: return "E4M3";
    case WireFormat::kE5M6: return "E5M6";
    case WireFormat::kLogFmt8: return "LogFMT-8";
    case WireFormat::kLogFmt10: return "LogFMT-10";
  }
  return "?";
}

int64_t encoded_row_bytes(WireFormat format, int64_t width) {
  SHOAL_CHECK(width >= 0, "rows of {} values", width);
  const WireLayout layout = layout_of(format);
  return packed_bytes(layout.bits, width) + num_tiles(width) * layout.header_bytes;
}

void encode_rows(Tensor encoded, const Tensor& x, WireFormat format, Stream& stream) {
  check_on(stream, encoded, x);
  check_rows(x, encoded, format);
  launch(
      stream, work_of("wire_format.encode", x, encoded, format), [&] { encode_rows_cpu(encoded, x, format); },
      [&](CudaQueue queue) { encode_rows_cuda(encoded.view(), x.view(), format, queue); });
}

void decode_rows(Tensor x, const Tensor& encoded, WireFormat format, Stream& stream) {
  check_on(stream, x, encoded);
  check_rows(x, encoded, format);
  launch(
      stream, work_of("wire_format.decode", x, encoded, format), [&] { decode_rows_cpu(x, encoded, format); },
      [&](CudaQueue queue) { decode_rows_cuda(x.view(), encoded.view(), format, queue); });
}

}  // namespace shoal
