// kernels/grouped_tensor_maps.h: tensor maps of each problem, written before CUTLASS's grouped kernels; for .cu files.
//
// By themselves those keep a set of maps for each multiprocessor, and rewrite it whenever the next tile is another
// problem's: between tiles they wait until all that was stored through it has arrived, write, and wait until that is
// seen. An expert has fewer tiles than there are multiprocessors, so that would be at almost every tile. Here each
// problem's maps are there before, and a tile picks its own.
#pragma once

#include <cutlass/epilogue/dispatch_policy.hpp>
#include <cutlass/gemm/dispatch_policy.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace shoal {

// A main loop's: a's and b's of problem 0, of problem 1, ... What each begins as is the same at every call, and encoded
// at the first only, which takes the driver microseconds.
template <class Collective>
struct MapsOfInputs : Collective {
  using Map = cute::TmaDescriptor;
  using Maps = cute::tuple<Map*, Map*>;
  using Params = typename Collective::Params;
  using MapStorage = typename Collective::TensorMapStorage;
  static constexpr bool kHasMapsOfProblems = true;

  template <class Shape>
  static size_t get_workspace_size(const Shape& problems, const typename Collective::Arguments&, int /*processors*/) {
    return 2 * sizeof(Map) * static_cast<size_t>(problems.groups());
  }
  template <class Shape>
  static Params to_underlying_arguments(const Shape& problems, const typename Collective::Arguments& arguments,
                                        void* workspace) {
    static const Params first = Collective::to_underlying_arguments(problems, arguments, workspace);
    Params params = first;
    params.tensormaps = workspace;
    const auto set = [](auto& to, auto from) { to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(from); };
    set(params.ptr_A, arguments.ptr_A), set(params.ptr_B, arguments.ptr_B);
    set(params.dA, arguments.dA), set(params.dB, arguments.dB);
    if constexpr (requires { params.ptr_SFA; }) {
      set(params.ptr_SFA, arguments.ptr_SFA), set(params.ptr_SFB, arguments.ptr_SFB);
      set(params.layout_SFA, arguments.layout_SFA), set(params.layout_SFB, arguments.layout_SFB);
    }
    return params;
  }
  CUTLASS_DEVICE static Maps of_problem(const Params& params, int32_t problem) {
    Map* const a = static_cast<Map*>(static_cast<void*>(params.tensormaps)) + 2 * problem;
    return Maps(a, a + 1);
  }
  template <class Shape>
  CUTLASS_DEVICE void write(MapStorage& shared, const Params& params, const Shape& mnkl, int32_t problem) {
    const auto maps = Collective::tensormaps_init(params, shared, 1, 2 * problem);
    Collective::tensormaps_perform_update(shared, params, maps, mnkl, problem);
    __syncwarp();
    Collective::tensormaps_cp_fence_release(shared, maps);
  }

  // What the kernels call.
  CUTLASS_DEVICE Maps tensormaps_init(const Params& params, MapStorage&, int32_t, int32_t) {
    return of_problem(params, 0);
  }
  template <class Shape>
  CUTLASS_DEVICE void tensormaps_perform_update(MapStorage&, const Params& params, Maps& maps, const Shape&,
                                                int32_t problem) {
    maps = of_problem(params, problem);
  }
  CUTLASS_DEVICE void tensormaps_cp_fence_release(MapStorage&, const Maps&) {}
};

// An epilogue's: of problem 0 the one that stores c, an unused one, and the one that reads c where it is read; of
// problem 1, ...
template <class Collective>
struct MapsOfOutputs : Collective {
  using Map = cute::TmaDescriptor;
  using Params = typename Collective::Params;
  using MapStorage = typename Collective::TensorMapStorage;
  static constexpr bool kReads = !cute::is_void_v<typename Collective::ElementC>;
  static constexpr int kMaps = Collective::NumEpilogueWarpGroups + (kReads ? 1 : 0);

  using Collective::Collective;

