// core/model/kept_rows.h: an activation between forward and backward, in its own type or in fewer bits.
#pragma once

#include "kernels/wire_format.h"

namespace shoal {

class KeptRows {
 public:
  // x [rows, width]; kPlain keeps it as it is.
  void keep(Tensor x, WireFormat format, Stream& stream) {
    width_ = x.size(1);
    dtype_ = x.dtype();
    format_ = format;
    kept_ = std::move(x);
    if (format == WireFormat::kPlain) return;
    const Tensor encoded = stream.activation({kept_.size(0), encoded_row_bytes(format, width_)}, DType::kU8);
    encode_rows(encoded, kept_, format, stream);
    kept_ = encoded;
  }

  // Frees what is kept.
  Tensor take(Stream& stream) {
    const Tensor kept = std::exchange(kept_, {});
    if (format_ == WireFormat::kPlain) return kept;
    Tensor x = stream.activation({kept.size(0), width_}, dtype_);
    decode_rows(x, kept, format_, stream);
    return x;
  }

 private:
  Tensor kept_;
  WireFormat format_ = WireFormat::kPlain;
  DType dtype_ = DType::kF32;
  int64_t width_ = 0;
};

}  // namespace shoal
