// kernels/host_table_cuda.cu: a table in pieces, each a parameter of a kernel of one block.
#include <cstring>

#include "kernels/cuda_launch.h"
#include "kernels/host_table_cuda.h"

namespace shoal {

namespace {

// Below the 4096 bytes of parameters that every driver takes.
constexpr int kPieceWords = 960;
struct Piece {
  uint32_t words[kPieceWords];
};

__global__ void write_piece(uint32_t* to, const Piece piece, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) to[i] = piece.words[i];
}

}  // namespace

void write_host_table_cuda(const char* op, void* to, const void* from, int64_t bytes, CudaQueue queue) {
  const int64_t num_words = bytes / static_cast<int64_t>(sizeof(uint32_t));
  for (int64_t first = 0; first < num_words; first += kPieceWords) {
    const int64_t count = num_words - first < kPieceWords ? num_words - first : kPieceWords;
    Piece piece = {};
    std::memcpy(piece.words, static_cast<const uint32_t*>(from) + first, static_cast<size_t>(count) * sizeof(uint32_t));
    launch_kernel(op, write_piece, {dim3(1), dim3(256)}, queue, static_cast<uint32_t*>(to) + first, piece,
                  static_cast<int>(count));
  }
}

}  // namespace shoal
