// core/train/bench_quantize_cases.cpp: quantisation and the codes of the wire.
#include "core/train/bench_kernel_cases.h"
#include "kernels/gradient_wire.h"
#include "kernels/pack_quantized.h"
#include "kernels/quantize.h"
#include "kernels/wire_format.h"

namespace shoal {

namespace {

constexpr DType kBF16 = DType::kBF16;
// What travels has scales of a byte.
const QuantizeOptions kPowers{.scale = TileScale::kPowerOfTwo};

struct WireCase {
  WireFormat format;
  const char *encode, *decode;
};
constexpr WireCase kWires[] = {{WireFormat::kE4M3, "wire.encode_e4m3", "wire.decode_e4m3"},
                               {WireFormat::kE5M6, "wire.encode_e5m6", "wire.decode_e5m6"},
                               {WireFormat::kLogFmt8, "wire.encode_logfmt8", "wire.decode_logfmt8"},
                               {WireFormat::kLogFmt10, "wire.encode_logfmt10", "wire.decode_logfmt10"}};

class Quantising {
 public:
  Quantising(KernelCases& cases, int64_t rows, int64_t width)
      : cases_(cases), rows_(rows), width_(width), text_(fmt::format("{} x {}", rows, width)) {}

  void add_activations() {
    add("quantize.rows", kBF16, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const Tensor x = in.normals({rows, width}, kBF16);
      const QuantizedRows out = empty_quantized_rows(rows, width, in.stream());
      return [=, &stream = in.stream()] { quantize_rows(out, x, {}, stream); };
    });
    add("quantize.columns", kBF16, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const Tensor x = in.normals({rows, width}, kBF16);
      const QuantizedColumns out = empty_quantized_columns({0, rows}, width, in.stream());
      return [=, &stream = in.stream()] { quantize_columns(out, x, {}, stream); };
    });
    add("quantize.rows_and_columns", kBF16, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const Tensor x = in.normals({rows, width}, kBF16);
      const QuantizedRows out = empty_quantized_rows(rows, width, in.stream());
      const QuantizedColumns columns = empty_quantized_columns({0, rows}, width, in.stream());
      return [=, &stream = in.stream()] { quantize_rows_and_columns(out, columns, x, {}, stream); };
    });
    add("quantize.blocks", kBF16, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const Tensor x = in.normals({rows, width}, kBF16);
      const QuantizedBlocks out = empty_quantized_blocks(rows, width, in.stream());
      return [=, &stream = in.stream()] { quantize_blocks(out, x, stream); };
    });
    add("quantize.swiglu_rows", kBF16, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const Tensor gate_up = in.normals({rows, width}, kBF16);
      const QuantizedRows out = empty_quantized_rows(rows, width / 2, in.stream());
      return [=, &stream = in.stream()] { swiglu_quantize_rows(out, gate_up, {}, {}, stream); };
    });
    add("quantize.swiglu_columns", kBF16, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const Tensor gate_up = in.normals({rows, width}, kBF16);
      const QuantizedColumns out = empty_quantized_columns({0, rows}, width / 2, in.stream());
      return [=, &stream = in.stream()] { swiglu_quantize_columns(out, gate_up, {}, {}, stream); };
    });
  }

  void add_codes() {
    add("quantize.requantize_columns", DType::kE4M3, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const QuantizedRows x = quantized(in, rows, width);
      const QuantizedColumns out = empty_quantized_columns({0, rows}, width, in.stream());
      return [=, &stream = in.stream()] { requantize_columns(out, x, kPowers, stream); };
    });
    add("quantize.dequantize_rows", DType::kE4M3, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const QuantizedRows x = quantized(in, rows, width);
      const Tensor out = in.empty({rows, width}, kBF16);
      return [=, &stream = in.stream()] { dequantize_rows(out, x, stream); };
    });
    add("quantize.gather_rows", DType::kE4M3, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const QuantizedRows x = quantized(in, rows, width), out = empty_quantized_rows(rows, width, in.stream());
      const Tensor index = in.indices(rows, rows);
      return [=, &stream = in.stream()] { gather_quantized_rows(out, x, index, stream); };
    });
    add("quantize.pack", DType::kE4M3, [rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
      const QuantizedRows x = quantized(in, rows, width);
      const Tensor packed = in.empty({rows, packed_row_bytes(width)}, DType::kU8);
      return [=, &stream = in.stream()] { pack_quantized_rows(packed, x, stream); };
    });
  }

  void add_wires() {
    for (const auto& [format, encode, decode] : kWires) {
      add(encode, kBF16, [format, rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
        const Tensor x = in.normals({rows, width}, kBF16);
        const Tensor encoded = in.empty({rows, encoded_row_bytes(format, width)}, DType::kU8);
        return [=, &stream = in.stream()] { encode_rows(encoded, x, format, stream); };
      });
      add(decode, kBF16, [format, rows = rows_, width = width_](BenchInputs& in) -> KernelRun {
        const Tensor x = in.normals({rows, width}, kBF16);
        const Tensor encoded = in.empty({rows, encoded_row_bytes(format, width)}, DType::kU8);
        encode_rows(encoded, x, format, in.stream());
        return [=, &stream = in.stream()] { decode_rows(x, encoded, format, stream); };
      });
    }
    add("gradient_wire.encode", DType::kF32, [numel = rows_ * width_](BenchInputs& in) -> KernelRun {
      const Tensor x = in.normals({numel}, DType::kF32), residual = in.zeros({numel}, kBF16);
      const Tensor encoded = empty_encoded_gradients(GradientCode::kInt8, numel, in.stream());
      return [=, &stream = in.stream()] { encode_gradients(encoded, x, residual, GradientCode::kInt8, stream); };
    });
  }

 private:
  void add(const char* op, DType of, std::function<KernelRun(BenchInputs&)> prepare) {
    cases_.push_back({"memory", op, of, text_, std::move(prepare)});
  }
  // With the scales that travel.
  static QuantizedRows quantized(BenchInputs& in, int64_t rows, int64_t width) {
    const QuantizedRows out = empty_quantized_rows(rows, width, in.stream());
    quantize_rows(out, in.normals({rows, width}, kBF16), kPowers, in.stream());
    return out;
  }

  KernelCases& cases_;
  int64_t rows_, width_;
  std::string text_;
};

}  // namespace

void add_quantize_cases(KernelCases& cases, const BenchSizes& sizes) {
  Quantising quantising(cases, sizes.rows, sizes.width);
  quantising.add_activations();
  quantising.add_codes();
  quantising.add_wires();
}

}  // namespace shoal