  template <class Shape>
  static size_t get_workspace_size(const Shape& problems, const typename Collective::Arguments& arguments,
                                   int /*processors*/) {
    return Collective::get_workspace_size(problems, arguments, problems.groups());
  }
  template <class Shape>
  static Params to_underlying_arguments(const Shape& problems, const typename Collective::Arguments& arguments,
                                        void* workspace) {
    static const Params first = Collective::to_underlying_arguments(problems, arguments, workspace);
    Params params = first;
    params.thread = Collective::FusionCallbacks::to_underlying_arguments(problems, arguments.thread, workspace);
    // After what the arithmetic on c wants.
    const size_t before = Collective::get_workspace_size(problems, arguments, 0);
    params.tensormaps = reinterpret_cast<Map*>(static_cast<std::byte*>(workspace) + before);
    params.ptr_C = arguments.ptr_C, params.dC = arguments.dC;
    params.ptr_D = arguments.ptr_D, params.dD = arguments.dD;
    return params;
  }
  template <bool kIsRead>
  CUTLASS_DEVICE static Map* of_problem(const Params& params, int32_t problem) {
    return params.tensormaps + kMaps * problem + (kIsRead && kReads ? Collective::NumEpilogueWarpGroups : 0);
  }
  template <bool kIsRead, class Shape>
  CUTLASS_DEVICE void write(MapStorage& shared, const Params& params, const Shape& mnkl, int32_t problem) {
    Map* const map = cute::get<0>(Collective::template tensormaps_init<kIsRead>(params, shared, 1, kMaps * problem, 0));
    Collective::template tensormaps_perform_update<kIsRead>(shared, params, map, mnkl, problem, 0);
    __syncwarp();
    Collective::template tensormaps_cp_fence_release<kIsRead>(shared, map, 0);
  }

  // What the kernels call.
  CUTLASS_DEVICE auto load_init(const Params& params, MapStorage&, int32_t, int32_t) {
    return cute::make_tuple(of_problem<true>(params, 0));
  }
  CUTLASS_DEVICE auto store_init(const Params& params, MapStorage&, int32_t, int32_t, int32_t) {
    return cute::make_tuple(of_problem<false>(params, 0));
  }
  template <bool kIsRead, class Shape>
  CUTLASS_DEVICE void tensormaps_perform_update(MapStorage&, const Params& params, Map*& map, const Shape&,
                                                int32_t problem, int32_t) {
    map = of_problem<kIsRead>(params, problem);
  }
  template <bool kIsRead>
  CUTLASS_DEVICE void tensormaps_cp_fence_release(MapStorage&, const Map*, int32_t = 0) {}
};

template <class Mainloop>
concept HasMapsOfProblems = requires {
  Mainloop::kHasMapsOfProblems;
};

// All maps of a problem, by a block of one warp.
template <class Kernel>
__device__ void write_tensor_maps(const typename Kernel::Params& params, int32_t problem) {
  using Mainloop = typename Kernel::CollectiveMainloop;
  using Epilogue = typename Kernel::CollectiveEpilogue;
  __shared__ alignas(128) std::byte inputs[sizeof(typename Mainloop::TensorMapStorage)];
  __shared__ alignas(128) std::byte outputs[sizeof(typename Epilogue::TensorMapStorage)];
  const auto mnkl = cute::append<4>(params.problem_shape.get_problem_shape(problem), 1);
  Mainloop mainloop;
  mainloop.write(*reinterpret_cast<typename Mainloop::TensorMapStorage*>(inputs), params.mainloop, mnkl, problem);
  // It keeps the address of the memory of its tiles and uses none of it here.
  Epilogue epilogue(params.epilogue, *reinterpret_cast<typename Epilogue::TensorStorage*>(outputs));
  auto& shared = *reinterpret_cast<typename Epilogue::TensorMapStorage*>(outputs);
  epilogue.template write<false>(shared, params.epilogue, mnkl, problem);
  if constexpr (Epilogue::kReads) epilogue.template write<true>(shared, params.epilogue, mnkl, problem);
}

}  // namespace shoal
